"""Scores of forecasts from samples and quantiles, and naive forecasts as baselines.

Shapes: H steps, S samples, Q levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from components.tasks.base import Tally

LEVELS = tuple(round(0.1 * n, 1) for n in range(1, 10))  # of the reported quantiles
RESIDUALS = 1000  # latest errors of a naive forecast that give its distribution


def crps(samples_SH: np.ndarray, actual_H: np.ndarray) -> np.ndarray:
    """The continuous ranked probability score of each step, in the data's units: E|X − y| − ½ E|X − X′|, with an
    unbiased estimate of the second term (Gneiting & Raftery 2007). For a single sample it is the absolute error."""
    S = len(samples_SH)
    ordered = np.sort(samples_SH, axis=0)
    weights_S = 2 * np.arange(1, S + 1) - S - 1
    spread_H = (weights_S[:, None] * ordered).sum(axis=0) / max(1, S * (S - 1))  # half of E|X − X′|
    return np.abs(samples_SH - actual_H).mean(axis=0) - spread_H


def weighted(total: Any, count: float) -> float:
    """The mean over the levels of the summed losses, divided by the sum of absolute values, the last of `total`."""
    *losses, size = total
    return float(np.mean(losses) / size) if size > 0 else math.nan


def scores(samples_SH: np.ndarray, actual_H: np.ndarray, naive_error: float) -> dict[str, Tally]:
    """All metrics of one forecast, as sums. `naive_error`: the in-sample mean absolute error of the seasonal naive
    forecast, one season ahead. MASE isn't counted if it is 0 or NaN."""
    quantiles_QH = np.quantile(samples_SH, LEVELS, axis=0)
    median_H = quantiles_QH[LEVELS.index(0.5)]
    error_H, steps = np.abs(median_H - actual_H), len(actual_H)
    short_QH, levels_Q1 = actual_H - quantiles_QH, np.array(LEVELS)[:, None]
    # twice the pinball loss, so that the median's is the absolute error
    losses_Q = 2 * np.maximum(levels_Q1 * short_QH, (levels_Q1 - 1) * short_QH).sum(axis=1)
    sizes_H = np.abs(median_H) + np.abs(actual_H)
    inside_H = (quantiles_QH[0] <= actual_H) & (actual_H <= quantiles_QH[-1])
    judged = bool(naive_error > 0)
    return {
        "weighted_quantile_loss": Tally(np.array([*losses_Q, np.abs(actual_H).sum()]), steps, weighted),
        "crps": Tally(float(crps(samples_SH, actual_H).sum()), steps),
        "mae": Tally(float(error_H.sum()), steps),
        "mase": Tally(float(error_H.mean() / naive_error) if judged else 0.0, int(judged)),
        "smape_percent": Tally(float(200 * (error_H / np.where(sizes_H > 0, sizes_H, 1)).sum()), steps),
        "coverage_80": Tally(float(inside_H.sum()), steps),
    }


def seasonal_error(history_T: np.ndarray, season: int) -> float:
    """The mean absolute change over a season, or over a step if the history isn't longer than a season; NaN for a
    single value (Hyndman & Koehler 2006)."""
    lag = season if len(history_T) > season else 1
    return float(np.abs(history_T[lag:] - history_T[:-lag]).mean()) if len(history_T) > 1 else math.nan


def seasonal_naive(history_T: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
    """The seasonal naive forecast, which repeats the last season [H], or the last value if the history is shorter than
    a season; and samples [S, H] with its past errors, wider by √k in the k-th season ahead (Hyndman & Athanasopoulos,
    Forecasting, 5.5)."""
    lag = season if len(history_T) >= season else 1
    ahead_H = np.arange(horizon)
    point_H = history_T[len(history_T) - lag + ahead_H % lag]
    errors_S = (history_T[lag:] - history_T[:-lag])[-RESIDUALS:] if len(history_T) > lag else np.zeros(1)
    return point_H, point_H + errors_S[:, None] * np.sqrt(ahead_H // lag + 1)


def naive_loss(histories: Sequence[np.ndarray], actual: Sequence[np.ndarray], season: int) -> float:
    """The weighted quantile loss of the seasonal naive forecasts of several series (season 1: naive forecasts)."""
    both = zip(histories, actual, strict=True)
    samples = [seasonal_naive(history_T, len(actual_H), season)[1] for history_T, actual_H in both]
    return samples_loss(samples, actual)


def samples_loss(samples: Sequence[np.ndarray], actual: Sequence[np.ndarray]) -> float:
    """The weighted quantile loss of samples [S, H] of several series."""
    both = zip(samples, actual, strict=True)
    tallies = [scores(samples_SH, actual_H, 0.0)["weighted_quantile_loss"] for samples_SH, actual_H in both]
    return reduce(add, tallies).value
