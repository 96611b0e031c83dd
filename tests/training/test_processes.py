"""One training on several processes: what one process would give, and the same bits after a stop."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from native_fixtures import unexpected

from components.datasets.store import DatasetRef
from components.errors import UserError
from components.models.weights import read_tensors
from components.runs.evaluate import evaluate
from components.runs.open_run import opened
from components.runs.places import places
from components.runs.record import find_run, moved_to
from components.runs.train import begin_run, train
from components.training.session import Session

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

# imports once, then forks the processes of each training that a line asks for; the leader dies at update `stop`
LAUNCHER = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from components.recipe import Recipe
from components.datasets.store import Store
from components.training.processes import Ranks, local_store
from components.training.session import Session

def member(recipe, store, folder, size, rank, stop):
    class Listener:
        def metrics(self, values, step): pass
        def evaluated(self, values, step, improved): pass
        def progress(self, step, steps, values):
            if step == stop:
                os._exit(9)
    ranks = Ranks(local_store(Path(f"{folder}-{stop}.meeting"), size), rank, size)
    session = Session(Recipe.from_dict("small", recipe), Store.open(store), "cpu", 1)
    if rank:
        session.follow(Path(folder), ranks)
    else:
        session.train(Path(folder), Listener(), ranks)

for line in sys.stdin:
    *asked, size, stop = json.loads(line)
    children = []
    for rank in range(size):
        child = os.fork()
        if not child:
            try:
                member(*asked, size, rank, stop)
                os._exit(0)
            except BaseException as error:
                print(rank, repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        children.append(child)
    print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)
"""


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen, Path]]:
    said = tmp_path_factory.mktemp("launcher") / "stderr"
    with said.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(ROOT)], env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    with process:
        yield process, said
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.fixture
def together(launcher: tuple[subprocess.Popen, Path]) -> Callable[..., list[list[int]]]:
    """Train on so many processes, once for each of `stops`: the leader dies at that update, 0 for never. Gives the exit
    codes of each."""
    process, said = launcher

    def train(recipe, store, folder: Path, size: int, *stops: int) -> list[list[int]]:
        folder.mkdir()
        codes = []
        for stop in stops:
            print(
                json.dumps([recipe.as_dict(), str(store.path), str(folder), size, stop]), file=process.stdin, flush=True
            )
            codes.append([int(code) for code in process.stdout.readline().split()])
            assert codes[-1], said.read_text()
            assert any(codes[-1]) == bool(stop), said.read_text()
        return codes

    return train


def checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "checkpoint.safetensors")[0]


@pytest.mark.parametrize(
    ("framing", "sections"),
    [
        ("stream", {}),
        ("sequences", {"model": {"kind": "gru", "input": "one_hot"}}),
        ("sequences", {"training": {"batch_size": 2, "schedule": "plateau", "clip_norm": 0.05}}),
    ],
    ids=["stream", "ragged", "fewer rows than processes"],
)
def test_three_processes_give_what_one_gives(
    small_recipe, small_store, tmp_path, silent, together, framing, sections
) -> None:
    sections["model"] = {"dropout": 0.0, **sections.get("model", {})}
    sections["training"] = {"steps": 100, **sections.get("training", {})}
    recipe = small_recipe(framing, **sections)
    store = small_store(recipe)
    Session(recipe, store, "cpu", 1).train(tmp_path / "one", silent)
    together(recipe, store, tmp_path / "three", 3, 0)
    one, three = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "three")
    one_flat, three_flat = (
        torch.cat([values[name].flatten() for name in sorted(values) if name.startswith("model:")])
        for values in (one, three)
    )
    assert (one_flat - three_flat).norm() < 1e-5 * one_flat.norm()  # sums in another order, over 100 updates
    facts = [read_tensors(tmp_path / part / "checkpoint.safetensors")[1]["progress"] for part in ("one", "three")]
    assert facts[0]["tokens"] == facts[1]["tokens"]
    assert facts[0]["loss"] == pytest.approx(facts[1]["loss"], rel=1e-5)


