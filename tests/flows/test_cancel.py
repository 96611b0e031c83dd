"""However a run ends, nothing of it stays open, and it can go on: cancelled, terminated, killed, its process's number
given to another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from conftest import TEXT

from components.errors import UserError
from components.tracking.process import identity, lives, machine_name

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300.0  # for a busy machine; what is waited for takes a few


@pytest.fixture
def recipe(home: Path) -> Callable[..., str]:
    def write(name: str, **training: object) -> str:
        (home / "text.txt").write_text(TEXT, encoding="utf-8")
        values = {
            "seed": 5,
            "data": {"path": str(home / "text.txt"), "reader": "text", "split": [0.6, 0.2, 0.2]},
            "encoding": {"kind": "characters"},
            "task": {"kind": "language_model"},
            "model": {"kind": "lstm", "hidden_size": 16, "dropout": 0.2},
            "training": {"steps": 40, "batch_size": 8, "tbptt_length": 10, "checkpoint_seconds": 0.0, **training},
            "evaluation": {"every": 10},
            "generation": {"max_length": 20, "count": 1, "prompt": "the "},
        }
        path = home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


@pytest.fixture
def dead() -> str:
    """The identity of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        known = identity(process.pid)
        assert lives(known)
        process.kill()
        process.wait()
    return known


def mlflow_run(run_id: str):
    from components.runs.places import places
    from components.tracking.mlflow_client import open_client

    return open_client(places().settings).get_run(run_id)


def flow_run(flow_run_id: object):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(str(flow_run_id)))


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C raises here, also where the tests run in a shell's background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_process_is_known_by_its_start_and_its_machine(dead) -> None:
    own = identity()
    assert lives(own) is True
    assert lives(dead) is False
    machine, pid, start = own.split("/")
    assert lives(f"{machine}/{pid}/{start}0") is False, "the number was given to another process since"
    assert lives(f"other-{machine}/{pid}/{start}") is None, "what other machines do can't be seen from here"
    for nonsense in ("", "/", "//", f"{machine}/x/1", f"{machine}/-1/1", f"{machine}/1", f"{machine}/{10**30}/1"):
        assert lives(nonsense) in (None, False)


def test_a_run_cancelled_in_prefect_ends_and_goes_on_when_it_is_resumed(home, recipe, interrupts, monkeypatch) -> None:
    from prefect import runtime
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    from components.runs.places import places
    from components.runs.record import find_run
    from components.training import session
    from flows import reaper
    from flows.pipeline import pipeline, resume

    monkeypatch.setattr(reaper, "WATCH_SECONDS", 0.1)
    # of flow runs that this process had at a server that is gone: they keep ours from nothing
    monkeypatch.setattr(reaper, "_stopped", {str(UUID(int=number)) for number in range(8)})

    class Cancelled(session.Trainer):
        def _update(self, batches):
            if self.at.global_step == 12:
                with get_client(sync_client=True) as client:
                    client.set_flow_run_state(UUID(runtime.flow_run.id), Cancelling())
                time.sleep(SECONDS)
            return super()._update(batches)

    path = recipe("cancelled")
    with monkeypatch.context() as patch:
        patch.setattr(session, "Trainer", Cancelled)
        with pytest.raises(KeyboardInterrupt):
            pipeline(path, [], "cpu", 1)
    run_id = find_run("cancelled", places()).ref.run_id
    run = mlflow_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags.get("process.cut_off", "") == "", "a person's wish: it doesn't go on by itself"
    assert flow_run(run.data.tags["prefect.flow_run_id"]).state.is_cancelled()
    assert resume(run_id).run_id == run_id
    run = mlflow_run(run_id)
    assert run.info.status == "FINISHED"
    assert flow_run(run.data.tags["prefect.flow_run_id"]).state.is_completed()


