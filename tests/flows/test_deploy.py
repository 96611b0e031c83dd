"""Deployments and schedules against a local Prefect server: what is refused, what fires, what is made up for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from conftest import NAMES

from components.errors import UserError
from components.runs.places import recipe_names

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300.0  # for a busy machine; what is waited for takes a few
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


@pytest.fixture
def recipe(home: Path) -> str:
    return write_recipe(home, "planned")


def write_recipe(home: Path, name: str) -> str:
    (home / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    values = {
        "data": {"path": str(home / "names.txt"), "reader": "lines", "split": [0.6, 0.2, 0.2]},
        "encoding": {"kind": "characters"},
        "task": {"kind": "language_model"},
        "model": {"kind": "gru", "hidden_size": 8},
        "training": {"steps": 2, "batch_size": 8, "tbptt_length": 10},
        "evaluation": {"every": 2},
        "generation": {"max_length": 10, "count": 1},
    }
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.fixture(scope="module")
def deployed(home: Path) -> None:
    """What docs/operate.md has workers for: a pool, and our flows deployed to it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:  # as `prefect work-pool create`, which takes seconds to start
        client.create_work_pool(WorkPoolCreate(name="reprise", type="process"))
    done = subprocess.run([*PREFECT, "deploy", "--all"], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def no_schedules(home: Path) -> Iterator[None]:
    """None stays after the test: one that goes on firing keeps the server busy for all the tests that follow."""
    from flows.schedules import remove_schedule, schedules

    yield
    for name, *_ in schedules():
        remove_schedule(name)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout elsewhere, told from this one by what its mlflow.yaml puts on every run."""
    folder = tmp_path / "another checkout"
    for name in ("components", "flows", "data/catalogue"):
        shutil.copytree(ROOT / name, folder / name)  # with what is compiled of it
    (folder / "mlflow.yaml").write_text("experiments: {tags: {checkout: the other}}\n")
    return folder


def test_the_forms_offer_the_recipes_and_wrong_parameters_start_nothing(home) -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.pipeline import pipeline_flow

    shown = parameter_schema(pipeline_flow).model_dump()["properties"]
    assert shown["recipe"]["anyOf"][0]["enum"] == recipe_names()
    assert shown["device"]["pattern"] == r"^(auto|cpu|cuda(:\d{1,3})?)$"
    for wrong in (
        {"recipe": "choral"},
        {"recipe": "chorales", "overrides": ["training.steps"]},
        {"recipe": "chorales", "device": "gpu"},
        {"recipe": "chorales", "threads": -1},
    ):
        with pytest.raises(Exception, match=r"recipe|overrides|device|threads") as caught:
            pipeline_flow.validate_parameters(wrong)
        assert type(caught.value).__name__ == "ParameterTypeError"


def test_prefect_yaml_deploys_what_is_served(deployed) -> None:
    from prefect.client.orchestration import get_client

    from flows.schedules import FLOWS, NAME

    written = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    names = {(each["entrypoint"].rpartition(".")[2], each["name"]) for each in written["deployments"]}
    assert names == {(flow.fn.__name__, NAME) for flow in FLOWS}
    with get_client(sync_client=True) as client:
        for flow in FLOWS:
            deployed = client.read_deployment_by_name(f"{flow.name}/{NAME}")
            assert deployed.work_pool_name == "reprise"
            assert deployed.enforce_parameter_schema
            assert not deployed.schedules


def test_a_worker_of_another_checkout_runs_what_was_deployed_here(home, deployed, clone) -> None:
    from prefect.client.orchestration import get_client

    from components.runs.places import places
    from components.tracking.mlflow_client import open_client

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("pipeline/reprise").id
        asked_for = {"recipe": write_recipe(home, "worked"), "threads": 1}
        asked = client.create_flow_run_from_deployment(deployment, parameters=asked_for)
        worker = [*PREFECT, "worker", "start", "--pool", "reprise", "--run-once", "--install-policy", "never"]
        # the environment of the other checkout, without making one: its modules come first
        environment = os.environ | {"PYTHONPATH": str(clone)}
        done = subprocess.run(worker, cwd=clone, env=environment, capture_output=True, text=True, timeout=SECONDS)
        state = client.read_flow_run(asked.id).state
        assert state.is_completed(), f"{state}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    store = open_client(places().settings)
    experiment = store.get_experiment_by_name("worked").experiment_id
    (run,) = store.search_runs([experiment], f"tags.`prefect.flow_run_id` = '{asked.id}'")
    assert (run.info.status, run.data.tags["checkout"]) == ("FINISHED", "the other")


def test_of_a_run_that_fails_who_serves_is_told_why(home, capsys) -> None:
    from flows.pipeline import pipeline, pipeline_flow

    with pytest.raises(UserError, match="unknown model 'grew'"):
        pipeline_flow("names", ["model.kind=grew"])
    told = capsys.readouterr().out
    assert "failed  pipeline names: " in told
    assert "unknown model 'grew'" in told
    with pytest.raises(UserError, match="unknown model 'grew'"):
        pipeline("names", ["model.kind=grew"])
    assert "failed" not in capsys.readouterr().out, "in the foreground the command says so itself"


def test_schedules_are_added_replaced_listed_and_removed(home, recipe) -> None:
    from flows.schedules import FLOWS, add_schedule, deployment_of, remove_schedule, schedules

    given = {"recipe": recipe, "overrides": ["seed=3"]}
    replaced, times = add_schedule("weekly", given, cron="0 6 * * 1", timezone="Europe/Berlin")
    assert not replaced
    assert [f"{time:%a %H:%M}" for time in times] == ["Mon 06:00", "Mon 06:00"]
    assert not add_schedule("often", given, every=timedelta(hours=6))[0]
    assert add_schedule("weekly", given, cron="0 7 * * 1", timezone="Europe/Berlin")[0]
    for _ in range(2):
        assert [row[:3] for row in schedules()] == [
            ["often", f"{recipe} --set seed=3", "every 6h UTC"],
            ["weekly", f"{recipe} --set seed=3", "0 7 * * 1 Europe/Berlin"],
        ]
        deployment_of(FLOWS[0]).apply()  # serving again keeps them
    with pytest.raises(UserError, match="Did you mean 'weekly'"):
        remove_schedule("weakly")
    remove_schedule("weekly")
    remove_schedule("often")
    assert schedules() == []


def test_of_missed_runs_only_the_latest_is_made_up_for(home, recipe, no_schedules, monkeypatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    from flows import deploy
    from flows.schedules import add_schedule, deployed

    monkeypatch.setattr(deploy, "MISSED_SECONDS", 0.0)
    for name in ("one", "two"):
        add_schedule(
            name, {"recipe": recipe, "overrides": [f"seed={len(name)}", f"name={name}"]}, every=timedelta(seconds=1)
        )

    def due(client) -> dict[str, list]:
        now = datetime.now(UTC)
        mine = {"any_": [deployed(client)]}
        wanted = FlowRunFilter(deployment_id=mine, expected_start_time={"before_": now})
        runs = client.read_flow_runs(flow_run_filter=wanted)
        names = ("one", "two")
        return {name: [r for r in runs if f"name={name}" in r.parameters.get("overrides", [])] for name in names}

    with get_client(sync_client=True) as client:
        end = time.monotonic() + SECONDS
        while min(len(runs) for runs in due(client).values()) < 3:
            assert time.monotonic() < end, "nothing was scheduled"
            time.sleep(0.5)
        before = {run.id for runs in due(client).values() for run in runs}
        skipped = deploy._skip_missed()
        seen = due(client)
        for name, runs in seen.items():
            cancelled = [run for run in runs if run.state.is_cancelled()]
            kept = [run for run in runs if not run.state.is_cancelled()]
            assert len(cancelled) >= 2, name
            assert len([run for run in kept if run.id in before]) <= 1
            assert min(run.expected_start_time for run in kept) > max(run.expected_start_time for run in cancelled)
        assert skipped == sum(run.state.is_cancelled() for runs in seen.values() for run in runs)


def test_a_schedule_fires_and_its_run_comes_to_an_end_without_a_person(home, recipe, no_schedules) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    from components.runs.places import places
    from components.tracking.mlflow_client import open_client
    from flows.schedules import add_schedule, remove_schedule

    add_schedule("often", {"recipe": recipe, "overrides": ["seed=7"], "threads": 1}, every=timedelta(seconds=3))
    command = [sys.executable, "-c", "from flows.deploy import serve; serve(1, True)"]
    mine = {"name": {"any_": [recipe]}}
    finished = FlowRunFilter(state={"type": {"any_": ["COMPLETED"]}}, **mine)
    begun = FlowRunFilter(state={"type": {"any_": ["RUNNING", "COMPLETED"]}}, **mine)
    log = home / "serve.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        ) as serving,
    ):
        try:
            end = time.monotonic() + SECONDS
            with get_client(sync_client=True) as client:
                going = False
                while not (runs := client.read_flow_runs(flow_run_filter=finished)):
                    assert time.monotonic() < end, log.read_text()
                    assert serving.poll() is None, log.read_text()
                    if not going and client.read_flow_runs(flow_run_filter=begun):
                        going = True
                        remove_schedule("often")  # one is enough; each takes seconds
                    time.sleep(1)  # each question costs the server as much as an update
        finally:
            serving.terminate()
    assert runs[0].auto_scheduled
    assert runs[0].parameters["overrides"] == ["seed=7"]
    store = open_client(places().settings)
    experiment = store.get_experiment_by_name("planned").experiment_id
    (run,) = store.search_runs([experiment], f"tags.`prefect.flow_run_id` = '{runs[0].id}'")
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "7"
    started = store.search_runs([experiment])
    assert "RUNNING" not in {each.info.status for each in started}, "those that were going on were ended with serving"


def test_a_second_server_of_one_home_is_refused(home) -> None:
    from filelock import FileLock

    from flows.deploy import serve

    with FileLock(home / "serve.lock"), pytest.raises(UserError, match="already running"):
        serve(1, False)


@pytest.mark.slow
def test_what_is_wrong_is_said_before_anything_starts(tmp_path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("data: {}")
    for arguments, said in (
        (["schedule", "chorales", "--cron", "0 25 * * *"], "isn't a valid hour"),
        (["schedule", "choral", "--every", "1h"], "Did you mean 'chorales'"),
        (["schedule", "chorales"], "--cron or --every"),
        (["schedule", "chorales", "--cron", "0 6 * * 1", "--timezone", "Berlin"], "no time zone"),
        (["schedule", "--list", "--remove", "x"], "takes a recipe with"),
        (["schedule", "--list", "--cron", "0 6 * * 1"], "--cron: only works with a recipe"),
        (["schedule", "--remove", "x", "--set", "seed=1"], "--set: only works with a recipe"),
        (["serve", "--at-once", "0"], "must be 1 or more, not 0"),
    ):
        with pytest.raises(UserError, match=said):
            _typed(arguments, tmp_path)
    assert not (tmp_path / "prefect").exists()


@pytest.mark.slow
def test_files_are_scheduled_by_their_whole_paths(tmp_path, monkeypatch) -> None:
    from flows.commands.operate import _parameters

    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("a text of my own. " * 40)
    parameters = _parameters("shakespeare-chars", ["data.path=mine.txt", "seed=2"], "cpu", 1)
    assert parameters["recipe"] == "shakespeare-chars"
    assert parameters["overrides"] == ["seed=2", f"data.path={tmp_path / 'mine.txt'}"]
    monkeypatch.chdir("/")
    from components.recipe import read_recipe
    from components.runs.places import recipe_path

    again = read_recipe(recipe_path("shakespeare-chars"), parameters["overrides"])
    assert again.data["path"] == str(tmp_path / "mine.txt")


@pytest.mark.slow
def test_every_setting_that_names_a_file_is_scheduled_by_its_whole_path(tmp_path, monkeypatch) -> None:
    """Which those are, their types say: word vectors in the recipe's file, and a file for each split."""
    from components.recipe import read_recipe
    from flows.commands.operate import _parameters

    values = {
        "data": {"path": {"train": "a.csv", "test": "~/b.csv"}, "reader": "table"},
        "encoding": {"kind": "pair", "input": {"kind": "words"}, "target": {"kind": "labels"}},
        "task": {"kind": "classification"},
        "model": {"kind": "gru", "vectors": "own vectors.txt", "embedding_size": 8},
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("moods.yaml").write_text(yaml.safe_dump(values))
    for more, vectors in ([], "own vectors.txt"), (["model.vectors=deep/v.txt"], "deep/v.txt"):
        parameters = _parameters("moods.yaml", more, "cpu", 1)
        monkeypatch.chdir("/")
        again = read_recipe(Path(parameters["recipe"]), parameters["overrides"])
        monkeypatch.chdir(tmp_path)
        assert again.model["vectors"] == str(tmp_path / vectors)
        assert again.data["path"] == {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "home" / "b.csv")}


def _typed(arguments: list[str], home: Path) -> None:
    from flows.cli import app

    before = os.environ.get("REPRISE_HOME")
    os.environ["REPRISE_HOME"] = str(home)
    try:
        app(arguments, result_action="return_value")
    finally:
        os.environ.pop("REPRISE_HOME")
        if before is not None:
            os.environ["REPRISE_HOME"] = before