def test_stopped_and_resumed_on_as_many_processes_gives_the_same_bits(
    small_recipe, small_store, tmp_path, together
) -> None:
    thawed = {"unfreeze": 6, "layer_rates": 0.5}  # a level at updates 7, 13 and 19
    recipe = small_recipe("stream", training={"checkpoint_seconds": 0.0, "averaging": 0.9, **thawed})
    store = small_store(recipe)
    together(recipe, store, tmp_path / "whole", 2, 0)
    *stopped, _ = together(recipe, store, tmp_path / "parts", 2, 1, 8, 17, 0)
    assert all(leader == 9 and other for leader, other in stopped), "the other process ends with the leader"
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert any(name.startswith("process 1/state:") for name in whole)
    assert not [name for name in whole if not torch.equal(whole[name], parts[name])]


def test_a_checkpoint_of_two_processes_is_not_gone_on_with_by_one(
    small_recipe, small_store, tmp_path, silent, together
) -> None:
    recipe = small_recipe("stream", training={"checkpoint_seconds": 0.0})
    store = small_store(recipe)
    together(recipe, store, tmp_path / "run", 2, 9)
    with pytest.raises(UserError, match="by a training with 2 processes, not 1") as caught:
        Session(recipe, store, "cpu", 1).train(tmp_path / "run", silent)
    assert "--processes 2" in caught.value.hint


@pytest.fixture
def own_home(database, tmp_path, monkeypatch) -> Path:
    shutil.copy(database, tmp_path / "mlflow.db")
    monkeypatch.setenv("REPRISE_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return tmp_path


def test_a_run_in_two_processes_is_tracked_as_one(own_home, small_recipe, small_store) -> None:
    recipe = small_recipe(training={"steps": 30})
    store = small_store(recipe)
    dataset = DatasetRef(str(store.path), store.manifest["digests"]["content"], reused=False)
    runs = [begin_run(recipe, dataset, "cpu", 2, processes) for processes in (1, 2)]
    found = []
    for run in runs:
        with opened(run):
            train(run)
            found.append(evaluate(run)["val/nats_per_char"])
    assert found[1] == pytest.approx(found[0], abs=0.1)  # other dropout
    assert unexpected((runs[1].folder / "process-1.log").read_text()) == [], "the other process ended quietly"
    with pytest.raises(UserError, match="with 2 processes, not 1"):
        runs[1].session().train(runs[1].folder, None)


def test_why_another_process_broke_off_is_told(own_home, small_recipe, small_store, monkeypatch) -> None:
    recipe = small_recipe()
    store = small_store(recipe)
    dataset = DatasetRef(str(store.path), store.manifest["digests"]["content"], reused=False)
    run = begin_run(recipe, dataset, "cpu", 2, 2)
    monkeypatch.setenv("REPRISE_HOME", str(own_home / "another"))
    with (
        pytest.raises(RuntimeError, match=r"in 2 processes failed \(process 1: .*isn't a valid record of a run"),
        opened(run),
    ):
        train(run)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_run_that_began_on_a_gpu_says_how_it_goes_on_without_one(own_home, small_recipe, small_store) -> None:
    recipe = small_recipe(training={"steps": 4})
    store = small_store(recipe)
    dataset = DatasetRef(str(store.path), store.manifest["digests"]["content"], reused=False)
    run = begin_run(recipe, dataset, "cpu", 1)
    replace(run.record, device="cuda").save(run.folder)
    with pytest.raises(UserError, match="started on cuda, and torch sees no GPU here") as caught:
        moved_to(find_run(run.id, places()), "")
    assert f"reprise resume {run.id[:8]} --device cpu" in caught.value.hint
    assert moved_to(find_run(run.id, places()), "cpu").device == "cpu"
    assert find_run(run.id, places()).device == "cpu"
    with opened(run.id) as again:
        assert train(again) == "all 4 updates done"
