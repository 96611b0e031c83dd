"""Exponential smoothing: that of the textbook and of statsmodels, with parameters that a general optimiser doesn't
better."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from task_pairs import LOADS, split
from test_forecast import made

from components.tasks.forecast_scores import naive_loss, samples_loss
from components.tasks.smoothing import _grid, exponential_smoothing, smooth

ETS = "statsmodels.tsa.exponential_smoothing.ets"


def series(seed: int, steps: int, season: int) -> np.ndarray:
    """A level that wanders, a trend, a season and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps)
    wandering = np.cumsum(rng.normal(0, rng.uniform(0, 1), steps))
    return 50 + 0.1 * t + wandering + 5 * np.sin(2 * np.pi * t / max(2, season)) + rng.normal(0, 1, steps)


def by_hand(history: np.ndarray, season: int, point: np.ndarray, horizon: int = 0) -> tuple[float, np.ndarray]:
    """The equations of Hyndman & Athanasopoulos, 8.3, one at a time; the sum of squares and the forecast."""
    alpha, beta, gamma, share = (float(one) for one in point)
    first, second = history[:season], history[season : 2 * season]
    trend = share * float(second.mean() - first.mean()) / season
    centre = (season - 1) / 2
    seasons = [y - first.mean() - trend * (t - centre) for t, y in enumerate(first)]
    level, squares = first.mean() + trend * centre, 0.0
    for y in history[season:]:
        s = seasons[-season]
        squares += (y - level - trend - s) ** 2
        new = alpha * (y - s) + (1 - alpha) * (level + trend)
        seasons.append(gamma * (y - level - trend) + (1 - gamma) * s if season > 1 else s)
        trend, level = beta * (new - level) + (1 - beta) * trend, new
    ahead = [level + (h + 1) * trend + seasons[len(seasons) - season + h % season] for h in range(horizon)]
    return squares, np.array(ahead)


@pytest.mark.parametrize("season", [1, 4, 7])
def test_states_are_those_of_the_equations_for_series_of_any_lengths_at_once(season) -> None:
    histories = [series(seed, steps, season) for seed, steps in ((0, 14), (1, 60), (2, 33))]
    points = np.array([[0.3, 0.1, 0.2 * (season > 1), 1.0], [0.9, 0.5, 0.05 * (season > 1), 0.0]])
    states = smooth(histories, np.broadcast_to(points, (3, 2, 4)), season)
    for n, history in enumerate(histories):
        for g, point in enumerate(points):
            squares, _ = by_hand(history, season, point)
            assert states.squares[n, g] == pytest.approx(squares)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 4, 7]), st.integers(16, 90))
def test_no_optimiser_finds_much_smaller_errors(seed, season, steps) -> None:
    history = series(seed, steps, season)
    (found,) = exponential_smoothing([history], 9, season)
    alpha, beta, gamma, share = found.parameters_P
    assert 0 < alpha <= 1
    assert 0 <= beta <= 1
    assert 0 <= gamma <= 1 - alpha + 1e-12

    def squares(x: np.ndarray) -> float:
        a, b, c = np.clip(x, [0.001, 0, 0], 1)
        return by_hand(history, season, np.array([a, b, min(c, 1 - a) * (season > 1), share]))[0]

    own = squares(found.parameters_P[:3])
    starts = [found.parameters_P[:3], [0.1, 0.01, 0.1], [0.8, 0.3, 0.1], [0.3, 0.8, 0.3]]
    best = min(minimize(squares, start, method="Nelder-Mead").fun for start in starts)
    assert own <= 1.02 * best
    assert found.point_H == pytest.approx(by_hand(history, season, found.parameters_P, 9)[1])
    coarse = smooth([history], _grid(season)[None], season).squares
    assert own <= coarse.min()


