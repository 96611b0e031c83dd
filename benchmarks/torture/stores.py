"""The tracking store is locked, away, or wanted by many at once, while runs go on."""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.torture.lab import PATIENCE_SECONDS, Lab, Result, ending, wait

AWAY_SECONDS, LOCKED_SECONDS = 60.0, 10.0
LONG = {"steps": 4000}  # a training that is still going on when the store comes back, or not, as it happens


def locked(labs: list[Lab], count: int, seed: int) -> Result:
    """Another program holds the sqlite store locked for ten seconds, from a random moment of the work on."""
    dice, lab, result = random.Random(f"locked {seed}"), labs[0], Result()
    expected, _, work_seconds = lab.undisturbed()
    result.lost.update(dict.fromkeys(expected, 0))
    for number in range(count):
        name = f"locked-{number}"
        recipe, log = lab.recipe(name), lab.home / f"{name}.log"
        process = lab.go_on(log, name, recipe)
        wait(lambda log=log, process=process: log.read_bytes() or process.poll() is not None)
        time.sleep(dice.uniform(0, work_seconds))
        with sqlite3.connect(lab.home / "mlflow.db", timeout=60, isolation_level=None) as database:
            database.execute("BEGIN EXCLUSIVE")
            time.sleep(LOCKED_SECONDS)
            database.execute("COMMIT")
        result.tried += 1
        _finish(lab, result, name, recipe, process, expected)
    result.count_open([lab])
    return result


def away(labs: list[Lab], count: int, seed: int) -> Result:
    """The tracking server is gone for a minute, from a random moment of the work on."""
    dice, result = random.Random(f"away {seed}"), Result()
    port = _free_port()
    lab = replace(labs[0], home=labs[0].home / "served", tracking=f"http://127.0.0.1:{port}")
    lab.home.mkdir(parents=True, exist_ok=True)
    with _server(lab.home, port):
        expected, _, work_seconds = lab.undisturbed(**LONG)
    result.lost.update(dict.fromkeys(expected, 0))
    for number in range(count):
        name = f"away-{number}"
        recipe, log = lab.recipe(name, **LONG), lab.home / f"{name}.log"
        with _server(lab.home, port):
            process = lab.go_on(log, name, recipe)
            wait(lambda log=log, process=process: log.read_bytes() or process.poll() is not None)
            time.sleep(dice.uniform(0, work_seconds))
        result.tried += 1
        before, known = time.monotonic(), log.read_text().count("update")
        while time.monotonic() < before + AWAY_SECONDS and process.poll() is None:
            time.sleep(0.1)
        went_on = log.read_text().count("update") > known
        result.seen["trained_on_meanwhile"] = result.seen.get("trained_on_meanwhile", 0) + went_on
        with _server(lab.home, port):
            _finish(lab, result, name, recipe, process, expected)
            if number == count - 1:
                result.count_open([lab])
    return result


def crowd(labs: list[Lab], count: int, seed: int) -> Result:
    """`count` runs at once on one sqlite store that isn't there yet."""
    result, fresh = Result(tried=count), replace(labs[0], home=labs[0].home / "crowd")
    expected, _, _ = labs[0].undisturbed()
    result.lost.update(dict.fromkeys(expected, 0))
    names = [f"crowd-{number}" for number in range(count)]
    recipes = {name: fresh.recipe(name) for name in names}
    running = {
        name: fresh.start(fresh.home / f"{name}.log", "run", str(recipes[name]), "--threads", "1") for name in names
    }
    for name, process in running.items():
        _finish(fresh, result, name, recipes[name], process, expected)
    result.count_open([fresh])
    return result


def _finish(
    lab: Lab, result: Result, name: str, recipe: Path, process: subprocess.Popen[bytes], expected: dict[str, Any]
) -> None:
    """Bring a run to its end, as its user would: what failed is resumed once."""
    log = lab.home / f"{name}.log"
    if process.wait(PATIENCE_SECONDS):
        result.resumed(log)
        if lab.go_on(log, name, recipe).wait(PATIENCE_SECONDS):
            result.failed(log)
            return
    result.compare(lab, name, expected)


@contextmanager
def _server(home: Path, port: int) -> Iterator[None]:
    """MLflow's own server over a store in `home`."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home}/served.db", "--artifacts-destination", f"{home}/served"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | quiet, start_new_session=True)
    with ending(process):
        wait(lambda: _answers(f"http://127.0.0.1:{port}/health"), 120)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
