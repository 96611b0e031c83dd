"""The ranking of what was compared and its picture: by the mean on val, never by test, failed runs told."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from PIL import Image, ImageColor

from components.evaluation import compare as table
from components.evaluation.compare import Result, leaderboard
from components.runs.ranking import best_run


def result(name: str, seed: int, val: float, test: float = 1.0, **more: object) -> Result:
    history = [
        {"step": i, "tokens": 100.0 * i, "seconds": i / 2, "train": 0.0, "val": val + 1 / i} for i in range(1, 6)
    ]
    about = {"seconds": 2.5, "tokens": 500.0, "parameters": 10, "history": history, **more}
    metrics = {} if about.get("failed") else {"val/x": val, "test/x": test}
    return Result(name, {"a": name}, seed, f"id-{name}-{seed}", metrics=metrics, **about)


def test_settings_are_ranked_by_the_mean_on_val_and_never_by_test() -> None:
    runs = [result("a", 0, 2.0, 0.1), result("b", 0, 1.0, 9.0), result("a", 1, 1.5, 0.2), result("b", 1, 1.2, 8.0)]
    rows = leaderboard(runs, "x")
    assert [row.label for row in rows] == ["b", "a"]
    assert rows[0].val == pytest.approx(1.1)
    assert rows[0].val_sd == pytest.approx(statistics.stdev([1.0, 1.2]))
    assert rows[1].test == pytest.approx(0.15)
    assert rows[0].tokens_per_second == pytest.approx(200.0)
    assert [row.label for row in leaderboard(runs, "x", lower=False)] == ["a", "b"]


@pytest.mark.parametrize(("lower", "seed"), [(True, 1), (False, 2)])
def test_a_run_without_a_figure_on_val_is_never_the_best(lower, seed) -> None:
    runs = [result("a", number, val) for number, val in enumerate((math.nan, 1.0, 2.0))]
    unmeasured = Result("a", {"a": "a"}, 3, "id", metrics={"test/x": 1.0})
    (row,) = leaderboard([*runs, unmeasured], "x", lower=lower)
    assert best_run(row, "x", lower).seed == seed
    (row,) = leaderboard([unmeasured], "x", lower=lower)
    assert best_run(row, "x", lower) is None


def test_a_failed_run_counts_in_no_mean_and_is_shown_with_its_reason() -> None:
    lost = result("a", 1, 0.0, failed="loss was not finite")
    gone = [result("c", seed, 0.0, failed="killed") for seed in (0, 1)]
    rows = leaderboard([result("a", 0, 1.0), lost, result("b", 0, 2.0), result("b", 1, 3.0), *gone], "x")
    assert [row.label for row in rows] == ["a", "b", "c"]
    assert rows[0].val == 1.0
    assert math.isnan(rows[0].val_sd), "one run has no spread"
    columns = table.columns(rows, "x")
    assert columns["runs"] == [1, 2, 0]
    assert columns["failed"] == [1, 0, 2]
    assert columns["why failed"][0] == "seed 1: loss was not finite"
    assert len({len(column) for column in columns.values()}) == 1
    _, cells = table.cells(rows)
    assert cells[0][2] == "1 of 2"
    assert cells[0][3] == "1.0000"
    assert cells[1][3] == f"2.5000 ± {statistics.stdev([2, 3]):.4f}"
    assert cells[2][3] == "failed"
    assert table.markdown(rows).count("\n") == 4


def test_the_curve_is_the_mean_and_range_at_the_evaluations_that_all_runs_have() -> None:
    short = result("a", 1, 3.0)
    short = Result(**{**vars(short), "history": short.history[:3]})
    (row,) = leaderboard([result("a", 0, 1.0), short], "x")
    points = table.curve(row, "seconds")
    assert len(points) == 3
    assert points[1] == pytest.approx((1.0, 2.5, 1.5, 3.5))
    assert table.curve(row, "watts") == []


@pytest.mark.slow
@pytest.mark.parametrize("lower", [True, False])
def test_the_picture_shows_every_setting_against_tokens_and_against_seconds(tmp_path, lower) -> None:
    runs = [result(name, seed, value + seed / 10) for name, value in (("a", 1.0), ("b", 2.0)) for seed in (0, 1)]
    rows = leaderboard(runs, "x", lower=lower)
    table.write_curves(tmp_path / "c.png", rows, metric="x", title="two", lower=lower)
    with Image.open(tmp_path / "c.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    curves = pixels[: int(pixels.shape[0] * 0.8)]  # above the legend
    middle = curves.shape[1] // 2
    for colour in table.COLOURS[:2]:
        drawn = (curves == ImageColor.getrgb(colour)).all(axis=-1)
        assert drawn[:, :middle].sum() > 100
        assert drawn[:, middle:].sum() > 100


@pytest.mark.slow
def test_a_picture_can_be_drawn_of_anything(tmp_path) -> None:
    timeless = [{"tokens": 10.0 * i, "val": math.nan if i == 2 else 1.0} for i in range(1, 4)]
    many = [result(f"setting {i}", 0, i / 10) for i in range(11)]
    for runs in (
        [],
        many,
        [result("a", 0, 1.0, history=timeless)],
        [result("a", 0, 1.0, history=[])],
        [result("a", 0, 1.0, failed="no")],
    ):
        table.write_curves(tmp_path / "c.png", leaderboard(runs, "x"), metric="x", title="any")
        with Image.open(tmp_path / "c.png") as image:
            assert min(image.size) > 300
