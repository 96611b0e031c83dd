"""Examples of an input and a target: encoded, stored, batched, learned and answered."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.base import Reader
from components.datasets.batches.examples import ExampleBatches, pad
from components.datasets.ingest import ingest
from components.datasets.store import Examples, Sequences, Store
from components.encodings.base import Field, encoding_from_state
from components.encodings.frames import Frames
from components.encodings.pair import Pair
from components.encodings.symbols import Labels, Symbols
from components.encodings.vocabulary import PAD, UNK
from components.errors import UserError
from components.models.pooled import Pooled
from components.recipe import Recipe
from components.registry import TABLE
from components.tasks.base import Tally
from components.tasks.classification import Classification, macro_f1
from components.tasks.tagging import Tagging
from components.training.session import Session

WORDS = ("red", "green", "blue", "white")


class Toy(Reader):
    """Sequences of colours. Target `count`: is there more red than blue; `last`: the colour before each step; `share`:
    how much of the sequence is red."""

    framing, pairs, own = "sequences", True, True

    def __init__(self, files, /, *, target: str = "count", frames: bool = False, count: int = 120) -> None:
        super().__init__(files)
        self.target, self.frames, self.count = target, frames, count

    def items(self) -> Iterator[tuple]:
        rng = np.random.default_rng(0)
        for _ in range(self.count):
            colours = [WORDS[i] for i in rng.integers(0, 4, rng.integers(1, 8))]
            red, blue = colours.count("red"), colours.count("blue")
            target = {
                "count": "more red" if red > blue else "not more",
                "last": ["", *colours[:-1]],
                "share": [red / len(colours)],
            }[self.target]
            yield (np.eye(4)[[WORDS.index(c) for c in colours]] if self.frames else colours), target

    def digest(self) -> str:
        return f"{self.target} {self.frames} {self.count}"


@pytest.fixture(autouse=True)
def toy(monkeypatch) -> None:
    monkeypatch.setitem(TABLE["reader"], "toy", f"{__name__}:Toy")


CASES = {
    "classification": ({"target": "count"}, {"kind": "symbols"}, {"kind": "labels"}),
    "tagging": ({"target": "last"}, {"kind": "symbols"}, {"kind": "labels"}),
    "regression": ({"target": "share", "frames": True}, {"kind": "frames"}, {"kind": "frames", "standardise": False}),
}


def recipe_for(task: str, **model) -> Recipe:
    data, inputs, target = CASES[task]
    return Recipe.from_dict(
        "toy",
        {
            "seed": 1,
            "data": {"reader": "toy", **data},
            "encoding": {"kind": "pair", "input": inputs, "target": target},
            "task": {"kind": task},
            "model": {"kind": "gru", "hidden_size": 16, "input": "one_hot", **model},
            "training": {"steps": 250, "batch_size": 16, "learning_rate": 2e-2, "warmup_steps": 0},
            "evaluation": {"every": 125},
        },
    )


def ingested(recipe: Recipe, tmp_path) -> Store:
    ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    return Store.open(ref.path)


@pytest.mark.slow
@pytest.mark.parametrize("task", CASES)
def test_every_task_on_examples_learns_its_toy(task, tmp_path, silent) -> None:
    recipe = recipe_for(task)
    store = ingested(recipe, tmp_path)
    session = Session(recipe, store, "cpu", 1)
    before = session.evaluate("test")
    progress = session.train(tmp_path / "run", silent)
    after = session.evaluate("test")
    assert progress.best_step > 0
    assert after.keys() == before.keys()
    if task == "regression":
        assert after["mse"] < 0.2 * session.task.baselines(store.split("train"), store.split("test"))["mean"]
    else:
        assert after["accuracy"] > 0.9
    answers = session.task.predict(session.model, [item for item, _ in Toy([], **CASES[task][0]).items()])
    assert len(answers) == 120
    findings = {finding.name: finding for finding in session.task.findings(session.model, store.split("test"))}
    columns = findings["predictions"].columns
    assert {len(column) for column in columns.values()} == {min(500, len(store.split("test")))}
    if task == "classification":
        assert findings["confusion"].values.sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
        assert np.mean(columns["right"]) == pytest.approx(after["accuracy"])


@pytest.mark.slow
@pytest.mark.parametrize("task", CASES)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2, "layer_norm": True}], ids=str)
def test_an_example_alone_is_answered_as_in_a_batch(task, options, tmp_path) -> None:
    recipe = recipe_for(task, **options)
    session = Session(recipe, ingested(recipe, tmp_path), "cpu", 1)
    items = [item for item, _ in Toy([], **CASES[task][0], count=30).items()]
    together = session.task.predict(session.model, items)
    alone = [session.task.predict(session.model, [item])[0] for item in items]
    for a, b in zip(together, alone, strict=True):
        if task == "classification":
            assert a["label"] == b["label"]
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)
        else:
            assert a == b if task == "tagging" else np.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_pooling_ignores_padding_and_every_parameter_gets_a_gradient(pooling, bidirectional) -> None:
    torch.manual_seed(0)
    model = Pooled(
        Field(width=3), 5, kind="gru", hidden_size=4, pooling=pooling, bidirectional=bidirectional, backend="by_hand"
    ).double()
    x, lengths = torch.randn(4, 6, 3, dtype=torch.float64), torch.tensor([6, 1, 3, 2])
    y = model(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(model(x[row : row + 1, :length], lengths[row : row + 1]), y[row : row + 1])
    y.pow(2).sum().backward()
    for name, parameter in model.named_parameters():
        last_only_shift = pooling == "attention" and name == "score.2.bias"  # a softmax doesn't see a common shift
        assert last_only_shift or parameter.grad.abs().max() > 0, name


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), size=st.integers(1, 9))
def test_every_example_is_in_an_epoch_once_and_the_order_is_the_seeds(lengths, size) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    examples = Examples({name: Sequences(np.arange(1, offsets[-1] + 1), offsets) for name in ("input", "target")})
    for training in (True, False):
        plan = [
            [
                batch.rows.tolist()
                for batch in ExampleBatches(examples, batch_size=size, seed=3, training=training).epoch(e)
            ]
            for e in (0, 0, 1)
        ]
        assert plan[0] == plan[1]
        assert sorted(row for rows in plan[2] for row in rows) == list(range(len(lengths)))
    batches = ExampleBatches(examples, batch_size=size, seed=3, training=True)
    for batch in batches.epoch():
        for slot, row in enumerate(batch.rows):
            assert batch.inputs[slot, : lengths[row]].tolist() == examples[row]["input"].tolist()
            assert not batch.inputs[slot, lengths[row] :].any()


def test_rows_of_like_length_meet() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    sequences = Sequences(np.ones(offsets[-1], dtype=np.int64), offsets)
    batches = ExampleBatches(Examples({"input": sequences, "target": sequences}), batch_size=32, seed=0, training=True)
    computed = sum(batch.inputs.shape[0] * batch.inputs.shape[1] for batch in batches.epoch())
    assert 1 - lengths.sum() / computed < 0.12


def test_macro_f1_is_the_mean_of_the_labels_f1() -> None:
    confusion = torch.tensor([[3.0, 1.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    # label 0: precision 3/5, recall 3/4; label 1: precision 4/5, recall 4/6; label 2 never occurs
    assert macro_f1(confusion, 10) == pytest.approx((2 * 3 / (5 + 4) + 2 * 4 / (5 + 6)) / 2)
    halves = Tally(confusion, 10, macro_f1) + Tally(confusion, 10, macro_f1)
    assert halves.value == pytest.approx(macro_f1(confusion, 10)), "sums are put together once"


def test_labels_unseen_in_training_are_never_right_and_empty_ones_do_not_count() -> None:
    labels = Labels()
    labels.fit(["a", ["b", ""]])
    assert labels.classes == ("a", "b")
    assert labels.encode(["a", "", "new"]).tolist() == [4, PAD, UNK]
    assert labels.decode([4, PAD, 5]) == ["a", "", "b"]


def test_frames_are_standardised_by_training_and_come_back() -> None:
    rng = np.random.default_rng(1)
    items = [rng.normal(5, [1, 10, 0], (n, 3)) for n in (2, 9, 30)]
    frames = Frames()
    frames.fit(items)
    together = np.concatenate([frames.encode(item) for item in items])
    assert together.mean(0) == pytest.approx([0, 0, 0], abs=1e-5)
    assert together.std(0) == pytest.approx([1, 1, 0], abs=1e-5)
    again = encoding_from_state(frames.state())
    assert (again.encode(items[1]) == frames.encode(items[1])).all()
    assert frames.decode(frames.encode(items[1])) == pytest.approx(items[1], abs=1e-4)
    for wrong in (np.zeros((2, 2)), np.full((1, 3), np.nan), np.zeros((1, 1, 3))):
        with pytest.raises(UserError):
            frames.encode(wrong)


def test_a_pair_is_rebuilt_from_its_state() -> None:
    pair = Pair(input={"kind": "symbols", "lowercase": True}, target={"kind": "frames"})
    items = [(["A", "b"], [1.0, 2.0]), (["c"], [3.0, 5.0])]
    pair.fit(items)
    again = encoding_from_state(pair.state())
    for item in items:
        for name, array in pair.encode(item).items():
            assert (again.encode(item)[name] == array).all()
    assert pair.fields == again.fields == {"input": Field(size=7), "target": Field(width=2)}
    assert isinstance(again.input, Symbols)


def test_pad_keeps_types_and_lengths() -> None:
    ids, lengths = pad([np.array([1, 2]), np.array([], dtype=np.int64)], Field(size=9))
    assert ids.tolist() == [[1, 2], [0, 0]]
    assert lengths.tolist() == [2, 0]
    frames, _ = pad([np.ones((1, 2)), np.ones((3, 2))], Field(width=2))
    assert frames.shape == (2, 3, 2)
    assert frames.dtype == np.float32


@pytest.mark.slow
def test_files_that_name_their_split_keep_it(tmp_path, monkeypatch) -> None:
    files = {}
    for split in ("train", "val", "test"):
        files[split] = tmp_path / f"{split}.txt"
        files[split].write_text("\n".join(f"{split} " + "x" * n for n in range(1, 30)), encoding="utf-8")
    words = {"kind": "characters"}

    def lines(**paths) -> dict[str, set[str]]:
        data = {
            "path": {split: str(path) for split, path in paths.items()},
            "reader": "lines",
            "split": [0.8, 0.2, 0.0],
        }
        store = Store.open(ingest(data, words, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path)
        return {
            s: {store.encoding().decode(ids).split()[0] for ids in store.split(s)} for s in ("train", "val", "test")
        }

    assert lines(**files)["train"] == {"train"}
    with_test = lines(train=files["train"], test=files["test"])
    assert with_test["val"] == {"train"}, "val is cut from train where no file is given"
    assert len(with_test["test"]) == 1


def test_sections_that_do_not_fit_together_are_told_at_once(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("abc" * 100, encoding="utf-8")
    values = {
        "data": {"path": str(tmp_path / "a.txt"), "reader": "text"},
        "encoding": {"kind": "pair", "input": {"kind": "charcters"}, "target": {"kind": "labels", "size": 3}},
        "task": {"kind": "language_model"},
        "model": {"kind": "lstm", "bidirectional": True},
    }
    with pytest.raises(UserError) as error:
        Recipe.from_dict("wrong", values)
    text = str(error.value)
    for part in (
        "encoding.input.kind: unknown encoding 'charcters'; did you mean 'characters'?",
        "encoding.target.size: unknown setting",
        "model.bidirectional: reads future steps",
    ):
        assert part in text
    values["encoding"] = {"kind": "characters"}
    values["task"] = {"kind": "tagging"}
    with pytest.raises(UserError, match="characters gives tokens, but the task tagging needs pairs"):
        Recipe.from_dict("wrong", values)


def test_a_sequence_and_its_tags_must_be_equally_long() -> None:
    pair = Pair(input={"kind": "symbols"}, target={"kind": "labels"})
    pair.fit([(["a"], ["b"])])
    fields = {
        "input": Sequences(np.array([4, 4]), np.array([0, 2])),
        "target": Sequences(np.array([4]), np.array([0, 1])),
    }
    with pytest.raises(UserError, match="2 steps but 1 labels"):
        Tagging(pair, "sequences").batches(Examples(fields), batch_size=2, window=8, seed=0, training=False)


def test_a_task_refuses_targets_of_another_form() -> None:
    pair = Pair(input={"kind": "symbols"}, target={"kind": "frames"})
    with pytest.raises(UserError, match="frames gives frames"):
        Classification(pair, "sequences")


@pytest.mark.slow
def test_an_empty_split_has_no_metrics_and_no_findings(tmp_path) -> None:
    recipe = recipe_for("classification")
    store = ingested(recipe, tmp_path)
    session = Session(recipe, store, "cpu", 1)
    empty = Examples({n: Sequences(f.tokens[:0], np.array([0])) for n, f in store.split("test").fields.items()})
    assert session.evaluator.evaluate(session.model, empty) == {}
    assert session.task.findings(session.model, empty) == []
    assert math.isnan(Tally(0.0, 0).value)
