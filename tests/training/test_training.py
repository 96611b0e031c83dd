"""The training loop: it learns, refuses what isn't finite, and resumes bit for bit."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from components.errors import UserError
from components.models.weights import read_tensors, weights
from components.registry import names
from components.tasks.base import Tally
from components.training.session import Session
from components.training.trainer import GIVE_UP_AFTER


class Stop(Exception):
    """An interruption at a chosen step."""


def stopping_at(listener, step: int):
    def progress(at: int, steps: int, values: dict[str, float]) -> None:
        if at == step:
            raise Stop

    listener.progress = progress
    return listener


def trained(recipe, store, folder: Path, listener) -> dict[str, torch.Tensor]:
    session = Session(recipe, store, "cpu", 1)
    session.train(folder, listener)
    tensors, _ = read_tensors(folder / "checkpoint.safetensors")
    return tensors


def assert_identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["sequences", "stream"])
@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"kind": "lstm"}},
        {"model": {"kind": "gru", "input": "one_hot"}, "training": {"schedule": "plateau", "plateau_patience": 1}},
        {"model": {"kind": "rnn", "backend": "by_hand"}, "training": {"optimizer": "sgd", "momentum": 0.9}},
        {"model": {"kind": "lstm"}, "training": {"precision": "bfloat16"}},
        {"model": {"kind": "gru"}, "training": {"averaging": 0.9}},
        {
            "model": {"kind": "lstm", "embedding_dropout": 0.3},
            "task": {"activation_regularization": 2.0, "temporal_activation_regularization": 1.0},
            "training": {"averaging": "triggered", "averaging_patience": 0, "learning_rate": 0.5},
        },
        {"model": {"kind": "lstm"}, "training": {"unfreeze": 7, "layer_rates": 0.4, "freeze": ["head.bias"]}},
        {"model": {"kind": "gru", "softmax": "sampled", "samples": 9}, "training": {"sparse_rows": True}},
    ],
    ids=[
        "lstm",
        "gru-one-hot-plateau",
        "rnn-by-hand-sgd",
        "lstm-bfloat16",
        "gru-averaged",
        "awd",
        "lstm-unfrozen",
        "gru-rows",
    ],
)
def test_resuming_is_bit_identical(small_recipe, small_store, tmp_path, silent, framing, sections) -> None:
    sections = {**sections, "training": {"checkpoint_seconds": 0.0, **sections.get("training", {})}}
    recipe = small_recipe(framing, **sections)
    store = small_store(recipe)
    whole = trained(recipe, store, tmp_path / "whole", silent)
    for step in (1, 7, 8, 20):  # beside, before, at and after an evaluation
        with pytest.raises(Stop):
            trained(recipe, store, tmp_path / "parts", stopping_at(type(silent)(), step))
    assert_identical(whole, trained(recipe, store, tmp_path / "parts", type(silent)()))
    best = [read_tensors(tmp_path / part / "best.safetensors")[0] for part in ("whole", "parts")]
    assert_identical(*best)


CHILD = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from components.recipe import Recipe
from components.datasets.store import Store
from components.training.session import Session
class Listener:
    def metrics(self, values, step): pass
    def evaluated(self, values, step, improved): pass
    def progress(self, step, steps, values): print(step, flush=True)
recipe = Recipe.from_dict("small", json.loads(Path(sys.argv[2]).read_text()))
for _ in sys.stdin:  # a training, in a process of its own: what takes seconds to import is imported once
    if not (child := os.fork()):
        print(os.getpid(), flush=True)
        Session(recipe, Store.open(sys.argv[3]), "cpu", 1).train(Path(sys.argv[4]), Listener())
        assert "torch._dynamo" not in sys.modules, "its import takes seconds"
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_killed_with_9_at_any_moment_and_resumed_gives_the_same_weights(
    small_recipe, small_store, tmp_path, silent
) -> None:
    recipe = small_recipe(training={"steps": 60, "checkpoint_seconds": 0.0})
    store = small_store(recipe)
    whole = trained(recipe, store, tmp_path / "whole", silent)
    description = tmp_path / "recipe.json"
    description.write_text(json.dumps(recipe.as_dict()))
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", CHILD, str(root), str(description), str(store.path), str(tmp_path / "parts")]
    ended = []
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / ".checkpoint.safetensors.99999").write_bytes(b"cut off in the middle")
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own) as process:
        for kill_after in (1, 17, 40, None):  # lines of progress; a kill comes anywhere in the update after
            print("train", file=process.stdin, flush=True)
            child = int(process.stdout.readline())
            for count, line in enumerate(process.stdout, 1):
                if "ended" in line:  # behind a number, if the kill cut its line off
                    ended.append(int(line.split()[-1]))
                    break
                if count == kill_after:
                    time.sleep(0.002 * kill_after % 0.01)
                    os.kill(child, signal.SIGKILL)
    assert ended == [-signal.SIGKILL] * 3 + [0]
    assert_identical(whole, read_tensors(tmp_path / "parts" / "checkpoint.safetensors")[0])
    left = {path.name for path in (tmp_path / "parts").iterdir()}
    assert left == {"checkpoint.safetensors", "best.safetensors", "gradients.jsonl"}, "nothing half-written stays"


@pytest.mark.slow
@pytest.mark.parametrize("kind", names("cell"))
@pytest.mark.parametrize("input", ["embedding", "one_hot"])
def test_every_cell_learns_a_text_by_heart(small_recipe, small_store, tmp_path, silent, kind, input) -> None:
    recipe = small_recipe(
        "stream",
        model={"kind": kind, "hidden_size": 32, "num_layers": 1, "dropout": 0.0, "input": input},
        training={"steps": 110, "tbptt_length": 20, "learning_rate": 3e-2},
        evaluation={"every": 110},
    )
    session = Session(recipe, small_store(recipe), "cpu", 1)
    session.train(tmp_path / "run", silent)
    assert session.evaluate("test")["nats_per_char"] < 0.25


@pytest.mark.slow
def test_an_update_that_is_not_finite_is_refused_and_training_goes_on(
    small_recipe, small_store, tmp_path, silent
) -> None:
    recipe = small_recipe()
    session = Session(recipe, small_store(recipe), "cpu", 1)
    real, calls = session.task.loss, []

    def loss(model, batch, state):
        tally, state = real(model, batch, state)
        calls.append({name: value.clone() for name, value in weights(model).items()})
        return (Tally(tally.total * math.nan, tally.count) if len(calls) == 3 else tally), state

    session.task.loss = loss
    progress = session.train(tmp_path / "run", silent)
    assert progress.skipped == 1
    assert all(torch.equal(calls[2][name], calls[3][name]) for name in calls[2]), "the bad update was taken"
    assert any(not torch.equal(calls[3][name], calls[4][name]) for name in calls[3])
    assert all(torch.isfinite(value).all() for value in weights(session.model).values())


@pytest.mark.slow
def test_a_loss_that_stays_nan_ends_with_a_message_and_the_last_good_state(
    small_recipe, small_store, tmp_path, silent
) -> None:
    recipe = small_recipe(training={"checkpoint_seconds": 0.0, "steps": 200})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    real, calls = session.task.loss, []

    def loss(model, batch, state):
        calls.append(1)
        tally, state = real(model, batch, state)
        return (Tally(tally.total * math.inf, tally.count) if len(calls) > 10 else tally), state

    session.task.loss = loss
    with pytest.raises(UserError, match=f"NaN or .* {GIVE_UP_AFTER} updates in a row.*last good state") as caught:
        session.train(tmp_path / "run", silent)
    assert "learning_rate" in caught.value.hint
    tensors, _ = read_tensors(tmp_path / "run" / "checkpoint.safetensors")
    assert all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point())


@pytest.mark.slow
def test_a_loss_that_is_nan_from_the_start_names_no_file_that_is_not_there(
    small_recipe, small_store, tmp_path, silent
) -> None:
    recipe = small_recipe(training={"checkpoint_seconds": 1e6, "steps": 200}, evaluation={"every": 1000})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    real = session.task.loss

    def loss(model, batch, state):
        tally, state = real(model, batch, state)
        return Tally(tally.total * math.inf, tally.count), state

    session.task.loss = loss
    with pytest.raises(UserError, match="no earlier state was saved"):
        session.train(tmp_path / "run", silent)


@pytest.mark.slow
def test_settings_that_need_val_are_told_where_the_files_give_none(small_recipe, small_store) -> None:
    for split, expected in (([0.8, 0.0, 0.2], True), ([0.6, 0.2, 0.2], False)):
        settings = {"patience": 2, "schedule": "plateau", "momentum": 0.5}
        recipe = small_recipe(data={"split": split}, training=settings)
        notes = Session(recipe, small_store(recipe), "cpu", 1).notes
        told = "warning: no effect without val: training.patience, training.schedule" in notes
        assert told is expected
        assert "warning: training.momentum: has no effect, since it needs optimizer: sgd" in notes


@pytest.mark.slow
def test_val_that_is_never_a_number_is_never_the_best(small_recipe, small_store, tmp_path) -> None:
    recipe = small_recipe(training={"steps": 4}, evaluation={"every": 2})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    session.evaluate = lambda split: {session.task.primary: math.nan}
    said = []

    class Listener:
        def metrics(self, values, step): ...

        def progress(self, step, steps, values): ...

        def evaluated(self, values, step, improved):
            said.append(improved)

    with pytest.raises(UserError, match="was NaN or infinite in every evaluation"):
        session.train(tmp_path / "run", Listener())
    assert said == [False, False]


@pytest.mark.slow
def test_without_val_the_last_weights_are_kept_and_nothing_is_called_the_best(
    small_recipe, small_store, tmp_path, capsys
) -> None:
    from components.runs.train import _Listener

    class NoRun:
        taken_over = None

        def metrics(self, values, step): ...

    recipe = small_recipe(data={"split": [0.8, 0.0, 0.2]}, training={"steps": 4}, evaluation={"every": 2})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    progress = session.train(tmp_path / "run", _Listener(NoRun(), lambda step, words: None))
    assert not math.isfinite(progress.best)
    assert progress.best_step == 4
    assert "best" not in capsys.readouterr().out


@pytest.mark.slow
def test_training_stops_when_it_gets_no_better(small_recipe, small_store, tmp_path, silent) -> None:
    recipe = small_recipe(training={"steps": 5000, "patience": 2, "learning_rate": 0.5}, evaluation={"every": 4})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    progress = session.train(tmp_path / "run", silent)
    assert progress.stopped == "no improvement for 2 evaluations"
    assert progress.global_step < 5000
    best = min(values["nats_per_char"] for _, values in silent.evaluations)
    assert session.evaluate("val")["nats_per_char"] == pytest.approx(best, abs=1e-9), "the best weights are kept"


@pytest.mark.slow
def test_evaluation_is_every_token_once(small_recipe, small_store) -> None:
    """Batched, windowed, padded, carried: the same as one sequence after the other."""
    recipe = small_recipe(evaluation={"batch_size": 5, "window": 3})
    store = small_store(recipe)
    session = Session(recipe, store, "cpu", 1)
    session.model.eval()
    total = count = 0
    for ids in store.split("train"):
        ids = torch.tensor(ids.astype("int64"))
        logits, _ = session.model(ids[None, :-1, None])
        total += torch.nn.functional.cross_entropy(logits[0], ids[1:], reduction="sum").item()
        count += len(ids) - 1
    values = session.evaluate("train")
    assert values["nats_per_char"] == pytest.approx(total / count, rel=1e-5)
    assert values["bits_per_char"] == pytest.approx(total / count / math.log(2), rel=1e-5)
    assert values["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)


@pytest.mark.slow
def test_curves_are_told_once_however_often_training_is_cut_off(small_recipe, small_store, tmp_path, silent) -> None:
    recipe = small_recipe(training={"steps": 60, "checkpoint_seconds": 1000.0}, evaluation={"every": 20})
    store = small_store(recipe)
    told = []
    for step in (30, 45, None):
        listener = type(silent)()
        if step:
            with pytest.raises(Stop):
                trained(recipe, store, tmp_path / "run", stopping_at(listener, step))
        else:
            trained(recipe, store, tmp_path / "run", listener)
        told += [(at, name) for values, at in listener.points for name in values]
    assert len(told) == len(set(told))
    assert {at for at, name in told if name == "train/loss"} == {25, 50}
    assert {at for at, name in told if name == "val/nats_per_char"} == {20, 40, 60}


@pytest.mark.slow
def test_a_damaged_checkpoint_is_a_message(small_recipe, small_store, tmp_path, silent) -> None:
    recipe = small_recipe()
    store = small_store(recipe)
    trained(recipe, store, tmp_path / "run", silent)
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        trained(recipe, store, tmp_path / "run", silent)