KILLED = """
import os, signal, sys
from components.training import session
from flows.pipeline import pipeline

class Killed(session.Trainer):
    def _update(self, batches):
        if self.at.global_step == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._update(batches)

session.Trainer = Killed
pipeline(sys.argv[1], [], "cpu", 1)
"""


def test_a_killed_run_is_closed_everywhere_and_goes_on_bit_for_bit(home, recipe) -> None:
    from components.models.weights import read_tensors
    from components.runs.places import places
    from components.runs.record import find_run
    from flows.pipeline import pipeline, resume
    from flows.reaper import tidy

    whole = pipeline(recipe("whole"), [], "cpu", 1)
    done = subprocess.run([sys.executable, "-c", KILLED, recipe("killed")], cwd=ROOT, timeout=SECONDS)
    assert done.returncode == -signal.SIGKILL
    run_id = find_run("killed", places()).ref.run_id
    run = mlflow_run(run_id)
    left = flow_run(run.data.tags["prefect.flow_run_id"])
    assert (run.info.status, left.state.name) == ("RUNNING", "Running"), "the kill left both open"

    closed = tidy()
    assert run_id in closed.runs
    assert str(left.id) in closed.flow_runs
    run, left = mlflow_run(run_id), flow_run(left.id)
    assert (run.info.status, left.state.name) == ("KILLED", "Crashed")
    assert (run.data.tags["process.cut_off"], run.data.tags["process.deaths"]) == ("yes", "1")
    assert tidy().runs == tidy().flow_runs == []

    assert resume(run_id).metrics == whole.metrics
    checkpoints = [
        read_tensors(places().run_folder(each) / "checkpoint.safetensors")[0] for each in (whole.run_id, run_id)
    ]
    assert all((checkpoints[0][name] == checkpoints[1][name]).all() for name in checkpoints[0])
    assert mlflow_run(run_id).data.tags["process.cut_off"] == ""


def test_a_terminated_run_ends_as_killed_and_is_marked_to_go_on(home, recipe, tmp_path) -> None:
    from prefect.exceptions import TerminationSignal

    from components.datasets.store import DatasetRef
    from components.recipe import read_recipe
    from components.runs.open_run import opened
    from components.runs.places import places
    from components.runs.record import RunRecord
    from components.tracking.mlflow_backend import MlflowTracker
    from flows.reaper import stopped_by_person

    def begun() -> str:
        run = MlflowTracker(places().settings).start("ends", "a run", tags={})
        checked = read_recipe(Path(recipe("ends")))
        RunRecord(checked, DatasetRef("", "", False), run.ref, "a run", "cpu", 1).save(
            places().run_folder(run.ref.run_id)
        )
        run.finish("KILLED")
        return run.ref.run_id

    for raised, status, cut_off in (
        (TerminationSignal(signal.SIGTERM), "KILLED", "yes"),
        (KeyboardInterrupt(), "KILLED", ""),
        (ValueError(), "FAILED", ""),
    ):
        run_id = begun()
        with pytest.raises(type(raised)), opened(run_id, stopped_by_person):
            raise raised
        run = mlflow_run(run_id)
        assert (run.info.status, run.data.tags.get("process.cut_off", "")) == (status, cut_off)


def test_two_processes_never_work_on_one_run(home, recipe) -> None:
    from filelock import FileLock

    from components.runs.open_run import opened
    from components.runs.places import places

    folder = places().run_folder("0" * 32)
    folder.mkdir(parents=True)
    with (
        FileLock(folder / "run.lock"),
        pytest.raises(UserError, match="running in another process"),
        opened("0" * 32),
    ):
        raise AssertionError("not reached")


