"""A run goes on on another machine, bit for bit, from what the first one left in the store; what was changed there is
refused. Two machines are two state folders that share a tracking server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import NAMES

from components.errors import UserError
from components.models.weights import read_tensors
from components.runs.travel import CHECKPOINT

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SECONDS = 240.0  # for a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[str]:
    """The address of a tracking server that keeps artifacts itself."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(database.read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/kept"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def machine(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """Makes this process one of another machine, by name; gives the environment for others of it."""

    def move(name: str) -> dict[str, str]:
        monkeypatch.setenv("REPRISE_HOME", str(tmp_path / name))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        return dict(os.environ)

    return move


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    values = {
        "seed": 5,
        "data": {"path": str(tmp_path / "names.txt"), "reader": "lines", "split": [0.6, 0.2, 0.2]},
        "encoding": {"kind": "characters"},
        "task": {"kind": "language_model"},
        "model": {"kind": "lstm", "hidden_size": 12, "dropout": 0.3},
        "training": {"steps": 24, "batch_size": 8, "tbptt_length": 6, "checkpoint_seconds": 0.0},
        "evaluation": {"every": 8},
        "generation": {"max_length": 12, "count": 1},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def die_at(update: int, recipe: Path, environment: dict[str, str]) -> str:
    """The id of a run that another process was killed in after this update."""
    command = [sys.executable, str(HERE / "travelling_run.py"), str(update), str(recipe)]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    done = subprocess.run(
        command, env=environment | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    return re.search(r"run=(\w+)\.", done.stdout)[1]


def finished(run_id: str) -> Path:
    from components.runs.open_run import opened
    from components.runs.train import train

    with opened(run_id) as run:
        train(run)
        return run.folder


def test_a_run_killed_on_one_machine_ends_on_another_with_the_same_weights(machine, recipe, tmp_path, capsys) -> None:
    from components.recipe import read_recipe
    from components.runs.ingest import ingest_recipe
    from components.runs.open_run import opened
    from components.runs.places import places
    from components.runs.train import begin_run, train
    from components.runs.travel import bring
    from components.tracking.mlflow_client import open_client

    run_id = die_at(11, recipe, machine("a"))
    (tmp_path / "names.txt").unlink()  # the data travel too
    machine("b")
    assert not (places().run_folder(run_id)).exists()
    assert bring(run_id[:8]).ref.run_id == run_id
    assert "fetch   run lstm-h12-" in capsys.readouterr().out
    folder = finished(run_id)
    assert folder.is_relative_to(tmp_path / "b")

    (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    whole = read_recipe(recipe)
    with opened(begin_run(whole, ingest_recipe(whole), "cpu", 1)) as run:
        train(run)
    for name in (CHECKPOINT, "best.safetensors"):
        ours, facts = read_tensors(folder / name)
        theirs, expected = read_tensors(run.folder / name)
        assert set(ours) == set(theirs)
        assert all((ours[key].numpy().tobytes() == theirs[key].numpy().tobytes()) for key in ours), name
    assert facts["global_step"] == expected["global_step"]
    client = open_client(places().settings)
    ours, theirs = (client.get_metric_history(each, "val/nats_per_token") for each in (run_id, run.id))
    assert [(p.step, p.value) for p in ours] == [(p.step, p.value) for p in theirs]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert not client.list_artifacts(run_id, "travel"), "of a finished run nothing more travels"
    machine("a")
    with pytest.raises(UserError, match="the run is finished; it ran on"):
        bring(run_id)
    with pytest.raises(UserError, match=r"no run 'nothing'[^$]*nor is it in the store http"):
        bring("nothing")


def test_data_that_did_not_travel_are_ingested_again_and_must_be_the_same(
    home_settings, small_recipe, small_store, tmp_path: Path
) -> None:
    from components.datasets.store import DatasetRef
    from components.runs.record import RunRecord
    from components.runs.travel import _data
    from components.tracking.base import RunRef

    recipe = small_recipe()
    digest = small_store(recipe).manifest["digests"]["content"]
    elsewhere = DatasetRef("/of/another/machine", digest)
    record = RunRecord(recipe, elsewhere, RunRef("ab" * 16, "small"), "lstm", "cpu", 1)
    assert RunRecord.from_dict(record.as_dict()) == record
    found = _data(None, record, {}, tmp_path)
    assert found.digest == digest
    assert Path(found.path).is_relative_to(home_settings.home)
    text = Path(recipe.data["path"])
    text.write_text(text.read_text() + "\nzoe")
    shutil.rmtree(home_settings.home / "datasets")
    with pytest.raises(UserError, match=r"differ from those that the run started with[^$]*increase travel.data_mb"):
        _data(None, record, {}, tmp_path)
    text.unlink()
    with pytest.raises(UserError, match="can't be ingested here"):
        _data(None, record, {}, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"threads": 10**9}, "small numbers"),
        ({"run_name": 3}, "a text"),
        ({"more": 1}, "more"),
        ({"recipe": {"name": "../x"}}, "name"),
    ],
)
def test_a_record_that_is_none_is_refused(small_recipe, tmp_path: Path, wrong: dict, told: str) -> None:
    from components.datasets.store import DatasetRef
    from components.runs.record import RunRecord
    from components.tracking.base import RunRef

    good = RunRecord(small_recipe(), DatasetRef("/x", "d"), RunRef("ab" * 16, "small"), "lstm", "cpu", 1)
    with pytest.raises((UserError, ValueError, TypeError, KeyError), match=told):
        RunRecord.from_dict({**good.as_dict(), **wrong})
