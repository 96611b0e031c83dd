"""Numbers keep their digits and their units: targets, errors, answers and their files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from components.bundle import Bundle, load_bundle, save_bundle
from components.datasets.ingest import ingest
from components.datasets.series.labelled import SeriesRowsReader
from components.datasets.store import Examples, Sequences, Store
from components.encodings.base import encoding_from_state
from components.encodings.frames import Frames
from components.encodings.pair import Pair
from components.errors import UserError
from components.recipe import Recipe
from components.render.figures import figure
from components.tasks.regression import Regression
from components.training.session import Session
from components.use.files import reader_for
from components.use.table import cells, predict_file

EPOCH = 1_699_999_000.0  # seconds: float32 keeps such numbers to 128


def fitted(items, **options) -> Frames:
    frames = Frames(**options)
    frames.fit(items)
    return frames


def test_large_numbers_keep_their_digits() -> None:
    values = [[EPOCH + n + n % 3 / 8] for n in range(90)]
    frames = fitted(values)
    assert frames.deviation_W == pytest.approx(np.std(values), rel=1e-9)
    again = encoding_from_state(frames.state())
    for value in values:
        assert again.rounded(again.encode(value))[0] == pytest.approx(value, abs=1e-5)
    assert fitted([[0.1], [0.1], [0.1]]).deviation_W.tolist() == [1.0]
    assert fitted([[EPOCH], [EPOCH]]).rounded(np.zeros((1, 1), np.float32)) == [[EPOCH]]


def test_numbers_that_float32_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(UserError, match=r"near 1699999089 to 128(.|\n)*standardise: true"):
        fitted([[EPOCH + n] for n in range(90)], standardise=False)
    assert fitted([[2.0**24 + 1000 * n] for n in range(90)], standardise=False).steps == (1, 1)


@pytest.mark.parametrize(("wrong", "said"), [("up", "'up' isn't a number"), ([float("inf")], "finite"), ({}, "table")])
def test_what_is_no_number_is_refused(wrong, said) -> None:
    with pytest.raises(UserError, match=said):
        fitted([wrong])


@pytest.mark.parametrize(
    ("value", "digits"), [(1234567.8, [1234567.8]), (0.1, [0.1]), (1e-7, [1e-7]), (3.0, [3.0]), (0.0, [0.0])]
)
def test_an_answer_has_the_digits_that_float32_has(value, digits) -> None:
    frames = fitted([[0.0], [1e4]], standardise=False)
    assert frames.rounded(np.array([[value]], np.float32)) == [digits]


def test_answers_are_written_with_all_their_digits() -> None:
    assert cells({"values": [1234567.8, 1700000050.25, 0.1, 3.0]}) == {"predicted": "1234567.8 1700000050.25 0.1 3"}
    assert [figure(value) for value in (833.25, 0.0417, 0.00412, 2.3e-8, 0.0, float("nan"))] == [
        *("833.2500", "0.0417", "0.00412", "2.3e-08", "0.0000", "nan"),
    ]


def regression(targets: np.ndarray, **options) -> tuple[Regression, Examples]:
    pair = Pair(input={"kind": "frames"}, target={"kind": "frames", **options})
    items = [(np.zeros((2, 1)), target) for target in targets]
    pair.fit(items)
    encoded = [pair.encode(item) for item in items]
    fields = {
        name: Sequences(np.concatenate([one[name] for one in encoded]), np.arange(len(items) + 1) * steps)
        for name, steps in (("input", 2), ("target", 1))
    }
    return Regression(pair, "sequences"), Examples(fields)


@pytest.mark.parametrize("standardise", [True, False])
def test_errors_are_in_the_units_of_the_data(standardise) -> None:
    targets = np.arange(10.0)[:, None] * 50 + 1000
    task, split = regression(targets, standardise=standardise)
    wanted = torch.from_numpy(split.fields["target"].tokens[:, None])
    said = torch.from_numpy(task.encoding.target.encode(targets + 3))
    found = {name: tally.value for name, tally in task.metrics(said, wanted, torch.tensor([2])).items()}
    assert found["mse"] == pytest.approx(9, rel=1e-4)
    assert found["mae"] == pytest.approx(3, rel=1e-4)
    assert task.baselines(split, split)["mean"] == pytest.approx(targets.var(), rel=1e-5)
    assert task.primary == "mse"
    assert ("standardised_mse" in found) == standardise
    if standardise:
        assert found["standardised_mse"] == pytest.approx(9 / targets.var(), rel=1e-4)
        assert task.loss_unit == task.measured_in == "standardised squared error"


def test_numbers_of_several_units_are_judged_standardised() -> None:
    targets = np.stack([np.arange(10.0), np.arange(10.0) * 1e6], axis=1)
    task, split = regression(targets)
    assert task.primary == "standardised_mse"
    assert task.baselines(split, split)["mean"] == pytest.approx(1.0, rel=1e-5)


def test_regression_refuses_targets_that_are_no_list_of_numbers() -> None:
    task, split = regression(np.arange(4.0)[:, None])
    split.fields["target"] = Sequences(split.fields["target"].tokens, np.array([0, 3, 4]))
    with pytest.raises(UserError, match="a target of 3 frames"):
        task.batches(split, batch_size=1, window=1, seed=0, training=False)
    for kind in ("pictures", "motion"):
        with pytest.raises(UserError, match="needs the target encoding"):
            Regression(Pair(input={"kind": "frames"}, target={"kind": kind}), "sequences")


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> Bundle:
    """Five numbers one after another, and the next."""
    folder = tmp_path_factory.mktemp("line")
    starts = np.random.default_rng(0).uniform(0, 10, 80)
    rows = [",".join(f"{start + step:.3f}" for step in range(6)) for start in starts]
    (folder / "line.csv").write_text("\n".join(rows), encoding="utf-8")
    recipe = Recipe.from_dict(
        "line",
        {
            "data": {"path": str(folder / "line.csv"), "reader": "series-rows"},
            "encoding": {"kind": "pair", "input": {"kind": "frames"}, "target": {"kind": "frames"}},
            "task": {"kind": "regression"},
            "model": {"kind": "gru", "hidden_size": 4},
        },
    )
    store = Store.open(ingest(recipe.data, recipe.encoding, root=folder, cache_dir=folder / "c", seed=0).path)
    session = Session(recipe, store, "cpu", 1)
    save_bundle(folder / "b", "line", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"})
    return load_bundle(folder / "b")


def asked(bundle: Bundle, path: Path, content: str) -> list[dict[str, str]]:
    path.write_text(content, encoding="utf-8")
    out = path.with_name("answers.csv")
    predict_file(bundle, reader_for(path, bundle.recipe["data"]), out)
    return list(csv.DictReader(out.open(encoding="utf-8")))


@pytest.mark.slow
def test_a_row_without_a_label_is_never_read_with_its_newest_value_as_one(line, tmp_path) -> None:
    rows = asked(line, tmp_path / "x.csv", "1,2,3,4,5\n1,2,3,4,5,0\n1,2,3,4,5,\n2,3,4,5\n0,1,2,3,4,5,6\n")
    assert [row["problem"] for row in rows] == [
        *("", "", ""),
        "it has 4 frames, but all series that the model was trained on have 5",
        "it has 7 frames, but all series that the model was trained on have 5",
    ]
    assert len({row["predicted"] for row in rows[:3]}) == 1
    assert rows[3]["predicted"] == ""


def test_other_doors_refuse_series_of_another_length_too(line) -> None:
    assert len(line.predict([np.zeros((5, 1))])) == 1
    with pytest.raises(UserError, match=r"item 2 of 2: it has 6 frames, but all series"):
        line.predict([np.zeros((5, 1)), np.zeros((6, 1))])


def test_where_lengths_differ_a_last_number_that_may_be_a_label_is_refused(tmp_path) -> None:
    (tmp_path / "x.csv").write_text("1,2,3\n1,2,3,\n1,2,up\n1,2,?\n", encoding="utf-8")
    reader = SeriesRowsReader([tmp_path / "x.csv"])
    reader.trained_steps = (2, 9)
    rows = list(reader.inputs())
    assert [bool(row.problem) for row in rows] == [True, False, False, True]
    assert "end the row with a comma" in rows[0].problem
    assert [row.input.ravel().tolist() for row in rows[1:3]] == [[1, 2, 3], [1, 2]]
