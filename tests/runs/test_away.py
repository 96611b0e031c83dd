"""Trials that leave this machine: what is checked before, and what a worker makes of a trial's content."""

from __future__ import annotations

import shutil
import socket
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from components.errors import UserError
from components.runs.away import Crew, Worker, arrive, packed, put_back, unpacked
from components.runs.places import Places
from components.runs.trial_file import TrialFile
from flows.cluster import check_cluster

API = "http://prefect.example:4200/api"
HERE = "http://127.0.0.1:4200/api"


@pytest.fixture
def trial(home_settings, small_recipe) -> TrialFile:
    """A trial of a study whose parent run keeps the data, on a machine that has no data."""
    from components.datasets.store import DatasetRef
    from components.runs.ingest import ingest_recipe
    from components.runs.travel import data_files, data_folder, facts_of
    from components.tracking.mlflow_backend import MlflowTracker

    recipe = small_recipe()
    dataset = ingest_recipe(recipe)
    parent = MlflowTracker(home_settings).start("small", "compare", tags={})
    paths = data_files(dataset)
    data = facts_of(paths)
    for path in paths.values():
        parent.file(path, data_folder(dataset))
    parent.finish()
    shutil.rmtree(home_settings.home / "datasets")
    Path(recipe.data["path"]).unlink()
    elsewhere = DatasetRef(f"/of/another/machine/{Path(dataset.path).name}", dataset.digest)
    about = {"name": "lstm, seed 5", "label": "lstm", "settings": {}, "parameters": 0, "device": "cpu", "threads": 1}
    values = {"recipe": {"name": "small", **recipe.as_dict()}, "dataset": asdict(elsewhere)}
    return TrialFile(**about, **values, parent=parent.ref.run_id, away=True, data=data)


@pytest.mark.slow
def test_a_worker_without_the_data_gets_those_that_the_parent_run_keeps(trial, home_settings) -> None:
    wanted = trial.dataset
    arrive(trial)
    assert trial.dataset["digest"] == wanted["digest"]
    assert Path(trial.dataset["path"]).parent == home_settings.home / "datasets" / "stores"
    assert trial.run_id == "", "there was no earlier try"
    nothing = replace(trial, dataset=wanted, data={})
    arrive(nothing)
    assert nothing.dataset == trial.dataset, "the second trial finds them"
    shutil.rmtree(trial.dataset["path"])
    with pytest.raises(UserError, match=r"data can't be ingested here[^$]*copy the same data here"):
        arrive(replace(trial, dataset=wanted, data={}))
    name = next(iter(trial.data))
    changed = {**trial.data, name: [trial.data[name][0], "0" * 64]}
    with pytest.raises(UserError, match="has different content"):
        arrive(replace(trial, dataset=wanted, data=changed))


@pytest.mark.slow
def test_a_worker_with_another_store_says_so(trial) -> None:
    with pytest.raises(UserError, match=r"isn't the one that the study uses[^$]*set MLFLOW_TRACKING_URI"):
        arrive(replace(trial, parent="ab" * 16))


@pytest.mark.slow
def test_content_goes_to_a_worker_and_comes_back_with_its_results(trial, home_settings, tmp_path) -> None:
    from components.runs.places import places

    path = unpacked(asdict(trial))
    assert path.is_relative_to(home_settings.home)
    there = TrialFile.load(path)
    there.metrics, there.run_id, there.dataset = {"val/x": 1.0}, "cd" * 16, {"path": "there", "digest": "0"}
    there.save(path)
    assert unpacked(asdict(trial)) == path
    assert TrialFile.load(path).metrics, "what an earlier try left here stays"
    matrix = places().run_folder(there.run_id) / "confusion.json"
    matrix.parent.mkdir(parents=True)
    matrix.write_text("{}")
    content = packed(path)
    matrix.unlink()
    own = tmp_path / "000.json"
    trial.save(own)
    before = TrialFile.load(own)
    put_back(content, own)
    assert matrix.read_text() == "{}"
    assert TrialFile.load(own) == replace(before, metrics={"val/x": 1.0}, run_id=there.run_id)


@pytest.mark.slow
def test_workers_that_cannot_do_the_work_are_refused_before_any_training(home_settings, monkeypatch) -> None:
    from components.runs import away

    here = Worker.here()
    far = replace(here, machine="another")
    Crew([here, here]).check(HERE)
    for workers, said in (
        ([], "has no workers"),
        ([here, replace(here, code="older")], "another version of Reprise"),
        ([here, replace(here, libraries="older")], "different versions of libraries"),
        ([here, far], "is a file that workers on other machines can't reach"),
        ([replace(here, store="other")], "start them with REPRISE_HOME="),
    ):
        with pytest.raises(UserError) as told:
            Crew(workers).check(API)
        assert said in str(told.value)

    def settings(**values: str) -> None:
        changed = replace(home_settings, **values)
        monkeypatch.setattr(away, "places", lambda: Places(changed))

    settings(tracking_uri="postgresql://host/reprise")
    with pytest.raises(UserError, match=r"artifacts are stored in .*other machines can't reach"):
        Crew([far]).check(API)
    settings(tracking_uri="postgresql://host/reprise", artifacts="s3://bucket/runs")
    Crew([far]).check(API)
    with pytest.raises(UserError, match="set PREFECT_API_URL"):
        Crew([far]).check(HERE)


def test_workers_share_the_cores_of_their_machine() -> None:
    worker = Worker("a", "", 8, "cpu", "", "")
    assert Crew([worker, worker]).share("auto", 0, 1) == ("cpu", 4)
    assert Crew([worker, worker]).share("auto", 0, 2) == ("cpu", 2)
    other = replace(worker, machine="b", cores=3)
    assert Crew([worker, other]).share("cuda", 0, 1) == ("cuda", 3), "the same everywhere"
    assert Crew([other]).share("cpu", 0, 8) == ("cpu", 1)
    assert Crew([worker]).share("auto", 5, 1) == ("cpu", 5)
    with pytest.raises(UserError, match="some have none"):
        Crew([worker, replace(worker, device="cuda")]).share("auto", 0, 1)


def test_an_address_and_a_missing_package_are_told_at_once(monkeypatch) -> None:
    monkeypatch.setattr("flows.cluster.find_spec", lambda name: None)
    for address in (
        "http://host:8786",
        "tcp://host",
        "ray://host:65536",
        "ray://:10001",
        "tcp://host:8786/x",
        "host:6379",
    ):
        with pytest.raises(
            UserError, match=r"isn't the address of a Dask scheduler or of Ray[^$]*tcp://127.0.0.1:8786"
        ):
            check_cluster(address)
    for address, extra in (("tcp://host:8786", "dask"), ("tls://host:8786", "dask"), ("ray://[::1]:10001", "ray")):
        with pytest.raises(UserError, match=rf"pip install 'reprise\[{extra}\]'"):
            check_cluster(address)
    monkeypatch.setattr("flows.cluster.find_spec", lambda name: object())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        check_cluster(f"tcp://{address}")
        check_cluster(f"ray://{address}")
    with pytest.raises(UserError, match=r"tcp://127.0.0.1:\d+: can't connect \([^$]*`dask scheduler`"):
        check_cluster(f"tcp://{address}")
    with pytest.raises(UserError, match=r"ray://127.0.0.1:\d+: can't connect \([^$]*`ray start --head`"):
        check_cluster(f"ray://{address}")
