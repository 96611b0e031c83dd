"""Rare labels: weights of the loss, balanced sampling, and what of both doesn't change the metrics."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.bundle import make_task
from components.datasets.batches.examples import balanced
from components.datasets.ingest import ingest
from components.datasets.store import Examples, Sequences, Store
from components.encodings.pair import Pair
from components.encodings.vocabulary import SPECIALS
from components.errors import UserError
from components.models.weights import read_tensors
from components.recipe import Recipe
from components.tasks.classification import balanced_weights
from components.training.session import Session

ROWS = [
    (f"{word} {'x ' * (n % 3)}".strip(), word) for word, count in (("a", 40), ("b", 12), ("c", 8)) for n in range(count)
]
ENCODING = {"kind": "pair", "input": {"kind": "symbols"}, "target": {"kind": "labels"}}


def small(folder: Path, task: dict, **training) -> tuple[Recipe, Store]:
    """A recipe on 60 examples: 40 of a, 12 of b, 8 of c."""
    file = folder / "rows.csv"
    file.write_text("text,label\n" + "\n".join(f"{text} {n},{label}" for n, (text, label) in enumerate(ROWS)))
    values = {
        "seed": 3,
        "data": {"path": str(file), "reader": "table", "split": [0.8, 0.1, 0.1]},
        "encoding": ENCODING,
        "task": {"kind": "classification", **task},
        "model": {"kind": "gru", "hidden_size": 6, "dropout": 0.2},
        "training": {"steps": 12, "batch_size": 16, "checkpoint_seconds": 0.0, "warmup_steps": 0, **training},
        "evaluation": {"every": 5},
    }
    recipe = Recipe.from_dict("small", values)
    ref = ingest(recipe.data, recipe.encoding, root=folder, cache_dir=folder / "cache", seed=0)
    return recipe, Store.open(ref.path)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([4] * 40 + [5] * 12 + [7] * 8)
    weights = balanced_weights(labels, 9)
    assert weights[[4, 5, 7]].tolist() == pytest.approx([0.5, 5 / 3, 2.5])  # compute_class_weight("balanced", …)
    assert weights[labels].mean() == pytest.approx(1.0)
    assert not weights[[0, 1, 2, 3, 6, 8]].any()


@pytest.mark.slow
def test_a_weight_of_three_is_an_example_three_times(tmp_path) -> None:
    recipe, store = small(tmp_path, {"class_weights": {"b": 3.0}})
    session = Session(recipe, store, "cpu", 1)
    plain = make_task({"kind": "classification"}, store.encoding(), "sequences")
    (batch,) = plain.batches(store.split("val"), batch_size=99, window=0, seed=0, training=False).epoch()
    session.model.eval()
    outputs, targets, lengths_B = plain.outputs(session.model, batch)
    b = len(SPECIALS) + 1
    times_B = 1 + 2 * (targets[:, 0] == b)
    assert 0 < int((times_B == 3).sum()) < len(times_B)
    brute = plain.tally(outputs.repeat_interleave(times_B, 0), targets.repeat_interleave(times_B, 0), lengths_B)
    tally, _ = session.task.loss(session.model, batch, None)
    assert tally.total.item() == pytest.approx(brute.total.item(), rel=1e-6)
    assert tally.count == len(targets), "examples are counted, not weights"
    measured, _ = session.task.measure(session.model, batch, None)
    unweighted, _ = plain.measure(session.model, batch, None)
    assert {name: one.value for name, one in measured.items()} == {name: one.value for name, one in unweighted.items()}
    assert "weighted" in session.task.loss_unit
    assert "weighted" not in plain.loss_unit
    assert session.notes == ["training loss weighted by label: a 1 · b 3 · c 1; metrics aren't weighted"]


@given(st.lists(st.integers(4, 9), min_size=1, max_size=80), st.integers(0, 99))
def test_balanced_sampling_draws_every_class_and_every_row_of_it_equally_often(classes, seed) -> None:
    labels = np.array(classes)
    drawn = balanced(labels, np.random.default_rng(seed))
    assert len(drawn) == len(labels), "an epoch keeps its length"
    counts = Counter(labels[drawn].tolist())
    assert max(counts.values()) - min((counts[one] for one in set(classes)), default=0) <= 1
    rows = np.bincount(drawn, minlength=len(labels))
    for one in set(classes):
        assert np.ptp(rows[labels == one]) <= 1
    assert np.array_equal(drawn, balanced(labels, np.random.default_rng(seed)))


@pytest.mark.slow
def test_batches_are_balanced_in_training_alone_and_the_default_is_what_it_was(tmp_path) -> None:
    recipe, store = small(tmp_path, {"sampling": "balanced"})
    train: Examples = store.split("train")
    about = {"batch_size": 8, "window": 0, "seed": 3}
    fair = Session(recipe, store, "cpu", 1).task.batches(train, training=True, **about)
    labels = [np.concatenate([batch.targets[:, 0] for batch in fair.epoch(epoch)]) for epoch in range(2)]
    assert all(np.ptp(np.bincount(each)[len(SPECIALS) :]) <= 1 for each in labels)
    assert [batch.rows.tolist() for batch in fair.epoch(0)] != [batch.rows.tolist() for batch in fair.epoch(1)]
    every = Session(recipe, store, "cpu", 1).task.batches(train, training=False, **about)
    assert sorted(row for batch in every.epoch() for row in batch.rows) == list(range(len(train)))
    plain = make_task({"kind": "classification"}, store.encoding(), "sequences")
    rows = [batch.rows for batch in plain.batches(train, training=True, **about).epoch(1)]
    lengths = train.fields["input"].lengths + 1 / 2
    rng = np.random.default_rng([3, 1])
    shuffled = rng.permutation(len(lengths))
    order = shuffled[np.argsort((lengths * rng.uniform(0.9, 1.1, len(lengths)))[shuffled], kind="stable")]
    groups = [order[at : at + 8] for at in range(0, len(order), 8)]
    assert all(map(np.array_equal, rows, [groups[at] for at in rng.permutation(len(groups))]))


class Stop(Exception):
    """An interruption."""


@pytest.mark.slow
@pytest.mark.parametrize("task", [{"sampling": "balanced"}, {"class_weights": "balanced"}], ids=str)
def test_training_resumes_bit_for_bit(tmp_path, silent, task) -> None:
    recipe, store = small(tmp_path, task)
    Session(recipe, store, "cpu", 1).train(tmp_path / "whole", silent)
    for stop in (2, 7, 11):
        listener = type(silent)()

        def progress(at: int, steps: int, values: dict, stop: int = stop) -> None:
            assert math.isnan(values["loss"]) or values["loss"] > 0
            if at == stop:
                raise Stop

        listener.progress = progress
        with pytest.raises(Stop):
            Session(recipe, store, "cpu", 1).train(tmp_path / "parts", listener)
    Session(recipe, store, "cpu", 1).train(tmp_path / "parts", type(silent)())
    whole, parts = (read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_makes_no_sense_is_refused() -> None:
    encoding = Pair(input={"kind": "symbols"}, target={"kind": "labels"})
    encoding.fit(ROWS)
    with pytest.raises(UserError, match="weighted twice"):
        make_task(
            {"kind": "classification", "class_weights": "balanced", "sampling": "balanced"}, encoding, "sequences"
        )
    task = make_task({"kind": "classification", "class_weights": {"bb": 2.0}}, encoding, "sequences")
    with pytest.raises(UserError, match="Did you mean 'b'"):
        task.prepare(Examples({}))
    arrays = [Sequences(np.array([4, 5, 4]), np.array(ends)) for ends in ([0, 1, 3], [0, 1, 3])]
    split = Examples(dict(zip(("input", "target"), arrays, strict=True)))
    with pytest.raises(UserError, match="gives 2 tokens for a label, but this task predicts one"):
        task.batches(split, batch_size=1, window=0, seed=0, training=False)
    values = {"encoding": ENCODING, "data": {"path": "x.csv", "reader": "table"}}
    values["task"] = {"kind": "classification", "class_weights": {"a": -1.0}}
    with pytest.raises(UserError, match=r"1 problem[^$]*task\.class_weights\.a: input should be greater than 0"):
        Recipe.from_dict("x", values)