def test_it_is_the_forecast_of_statsmodels() -> None:
    """Of its state space model: the last season of its `ExponentialSmoothing` isn't brought up to date."""
    ets = pytest.importorskip(ETS, reason="needs statsmodels: pip install statsmodels")
    for season in (1, 6):
        history = series(5, 70, season)
        (found,) = exponential_smoothing([history], 12, season)
        alpha, beta, gamma, share = found.parameters_P
        first, second = history[:season], history[season : 2 * season]
        trend, middle = share * (second.mean() - first.mean()) / season, (season - 1) / 2
        begun = {"initial_level": first.mean() + trend * middle, "initial_trend": trend}
        chosen = [alpha, alpha * beta]
        if season > 1:
            seasons = first - first.mean() - trend * (np.arange(season) - middle)
            begun |= {"seasonal": "add", "seasonal_periods": season, "initial_seasonal": seasons}
            chosen.append(gamma)
        model = ets.ETSModel(history[season:], trend="add", initialization_method="known", **begun)
        fitted = model.smooth(np.array(chosen))
        assert found.point_H == pytest.approx(fitted.forecast(12), rel=1e-6)
        assert found.samples_SH[:, 0] - found.point_H[0] == pytest.approx(fitted.resid, rel=1e-6, abs=1e-6)
        assert fitted.sse <= 1.02 * model.fit(disp=False).sse, "its own optimiser"


def test_a_series_without_noise_goes_on_exactly() -> None:
    t = np.arange(40)
    line = 3.0 + 0.5 * t + np.tile([2.0, -1.0, 0.0, -1.0], 10)
    (found,) = exponential_smoothing([line], 6, 4)
    ahead = np.arange(40, 46)
    wanted = 3.0 + 0.5 * ahead + np.array([2.0, -1.0, 0.0, -1.0, 2.0, -1.0])
    assert found.point_H == pytest.approx(wanted)
    assert np.abs(found.samples_SH - wanted).max() < 1e-9, "it was never wrong"


def test_samples_widen_as_the_variance_of_the_model_does() -> None:
    """Against paths that are simulated with the errors that the model made."""
    history = series(3, 200, 4)
    (found,) = exponential_smoothing([history], 8, 4)
    alpha, beta, gamma, _ = found.parameters_P
    errors = found.samples_SH[:, 0] - found.point_H[0]
    rng, paths = np.random.default_rng(0), []
    for _ in range(4000):
        level, trend, seasons, path = 0.0, 0.0, [0.0] * 4, []
        for e in rng.choice(errors, 8):
            path.append(level + trend + seasons[-4] + e)
            level, trend = level + trend + alpha * e, trend + alpha * beta * e
            seasons.append(seasons[-4] + gamma * e)
        paths.append(path)
    simulated, own = np.std(paths, axis=0), np.std(found.samples_SH, axis=0)
    assert own == pytest.approx(simulated, rel=0.06)


def test_short_series_are_smoothed_without_season_or_go_on_as_they_end() -> None:
    short, shorter, steady = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([7.0, 9.0]), np.full(30, 2.5)
    one, two, three = exponential_smoothing([short, shorter, steady], 3, 4)
    assert one.point_H == pytest.approx([6, 7, 8])
    assert two.point_H.tolist() == [9, 9, 9]
    assert three.point_H == pytest.approx([2.5, 2.5, 2.5])
    alone = [exponential_smoothing([history], 3, 4)[0] for history in (short, shorter, steady)]
    for together, single in zip((one, two, three), alone, strict=True):
        assert np.allclose(together.samples_SH, single.samples_SH)


def test_it_is_a_baseline_of_forecasts() -> None:
    task, _, _ = made()
    examples = split(task.encoding, LOADS, "sequences")
    found = task.baselines(examples, examples)
    assert set(found) == {"naive", "seasonal naive", "exponential smoothing"}
    wandering = [series(seed, 120, 1) for seed in range(8)]
    pasts, actual = [one[:-6] for one in wandering], [one[-6:] for one in wandering]
    smoothed = [one.samples_SH for one in exponential_smoothing(pasts, 6, 7)]
    assert samples_loss(smoothed, actual) < naive_loss(pasts, actual, 7), "of no season the last one is a bad forecast"
