"""Exponential smoothing (additive Holt-Winters), a baseline for forecasts.

Implemented here instead of using an optional library: baselines decide which model becomes champion, so they must be
the same on every machine. Many series and parameters are smoothed at once, which such libraries don't support.

Shapes: N series, T steps, H steps of the horizon, G points of a grid of parameters, P parameters, M steps of a season,
S samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LATEST = 1000  # maximum steps, the latest
FEWEST = 4  # minimum steps; a shorter series gets the naive forecast
ZOOMS = 4  # refinements of the grid around the best point
AT_ONCE = 1 << 22  # numbers in the seasonal states of a batch
# parameters of level, trend and season, the last as a share of 1 − α; and the factor of the initial trend
COARSE = (np.array([0.02, 0.1, 0.3, 0.6, 0.95]), np.array([0.0, 0.1, 0.4]), np.array([0.0, 0.1, 0.4, 0.9]), (0.0, 1.0))


class Smoothed(NamedTuple):
    """A forecast [H], samples of it [S, H], and the parameters α, β*, γ of Hyndman & Athanasopoulos, Forecasting, 8.3,
    with the factor of the initial trend."""

    point_H: np.ndarray
    samples_SH: np.ndarray
    parameters_P: np.ndarray


class States(NamedTuple):
    """After the last step: level and trend [N, G], season [N, G, M] by the position in the cycle; the one-step-ahead
    errors [T, N] of the first grid point, and the sums of squared errors [N, G]."""

    level: np.ndarray
    trend: np.ndarray
    season: np.ndarray
    errors_TN: np.ndarray
    squares: np.ndarray


def exponential_smoothing(histories: Sequence[np.ndarray], horizon: int, season: int) -> list[Smoothed]:
    """The forecasts of several series, each with its own parameters: additive trend, and an additive season if the
    series has at least two seasons. The parameters minimise the squared one-step-ahead error over the last LATEST
    steps, in a grid refined around its best point. Level, trend and season are initialised from the first two seasons.

    Samples are the one-step-ahead errors, widened as the model's variance grows: σ²(1 + Σ c²⟨j⟩), with c⟨j⟩ =
    α(1 + β* j) + γ at each whole season (Hyndman et al. 2008, table 6.1).
    """
    found: dict[int, Smoothed] = {}
    recent = [np.asarray(history[-LATEST:], dtype=np.float64) for history in histories]
    groups: dict[int, list[int]] = {0: [], 1: [], season: []}
    for n, history in enumerate(recent):
        groups[0 if len(history) < FEWEST else season if len(history) >= 2 * season else 1].append(n)
    for n in groups.pop(0):
        last_H = np.repeat(recent[n][-1:], horizon)
        found[n] = Smoothed(last_H, last_H[None], np.array([1.0, 0.0, 0.0, 0.0]))
    for cycle, members in groups.items():
        at_once = max(1, AT_ONCE // (cycle * len(_grid(cycle))))
        for start in range(0, len(members), at_once):
            part = members[start : start + at_once]
            made = _smoothed([recent[n] for n in part], horizon, cycle)
            found |= dict(zip(part, made, strict=True))
    return [found[n] for n in range(len(histories))]


def smooth(histories: Sequence[np.ndarray], parameters_NGP: np.ndarray, cycle: int) -> States:
    """Smooth several series of any lengths with several parameters each.

    e = y − (level + trend + season); level += trend + α e; trend += α β* e; season += γ e. The series are aligned at
    their ends, and each starts after its first season.
    """
    T, N = max(map(len, histories)), len(histories)
    values_TN = np.zeros((T, N))
    begins_N = T - np.array([len(history) for history in histories])
    for n, history in enumerate(histories):
        values_TN[begins_N[n] :, n] = history
    alpha, beta, gamma, share = parameters_NGP.transpose(2, 0, 1)
    level = np.zeros(alpha.shape)
    trend, season = np.zeros_like(level), np.zeros((*level.shape, cycle))
    for n, history in enumerate(histories):
        first = history[:cycle]
        level[n] = first.mean()
        trend[n] = share[n] * _first_trend(history, cycle)
        # the level of the middle of the first season, moved to its end
        places = (begins_N[n] + np.arange(cycle)) % cycle
        drift = trend[n][:, None] * (np.arange(cycle) - (cycle - 1) / 2)
        season[n][:, places] = first - first.mean() - drift
        level[n] += trend[n] * (cycle - 1) / 2
    squares, errors_TN = np.zeros_like(level), np.full((T, N), np.nan)
    for t in range(int(begins_N.min()) + cycle, T):
        counted_N1 = (t >= begins_N + cycle)[:, None]
        place = season[:, :, t % cycle]
        error = np.where(counted_N1, values_TN[t][:, None] - level - trend - place, 0.0)
        squares += error * error
        errors_TN[t] = np.where(counted_N1[:, 0], error[:, 0], np.nan)
        level += np.where(counted_N1, trend, 0.0) + alpha * error
        trend += alpha * beta * error
        if cycle > 1:
            place += gamma * error
    return States(level, trend, season, errors_TN, squares)


def _smoothed(histories: Sequence[np.ndarray], horizon: int, cycle: int) -> list[Smoothed]:
    grid_GP = _grid(cycle)
    parameters_NGP = np.broadcast_to(grid_GP, (len(histories), *grid_GP.shape))
    wide = 0.5
    for zoom in range(ZOOMS + 1):
        squares_NG = smooth(histories, parameters_NGP, cycle).squares
        best_NP = np.take_along_axis(parameters_NGP, squares_NG.argmin(axis=1)[:, None, None], axis=1)[:, 0]
        if zoom < ZOOMS:
            parameters_NGP = _around(best_NP, wide, cycle)
            wide /= 2.5
    last = smooth(histories, best_NP[:, None], cycle)
    ahead_H, T = np.arange(1, horizon + 1), len(last.errors_TN)
    made = []
    for n, (alpha, beta, gamma, _) in enumerate(best_NP):
        point_H = last.level[n, 0] + ahead_H * last.trend[n, 0] + last.season[n, 0, (T + ahead_H - 1) % cycle]
        steps = np.arange(1, horizon)
        grows = alpha * (1 + beta * steps) + gamma * (steps % cycle == 0) * (cycle > 1)
        wider_H = np.sqrt(np.concatenate([[1.0], 1 + np.cumsum(grows**2)]))
        errors_S = last.errors_TN[~np.isnan(last.errors_TN[:, n]), n]
        made.append(Smoothed(point_H, point_H + errors_S[:, None] * wider_H, best_NP[n]))
    return made


def _first_trend(history: np.ndarray, cycle: int) -> float:
    """The trend per step between the first two seasons."""
    return float((history[cycle : 2 * cycle].mean() - history[:cycle].mean()) / cycle)


def _grid(cycle: int) -> np.ndarray:
    levels, trends, seasons, shares = COARSE
    points = itertools.product(levels, trends, seasons if cycle > 1 else (0.0,), shares)
    return np.array([(alpha, beta, rest * (1 - alpha), share) for alpha, beta, rest, share in points])


def _around(best_NP: np.ndarray, wide: float, cycle: int) -> np.ndarray:
    """A grid of width `wide` around each best point, within the bounds 0 < α ≤ 1, 0 ≤ β* ≤ 1, 0 ≤ γ ≤ 1 − α."""
    offsets = np.array([-1.0, -0.4, 0.0, 0.4, 1.0]) * wide / 2
    around = np.array(list(itertools.product(offsets, offsets, offsets if cycle > 1 else (0.0,))))
    moved = best_NP[:, None, :3] + around
    alpha = moved[..., 0].clip(0.001, 1.0)
    beta, gamma = moved[..., 1].clip(0.0, 1.0), np.minimum(moved[..., 2].clip(0.0), 1 - alpha)
    share = np.broadcast_to(best_NP[:, None, 3], alpha.shape)
    return np.stack([alpha, beta, gamma, share], axis=-1)
