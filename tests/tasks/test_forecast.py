"""Forecasts: scored rightly, from the past alone, in the data's units, the same through every door."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from task_pairs import AHEAD, LOADS, split

from components.answers import answered, read
from components.bundle import Bundle, load_bundle, save_bundle
from components.datasets.batches.forecast import window
from components.encodings.series import Series, SeriesValues
from components.errors import UserError
from components.evaluation.baseline import strongest
from components.evaluation.evaluator import Evaluator
from components.evaluation.report import draw
from components.registry import names
from components.schema import check_together
from components.tasks.base import Fan, Table
from components.tasks.forecast import Forecast
from components.tasks.forecast_scores import LEVELS, crps, naive_loss, scores, seasonal_error, seasonal_naive
from components.training.processes import Ranks
from components.use.files import reader_for
from components.use.table import predict_file

OPTIONS = {key: value for key, value in AHEAD.items() if key != "kind"}


def made(items: list[Series] = LOADS, kind: str = "gru", **options) -> tuple[Forecast, torch.nn.Module, SeriesValues]:
    encoding = SeriesValues(lags=(1, 2, 7))
    encoding.fit(items)
    task = Forecast(encoding, "sequences", **OPTIONS | options)
    torch.manual_seed(1)
    return task, task.build_model({"kind": kind, "hidden_size": 8}).eval(), encoding


def paths(task: Forecast, model: torch.nn.Module, items: list[Series], origin: int) -> np.ndarray:
    windows = [window(task.encoding.encode(item), origin, task.shape) for item in items]
    return np.stack(list(task.sample(model, windows)))


def numbers(answer: dict) -> np.ndarray:
    return np.array([values for name, values in answer.items() if name != "time"])


@settings(max_examples=10, deadline=None)
@given(st.floats(-50, 50), st.floats(0.1, 20), st.floats(-80, 80))
def test_crps_of_samples_is_that_of_a_gaussian(mean, deviation, actual) -> None:
    z = (actual - mean) / deviation
    exact = deviation * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - np.pi**-0.5)
    # evenly placed samples: hardly any noise
    samples = mean + deviation * stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    assert crps(samples[:, None], np.array([actual]))[0] == pytest.approx(exact, rel=2e-3, abs=2e-3 * deviation)


def test_crps_has_no_bias_and_of_one_sample_is_the_error() -> None:
    rng = np.random.default_rng(0)
    few = np.array([crps(rng.normal(size=(4, 1)), np.array([0.5]))[0] for _ in range(4000)])
    exact = 0.5 * (2 * stats.norm.cdf(0.5) - 1) + 2 * stats.norm.pdf(0.5) - np.pi**-0.5
    assert few.mean() == pytest.approx(exact, abs=4 * few.std() / 4000**0.5)
    assert crps(np.array([[3.0]]), np.array([5.0])) == [2.0]


def test_scores_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(1)
    samples, actual = rng.normal(10, 2, (500, 4)), np.array([9.0, 10.0, 30.0, 11.0])
    found = {name: tally.value for name, tally in scores(samples, actual, 2.0).items()}
    quantiles = np.quantile(samples, LEVELS, axis=0)
    pinball = [
        np.maximum(q * (actual - v), (q - 1) * (actual - v)).sum() for q, v in zip(LEVELS, quantiles, strict=True)
    ]
    assert found["weighted_quantile_loss"] == pytest.approx(np.mean(2 * np.array(pinball) / actual.sum()))
    error = np.abs(quantiles[4] - actual)
    assert found["mase"] == pytest.approx(error.mean() / 2)
    assert found["mae"] == pytest.approx(error.mean())
    assert found["smape_percent"] == pytest.approx((200 * error / (quantiles[4] + actual)).mean())
    assert found["coverage_80"] == 0.75
    assert np.isnan(scores(samples, actual, 0.0)["mase"].value), "a series that never changed has no MASE"
    assert scores(np.zeros((10, 2)), np.zeros(2), 1.0)["smape_percent"].value == 0


def test_the_naive_forecasts_go_on_as_before() -> None:
    history = np.tile([1.0, 5.0, 2.0], 4) + np.repeat([0.0, 0.0, 0.0, 3.0], 3)
    point, samples = seasonal_naive(history, 5, 3)
    assert point.tolist() == [4, 8, 5, 4, 8]
    assert sorted(set(samples[:, 0])) == [4, 7]
    assert sorted(set(samples[:, 3])) == pytest.approx([4, 4 + 3 * 2**0.5]), "wider in the second season"
    assert seasonal_error(history, 3) == 1
    assert seasonal_naive(history[:2], 2, 3)[0].tolist() == [5, 5]
    steady = np.arange(6.0)
    assert naive_loss([steady], [np.array([6.0])], 1) == pytest.approx(0), "its own errors say: one more"


@pytest.mark.parametrize("output", ["student_t", "negative_binomial", "quantiles"])
def test_forecasts_never_see_the_future(output) -> None:
    task, model, _ = made(output=output)
    before = paths(task, model, LOADS[:2], 40)
    changed = []
    for item in LOADS[:2]:
        values = item.values.copy()
        values[40:] = 1e6 + np.arange(len(values) - 40)
        changed.append(item._replace(values=values))
    assert np.array_equal(before, paths(task, model, changed, 40))
    earlier = [
        item._replace(values=np.where(np.arange(len(item.values)) == 39, 7.0, item.values)) for item in LOADS[:2]
    ]
    assert not np.array_equal(before, paths(task, model, earlier, 40)), "the last value before counts"


def test_what_a_step_reads_in_training_lies_before_it() -> None:
    task, model, encoding = made()
    part = split(encoding, LOADS, "sequences")
    batches = task.batches(part, batch_size=8, window=0, seed=0, training=True)
    batch = batches.at(0, 0)
    assert batch.inputs.shape == (8, 12, 3 + 1 + encoding.width)
    for row, one in enumerate(batch.windows):
        first = one.origin - task.shape.context
        for step in range(12):
            at = first + step
            for place, lag in enumerate((1, 2, 7)):
                value = LOADS[one.row].values[at - lag] / one.scale if at - lag >= 0 else 0.0
                assert batch.inputs[row, step, place] == pytest.approx(value, rel=1e-6)
            assert batch.inputs[row, step, 3] == (at - 1 >= 0)
            assert batch.targets[row, step] == (at >= 0)
    assert {one.row for index in range(4) for one in batches.at(0, index).windows} == {0, 1, 2, 3}
    assert np.array_equal(batch.inputs, batches.at(0, 0).inputs)
    assert not np.array_equal(batch.inputs, batches.at(1, 0).inputs)
    whole = task.loss(model, batch, None)[0]
    halves = [task.loss(model, Ranks.part(SimpleNamespace(rank=rank, size=2), batch), None)[0] for rank in range(2)]
    assert sum(half.count for half in halves) == whole.count, "shared by two processes"
    assert sum(float(half.total.detach()) for half in halves) == pytest.approx(float(whole.total.detach()), rel=1e-5)


@pytest.mark.parametrize("output", ["student_t", "gaussian", "quantiles"])
def test_from_the_season_a_network_that_says_nothing_repeats_the_season(output) -> None:
    task, model, _ = made(output=output, from_season=True, samples=2000)
    batch = task.batches(split(task.encoding, LOADS, "sequences"), batch_size=8, window=0, seed=0, training=True).at(
        0, 0
    )
    plain = made(output=output)[1]
    plain.load_state_dict(model.state_dict())  # no weights of its own
    raw, read = model(torch.from_numpy(batch.inputs))[0], plain(torch.from_numpy(batch.inputs))[0]
    moved = torch.zeros_like(raw)
    moved[..., task.output.location] = torch.from_numpy(batch.inputs[..., task.shape.lags.index(7)])
    assert torch.allclose(raw, read + moved, atol=1e-6)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(-20)  # narrow
        model.head.bias[task.output.location] = 0
    for item in LOADS[:2]:
        (answer,) = task.predict(model, [item])
        assert answer["q0.5"] == pytest.approx(item.values[-7:-4], abs=0.01 * np.abs(item.values).mean())


@pytest.mark.parametrize(("output", "centre"), [("student_t", False), ("gaussian", True), ("quantiles", False)])
def test_a_series_a_thousand_times_as_large_has_such_forecasts(output, centre) -> None:
    task, model, _ = made(output=output, centre=centre)
    small, large = task.predict(model, [LOADS[1], LOADS[1]._replace(values=LOADS[1].values * 1000)])
    assert small["time"] == large["time"]
    assert numbers(large) == pytest.approx(1000 * numbers(small), rel=1e-4)


def test_a_small_change_of_large_values_is_seen() -> None:
    base = LOADS[0]._replace(values=1_700_000_000 + np.sin(np.arange(60) * 2 * np.pi / 7))
    task, model, _ = made([base], centre=True, output="gaussian")
    (answer,) = task.predict(model, [base])
    assert np.abs(numbers(answer) - 1_700_000_000).max() < 50
    assert np.ptp(answer["mean"]) > 1e-3, "digits beyond those of float32"
    moved = task.predict(model, [base._replace(values=base.values - 1_700_000_000)])[0]
    assert numbers(moved) == pytest.approx(numbers(answer) - 1_700_000_000, abs=1e-4)


@pytest.mark.parametrize("kind", names("cell"))
def test_paths_are_the_same_for_the_same_seed_in_any_company(kind) -> None:
    task, model, _ = made(kind=kind)
    together = task.predict(model, LOADS)
    assert task.predict(model, LOADS) == together
    (alone,) = task.predict(model, LOADS[2:3])
    assert numbers(alone) == pytest.approx(numbers(together[2]), rel=1e-4)
    other, _, _ = made(kind=kind, seed=1)
    assert other.predict(model, LOADS[2:3])[0] != together[2]
    assert task.predict(model, [LOADS[0].until(1)])[0]["time"] == ["2024-01-02", "2024-01-03", "2024-01-04"]


def test_counts_stay_counts_and_others_are_refused() -> None:
    task, model, _ = made(output="negative_binomial")
    drawn = paths(task, model, LOADS, 30)
    assert (drawn >= 0).all()
    assert (drawn == np.round(drawn)).all()
    half = [item._replace(values=item.values / 2) for item in LOADS]
    with pytest.raises(UserError, match=r"whole numbers from 0 to(.|\n)*set output to student_t"):
        made(half, output="negative_binomial")
    with pytest.raises(UserError, match="the model needs counts"):
        task.predict(model, half[1:2])
    with pytest.raises(UserError, match="the model needs counts"):
        task.predict(model, [LOADS[0]._replace(values=LOADS[0].values * 1e30)])
    with pytest.raises(UserError, match="can't be used with counts"):
        made(output="negative_binomial", centre=True)
    with pytest.raises(UserError, match="can't be used with the output negative_binomial"):
        made(output="negative_binomial", from_season=True)


def test_a_model_that_reads_the_future_is_refused() -> None:
    sections = {
        "data": {"reader": "made-series", "path": None, "dataset": None, "split": (0.8, 0.1, 0.1), "join_val": False},
        "encoding": {"kind": "series"},
        "task": {"kind": "forecast"},
        "model": {"kind": "gru", "bidirectional": True},
        "evaluation": {},
        "generation": {},
    }
    assert "forecast may only use the past" in check_together(sections)[0]
    sections["model"]["bidirectional"] = False
    assert check_together(sections) == []


def test_findings_and_baselines_are_of_the_last_steps(tmp_path) -> None:
    items = [item._replace(origins=2) for item in LOADS]
    task, model, encoding = made(items)
    part = split(encoding, items, "sequences")
    metrics = Evaluator(task, batch_size=3).evaluate(model, part)
    assert set(metrics) == {"weighted_quantile_loss", "crps", "mae", "mase", "smape_percent", "coverage_80"}
    table, fan = task.findings(model, part)
    assert isinstance(table, Table)
    assert isinstance(fan, Fan)
    assert table.columns["series"] == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert table.columns["first_step"][:2] == ["2024-02-24", "2024-02-27"]
    assert fan.futures[1].actual.tolist() == items[1].values[-3:].tolist()
    assert str(fan.futures[1].times[-1])[:10] == "2024-02-28"
    own = float(np.mean([float(one) for one in table.columns["mase"]]))
    assert own == pytest.approx(metrics["mase"], rel=1e-4), "of every origin"
    found = task.baselines(part, part)
    assert set(found) == {"naive", "seasonal naive", "exponential smoothing"}
    baseline = strongest({f"baseline/test/{name}": value for name, value in found.items()}, lower=True)
    assert baseline.name == "seasonal naive"
    assert baseline.verdict(metrics["weighted_quantile_loss"], True).startswith("worse than"), "it learned nothing"
    draw(fan, encoding, tmp_path / "fan.png")
    assert (tmp_path / "fan.png").stat().st_size > 20_000


KNOWN = [item._replace(covariates=(np.arange(len(item.values)) % 5.0)[:, None], named=("price",)) for item in LOADS]


def bundle(folder: Path, items: list[Series]) -> Bundle:
    _, model, encoding = made(items)
    data = {"reader": "series-table", "path": "x.csv", "covariates": list(items[0].named), "horizon": 3}
    model_section = {"kind": "gru", "hidden_size": 8}
    recipe = {
        "task": {"kind": "forecast", **OPTIONS},
        "data": data,
        "encoding": {"kind": "series"},
        "model": model_section,
    }
    save_bundle(folder, "loads", model, encoding, recipe, {"framing": "sequences"})
    return load_bundle(folder)


def table(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def predicted(model: Bundle, path: Path) -> list[dict[str, str]]:
    predict_file(model, reader_for(path, model.recipe["data"]), path.with_suffix(".out"))
    with path.with_suffix(".out").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_is_answered_by_the_next_steps_of_each_series(tmp_path) -> None:
    model = bundle(tmp_path / "bundle", LOADS)
    rows = [f"2024-05-{day:02},{name},{day * size}" for name, size in (("a", 1), ("b", 3)) for day in range(1, 21)]
    found = predicted(model, table(tmp_path / "long.csv", ["ds,id,y", *rows, "2024-05-01,c,", "2024-05-02,d,8"]))
    assert list(found[0]) == ["series", "time", "mean", *(f"q{level}" for level in LEVELS), "problem"]
    assert [(row["series"], row["time"]) for row in found[:6]] == [
        (name, f"2024-05-{day}") for name in "ab" for day in (21, 22, 23)
    ]
    assert (found[6]["series"], found[6]["problem"]) == ("c", "no value")
    assert [row["time"] for row in found[7:]] == ["2024-05-03", "2024-05-04", "2024-05-05"], "one value is enough"
    quantiles = [float(found[4][f"q{level}"]) for level in LEVELS]
    assert quantiles == sorted(quantiles)
    wide = table(tmp_path / "wide.csv", ["day,a,b", *(f"2024-05-{day:02},{day},{day * 3}" for day in range(1, 21))])
    assert predicted(model, wide) == found[:6]
    hourly = table(tmp_path / "h.csv", ["ds,y", *(f"2024-05-01 {hour:02}:00,1" for hour in range(24))])
    assert "has step h, but the training data have D" in predicted(model, hourly)[0]["problem"]


def test_covariates_are_read_ahead(tmp_path) -> None:
    model = bundle(tmp_path / "bundle", KNOWN)
    rows = [f"2024-05-{day:02},{day if day < 18 else ''},{day % 5}" for day in range(1, 21)]
    found = predicted(model, table(tmp_path / "x.csv", ["ds,y,price", *rows]))
    assert [row["time"] for row in found] == ["2024-05-18", "2024-05-19", "2024-05-20"]
    short = predicted(model, table(tmp_path / "y.csv", ["ds,y,price", *rows[:-1]]))
    assert "price given for only 2 of the 3 steps to predict" in short[0]["problem"]
    values, price = [float(day) for day in range(1, 18)], [day % 5 for day in range(1, 21)]
    given = {"start": "2024-05-01", "values": values, "covariates": {"price": price}}
    (answer,) = answered(model, [read(model.encoding, given, "input")])
    assert [f"{mean:.15g}" for mean in answer["mean"]] == [row["mean"] for row in found]
    with pytest.raises(UserError, match="has the covariates none, but the model needs price"):
        read(model.encoding, {"start": "2024-05-01", "values": values}, "input")


def test_a_series_may_be_given_in_several_ways(tmp_path) -> None:
    model = bundle(tmp_path / "bundle", LOADS)
    times = pd.date_range("2024-05-01", periods=20)
    values = [float(n % 7) for n in range(20)]
    ways = [
        pd.Series(values, index=times),
        {"start": "2024-05-01", "values": values},
        {"times": [str(time) for time in times], "values": np.array(values), "covariates": None},
    ]
    first, *others = (model.predict([read(model.encoding, way, "inputs[0]")])[0] for way in ways)
    assert first["time"] == ["2024-05-21", "2024-05-22", "2024-05-23"]
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([1.0, 2.0], "list isn't a series"),
        ({"values": [1.0]}, "give either `start` or `times`"),
        ({"start": "2024-05-01", "values": []}, "no values"),
        ({"start": "2024-05-01", "values": [1.0, None]}, "finite numbers"),
        ({"start": "later", "values": [1.0]}, "isn't a time"),
        ({"start": "2024-05-01", "vals": [1.0], "values": [1.0]}, "Did you mean 'values'"),
        ({"times": ["2024-05-02", "2024-05-01"], "values": [1.0, 2.0]}, "the times must increase"),
        ({"times": ["2024-05-01", "2024-05-03"], "values": [1.0, 2.0]}, "a step is missing"),
        (
            {"times": [f"2024-05-01 {n:02}:00" for n in range(9)], "values": [1.0] * 9},
            "has steps of h, but the model's",
        ),
        (
            {"start": "2024-05-01", "values": [1.0], "covariates": {"x": [1.0]}},
            "has the covariates x, but the model needs none",
        ),
    ],
)
def test_what_is_no_series_is_refused(wrong, said) -> None:
    _, _, encoding = made()
    with pytest.raises(UserError, match=said):
        read(encoding, wrong, "inputs[0]")
