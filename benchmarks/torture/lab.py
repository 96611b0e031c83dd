"""Where things are broken: homes of their own, a tiny recipe, and the outcome that an undisturbed run has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = "the cat sat on the mat; the dog sat on the log, and who can say of the frog? " * 120
RECIPE: dict[str, Any] = {
    "seed": 5,
    "encoding": {"kind": "characters"},
    "task": {"kind": "language_model"},
    "model": {"kind": "lstm", "hidden_size": 32, "dropout": 0.2},
    "training": {"steps": 400, "batch_size": 8, "tbptt_length": 20, "checkpoint_seconds": 0.1},
    "evaluation": {"every": 50},
    "generation": {"max_length": 40, "count": 2, "prompt": "the "},
}
PATIENCE_SECONDS = 900.0


@dataclass
class Result:
    """`lost`: what has to be 0, counted; `seen`: what happened besides."""

    tried: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    seen: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    mutex: Lock = field(default_factory=Lock)

    def compare(self, lab: Lab, name: str, expected: dict[str, Any]) -> None:
        """Count what a finished run has otherwise than an undisturbed one."""
        got = lab.ask("outcome", name)
        with self.mutex:
            self.seen["runs"] = self.seen.get("runs", 0) + 1
            for what, wanted in expected.items():
                self.lost[what] += got[what] != wanted
                if got[what] != wanted:
                    self.notes.append(f"{name}: {what} {str(got[what])[:300]} instead of {str(wanted)[:300]}")

    def count_open(self, labs: list[Lab]) -> None:
        """Count what is still open when all is over."""
        for lab in labs:
            for what, number in lab.ask("open").items():
                self.lost[what] += number

    def resumed(self, log: Path) -> None:
        """A run that ended and has to be resumed: what it said."""
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if line.startswith(("error", "failed", "stopped"))] or lines or [""]
        with self.mutex:
            self.seen["had_to_be_resumed"] = self.seen.get("had_to_be_resumed", 0) + 1
            self.seen.setdefault("said", []).append(said[-1][:300])

    def failed(self, log: Path) -> None:
        """A run that couldn't be brought to its end."""
        with self.mutex:
            self.lost["failed resumes"] += 1
            self.notes.append(log.read_text(errors="replace")[-2000:])


@dataclass(frozen=True)
class Lab:
    """A home of its own for one lane of experiments; the Prefect server is shared. `tracking` is MLflow's address, else
    its store is an sqlite file of the home."""

    home: Path
    api: str
    tracking: str = ""

    def recipe(self, name: str, **training: object) -> Path:
        """A recipe file over a text of its own."""
        self.home.mkdir(parents=True, exist_ok=True)
        text = self.home / f"{name}.txt"
        text.write_text(TEXT, encoding="utf-8")
        values = RECIPE | {"data": {"path": str(text), "reader": "text", "split": [0.6, 0.2, 0.2]}}
        values["training"] = RECIPE["training"] | training
        path = self.home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    def start(self, log: Path, *words: str) -> subprocess.Popen[bytes]:
        """`reprise WORDS…` as a process whose output goes to `log`."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *words],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=self.environment(),
            )  # fmt: skip

    def go_on(self, log: Path, name: str, recipe: Path) -> subprocess.Popen[bytes]:
        """Resume the recipe's run where there is one, else start it."""
        run_id = self.ask("examine", name)["run_id"]
        return self.start(log, *(["resume", run_id] if run_id else ["run", str(recipe), "--threads", "1"]))

    def environment(self) -> dict[str, str]:
        own = {"REPRISE_HOME": str(self.home), "PREFECT_API_URL": self.api, "PYTHONUNBUFFERED": "1"}
        if self.tracking:
            own["MLFLOW_TRACKING_URI"] = self.tracking
        return {**os.environ, **own, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def ask(self, question: str, *arguments: str) -> Any:
        """The answer of `benchmarks.torture.questions`, asked in a process of its own: the home belongs to it."""
        command = [sys.executable, "-m", "benchmarks.torture.questions", question, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{question}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def undisturbed(self, **training: object) -> tuple[dict[str, Any], float, float]:
        """The outcome that every run has to have, the seconds a run takes to say its first word, and those after it."""
        recipe, log, started = self.recipe("whole", **training), self.home / "whole.log", time.monotonic()
        process = self.start(log, "run", str(recipe), "--threads", "1")
        wait(lambda: log.read_bytes() or process.poll() is not None)
        start_seconds = time.monotonic() - started
        if process.wait(PATIENCE_SECONDS):
            raise RuntimeError(log.read_text())
        return self.ask("outcome", "whole"), start_seconds, time.monotonic() - started - start_seconds

    def trains(self, log: Path, process: subprocess.Popen[bytes]) -> bool:
        """Wait until a run that writes to `log` has evaluated once; False when it ended before."""
        wait(lambda: b"update" in log.read_bytes() or process.poll() is not None)
        return process.poll() is None


def wait(what: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Until it is true.

    Raises:
        TimeoutError: it never became so.
    """
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that doesn't outlive the block."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
