"""docs/cluster.md, typed: PostgreSQL and an S3 server from nothing, a run of one checkout that is killed and goes on in
another one, which generates and serves."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_models import serving
from test_docs import FENCE

from components.serving.app import build
from components.tracking import artifact_store, mlflow_client
from components.tracking.mlflow_store import MlflowStore
from components.tracking.settings import load_settings

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240.0  # for a busy machine
# better than letters drawn as often as in training, or it would be no champion
SMALL = [
    "training.steps=90",
    "training.learning_rate=0.02",
    "training.warmup_steps=10",
    "training.tbptt_length=16",
]
SMALL += ["training.checkpoint_seconds=0", "evaluation.every=90", "model.hidden_size=32", "model.num_layers=1"]
SMALL += ["generation.max_length=40", "generation.count=1"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """An empty folder that others may write to: pytest's own are closed, and PostgreSQL refuses to be run by root."""
    pytest.importorskip("psycopg2", reason="needs psycopg2: pip install psycopg2-binary")
    pytest.importorskip("moto.server", reason="needs an S3 server: pip install boto3 moto")
    if not (shutil.which("initdb") or glob.glob("/usr/lib/postgresql/*/bin/initdb")):
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    path = Path(tempfile.mkdtemp(prefix="reprise-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def typist(folder: Path) -> Iterator[Typist]:
    typist = Typist(folder)
    yield typist
    typist.close()


class Typist:
    """Types blocks of the document into a shell, on other ports than those that it names."""

    def __init__(self, folder: Path) -> None:
        text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
        ports = {"5433": _free_port(), "9000": _free_port(), "8010": 0}
        self.blocks = [
            re.sub("|".join(ports), lambda found: str(ports[found[0]]), block) for block in FENCE.findall(text)
        ]
        self.folder, self.environment, self._started = folder, dict(os.environ), []

    def type(self, block: str, user: str = "") -> None:
        """What the block exports stays for the next ones, and what it starts in the background is ended at last."""
        own = ["runuser", "-u", user, "--"] if user and os.getuid() == 0 else []
        script = f"set -e\n{block}\nenv -0 > environment\njobs -p > jobs\n"
        with (self.folder / "log").open("ab") as log:
            command = [*own, "bash", "-c", script]
            subprocess.run(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, timeout=SECONDS, check=True
            )
        kept = (self.folder / "environment").read_text().split("\0")
        self.environment = dict(each.split("=", 1) for each in kept if "=" in each and not each.startswith("_="))
        self._started += map(int, (self.folder / "jobs").read_text().split())
        for name in ("environment", "jobs"):
            (self.folder / name).unlink()

    def close(self) -> None:
        for pid in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.SubprocessError):
            self.type("pg_ctl -D postgres -m immediate stop", "postgres")


def checkout(path: Path) -> None:
    """As `git clone` and `make` have it, as far as it takes."""
    for name in ("components", "flows", "data/catalogue"):
        shutil.copytree(ROOT / name, path / name)
    for name in ("mlflow.yaml", "LICENSE"):
        shutil.copy(ROOT / name, path / name)
    (path / ".venv" / "bin").mkdir(parents=True)
    server = path / ".venv" / "bin" / "moto_server"
    server.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m moto.server "$@"\n')
    server.chmod(0o755)


def test_a_run_of_one_checkout_goes_on_in_another_one_that_shares_its_services(
    prefect: str, folder: Path, typist: Typist, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.cli import app

    _install, postgres, bucket, addresses, ann, bob = typist.blocks[:6]
    typist.type(postgres, "postgres")
    for name in ("ann", "bob"):
        checkout(folder / name)
    typist.type(bucket)
    typist.type(addresses)
    places = {"ann": folder / "ann", "bob": folder / "bob"}
    environment = typist.environment | {"PREFECT_API_URL": prefect, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("REPRISE_HOME", None)

    def at(who: str) -> None:
        """This process is one of that checkout."""
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("REPRISE_HOME", raising=False)
        monkeypatch.chdir(places[who])
        for module in ("components.runs.places", "components.runs.ingest", "flows.doctor"):
            monkeypatch.setattr(f"{module}.STATE", places[who])

    monkeypatch.setattr(mlflow_client, "_clients", {})
    monkeypatch.setattr(artifact_store, "_checked", set())
    enter, doctor, run = ann.strip().splitlines()
    assert (enter, doctor) == ("cd ann", "reprise doctor")
    at("ann")
    app(shlex.split(doctor)[1:], result_action="return_value")
    told = capsys.readouterr().out
    assert "ok    tracking   postgresql://***@127.0.0.1" in told
    assert "choose" not in told

    words = [*shlex.split(run)[1:], *(word for each in SMALL for word in ("--set", each))]
    command = [sys.executable, str(ROOT / "tests" / "runs" / "travelling_run.py"), "12", *words]
    here = environment | {"PYTHONPATH": str(places["ann"])}
    done = subprocess.run(command, cwd=places["ann"], env=here, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert "choose" not in done.stdout + done.stderr
    run_id = re.search(r"run=(\w+)\.", done.stdout)[1]

    at("bob")
    enter, resume, generate, api = bob.strip().splitlines()
    assert enter == "cd ../bob"
    app(shlex.split(resume)[1:], result_action="return_value")
    told = capsys.readouterr().out
    assert f"({run_id[:8]}) of" in told
    assert "licence v1 registered as champion" in told
    app(shlex.split(generate)[1:], result_action="return_value")
    assert "wrote   1 × licence" in capsys.readouterr().out
    assert list((places["bob"] / "generated").glob("licence-v1-seed1-*/*.txt"))
    assert shlex.split(api)[:2] == ["reprise", "api"]  # as the tour's test types it
    with serving(build(MlflowStore(load_settings(places["bob"])))) as address:
        asked = urllib.request.Request(f"{address}/generate", b'{"model": "licence", "settings": {"max_length": 5}}')
        asked.add_header("content-type", "application/json")
        with urllib.request.urlopen(asked, timeout=SECONDS) as reply:
            assert json.load(reply)["version"] == "1"
    state = [path for path in places["bob"].rglob("*") if path.is_file() and path.stat().st_size < 1 << 20]
    assert not [path for path in state if b"choose-your-own" in path.read_bytes()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
