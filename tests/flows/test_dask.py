"""Trials on a Dask cluster of two workers, each with a home of its own, which share a tracking server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_recipes import SECTIONS, children, in_this_process, write_recipe
from test_travel import SECONDS, server  # noqa: F401 - a fixture

from components.runs.processes import Processes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PRELOADED = Path(__file__).with_name("worker_in_one.py")
TRAINING = {**SECTIONS["training"], "steps": 24}


@dataclass
class Workers:
    address: str
    homes: list[Path]
    processes: list[subprocess.Popen]
    logs: list[Path]


@pytest.fixture(scope="module")
def workers(home: Path, server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:  # noqa: F811
    """A scheduler and two workers, as their commands start them."""
    pytest.importorskip("prefect_dask", reason="needs prefect-dask: pip install prefect-dask")
    folder = tmp_path_factory.mktemp("dask")
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "runs")))
    environment = os.environ | {"PYTHONPATH": paths, "MLFLOW_TRACKING_URI": server}
    started: list[subprocess.Popen] = []

    def start(name: str, *words: str, **more: str) -> Path:
        log = folder / f"{name}.log"
        command = [sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:], "--no-dashboard"]
        with log.open("wb") as output:
            started.append(subprocess.Popen(command, env=environment | more, stdout=output, stderr=output, cwd=folder))
        return log

    try:
        file = folder / "scheduler.json"
        log = start("scheduler", "dask_scheduler", "--host=127.0.0.1", "--port=0", f"--scheduler-file={file}")
        deadline = time.monotonic() + SECONDS
        while not file.exists():
            assert started[0].poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        homes, logs = [folder / "one", folder / "two"], []
        for each in homes:
            each.mkdir()
            words = (f"--scheduler-file={file}", "--nthreads=1", "--no-nanny", f"--preload={PRELOADED}")
            logs.append(start(each.name, "dask_worker", *words, REPRISE_HOME=str(each)))
        import distributed

        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=SECONDS)
            address = client.scheduler.address
        yield Workers(address, homes, started[1:], logs)
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture
def shared(server: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)


def test_trials_on_two_workers_have_the_metrics_that_they_have_here(home, shared, workers, monkeypatch) -> None:
    from flows.study import compare

    asked = (write_recipe(home, training=TRAINING), ["model.kind=rnn,gru"], 1)
    with monkeypatch.context() as patch:
        patch.setattr(Processes, "run", in_this_process)
        here = compare(*asked, threads=1)
    there = compare(*asked, threads=1, cluster=workers.address, fresh=True)
    assert there.run_id != here.run_id
    assert [(row.label, row.val, row.test) for row in there.rows] == [(r.label, r.val, r.test) for r in here.rows]
    runs = children(there.run_id)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["process.id"] for run in runs} == {str(worker.pid) for worker in workers.processes}
    kept = [{path.name for path in (each / "checkpoints").iterdir()} for each in workers.homes]
    assert [len(each) for each in kept] == [1, 1]
    assert kept[0] | kept[1] == {run.info.run_id for run in runs}


def test_a_trial_goes_on_on_another_worker_when_its_own_dies(home, shared, workers) -> None:
    from components.runs.places import places
    from components.tracking.mlflow_client import open_client
    from flows.study import compare

    (workers.homes[0] / "die").touch()
    path = write_recipe(home, "dying", training={**TRAINING, "steps": 20})
    found = compare(path, ["model.kind=rnn,gru"], 1, threads=1, cluster=workers.address)
    assert workers.processes[0].wait(60) == -signal.SIGKILL
    runs = children(found.run_id)
    assert [run.info.status for run in runs] == ["FINISHED"] * 2, "no run was begun twice"
    assert {run.data.tags["process.id"] for run in runs} == {str(workers.processes[1].pid)}
    assert workers.logs[1].read_text().count("fetch   run ") == 1
    for run in runs:
        points = open_client(places().settings).get_metric_history(run.info.run_id, "val/nats_per_char")
        assert [point.step for point in points] == [5, 10, 15, 20]