def test_reapers_side_by_side_close_each_dead_run_once_and_no_living_one(home, dead) -> None:
    from components.runs.places import places
    from components.tracking.mlflow_backend import MlflowTracker
    from flows.reaper import tidy

    tracker = MlflowTracker(places().settings)
    other = f"other-{machine_name()}/1/1"

    def start(owner: str) -> str:
        run = tracker.start("reaped", "a run", tags={"process": owner})
        run.flush()
        run._sampler and run._sampler.stop()
        run._sender.close(5.0)  # its journal is let go of, as by a death between two writes
        return run.ref.run_id

    gone = [start(dead) for _ in range(4)]
    reused = start(f"{identity()}0")
    alive = [start(identity()), start(other)]
    failures: list[BaseException] = []

    def reap() -> None:
        try:
            tidy()
        except BaseException as error:
            failures.append(error)

    reapers = [threading.Thread(target=reap) for _ in range(4)]
    for thread in reapers:
        thread.start()
    for thread in reapers:
        thread.join()
    assert not failures
    assert {mlflow_run(run_id).info.status for run_id in [*gone, reused]} == {"KILLED"}
    assert {mlflow_run(run_id).info.status for run_id in alive} == {"RUNNING"}
    waiting = {run.run_id for run in tracker.cut_off()}
    assert {*gone, reused} <= waiting
    assert not waiting & set(alive)


def test_a_dead_training_gives_its_slot_back_at_once(home, dead) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import ConcurrencyLeaseHolder
    from prefect.states import Running

    from flows.pipeline import training_tags
    from flows.reaper import OURS, PROCESS, tidy

    (tag,) = training_tags("cuda")
    assert machine_name() in tag
    held = f"tag:{tag}"
    with get_client(sync_client=True) as client:
        assert client.read_concurrency_limit_by_tag(tag).concurrency_limit == 1, "made when it was missing"

        @flow
        def lost() -> None: ...

        run = client.create_flow_run(lost, state=Running(), tags=[OURS, PROCESS + dead])
        task = client.create_task_run(_task(), run.id, "0", extra_tags=[tag], state=Running())
        holder = ConcurrencyLeaseHolder(type="task_run", id=task.id)
        reply = client.increment_concurrency_slots_with_lease([held], 1, "concurrency", 3600, holder)
        assert reply.status_code == 200
        assert client.read_concurrency_limit_by_tag(tag).active_slots == [task.id]
        assert str(run.id) in tidy().flow_runs
        assert client.read_concurrency_limit_by_tag(tag).active_slots == []
        assert client.read_task_run(task.id).state.is_crashed()
        client.create_concurrency_limit(tag, 3)
    assert training_tags("cuda") == {tag}
    with get_client(sync_client=True) as client:
        assert client.read_concurrency_limit_by_tag(tag).concurrency_limit == 3, "what a person set stays"


def test_no_limit_is_made_for_the_cpu(home) -> None:
    from prefect.client.orchestration import get_client

    from flows.pipeline import training_tags

    assert training_tags("cpu") == set(), "asking for a slot where nothing limits them costs most of a second"
    tag = f"training-cpu-{machine_name()}"
    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag, 1)
    assert training_tags("cpu") == {tag}, "a person's limit counts"


def _task():
    from prefect import task

    @task
    def train() -> None: ...

    return train


def test_a_flow_run_that_was_asked_to_cancel_and_died_is_cancelled(home, dead) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling, Running

    from flows.reaper import OURS, PROCESS, tidy

    @flow
    def lost() -> None: ...

    with get_client(sync_client=True) as client:
        asked = client.create_flow_run(lost, state=Cancelling(), tags=[OURS, PROCESS + dead])
        foreign = client.create_flow_run(lost, state=Running(), tags=[PROCESS + dead])
        alive = client.create_flow_run(lost, state=Running(), tags=[OURS, PROCESS + dead, PROCESS + identity()])
        unclaimed = client.create_flow_run(lost, state=Running(), tags=[OURS])
    assert tidy().flow_runs == [str(asked.id)]
    assert flow_run(asked.id).state.is_cancelled()
    for run in (foreign, alive, unclaimed):
        assert flow_run(run.id).state.is_running()
    assert os.getpid() == int(identity().split("/")[1])
