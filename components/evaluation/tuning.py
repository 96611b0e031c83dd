"""A search over settings as a picture: the value of each trial, and the importance of settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.evaluation.style import INK, SOFT, TRAIN, VAL

MOST_BARS = 12


@dataclass(frozen=True)
class Tried:
    """One trial. `state`: complete, pruned, failed or running. `value`: the metric on val (of a pruned trial, its best
    so far)."""

    number: int
    settings: Mapping[str, Any]
    state: str
    value: float = math.nan
    updates: int = 0
    seconds: float = math.nan
    parameters: int = 0
    run_id: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Found:
    """The result of a search. `importance`: each setting's importance for being among the best tenth of the trials
    (PED-ANOVA, Watanabe et al. 2023), greatest first; empty with too few trials."""

    metric: str
    lower: bool
    tried: Sequence[Tried]
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def ranked(self) -> list[Tried]:
        """The complete trials, best first."""
        sign = 1 if self.lower else -1
        return sorted((t for t in self.tried if t.state == "complete"), key=lambda t: (sign * t.value, t.number))

    @property
    def best(self) -> Tried | None:
        return next(iter(self.ranked), None)


def best_so_far(found: Found) -> list[tuple[int, float]]:
    """(trial, best value so far) of the complete trials, in order."""
    points: list[tuple[int, float]] = []
    for tried in sorted(found.ranked, key=lambda each: each.number):
        better = min if found.lower else max
        points.append((tried.number, better(tried.value, points[-1][1]) if points else tried.value))
    return points


def trials_table(found: Found) -> dict[str, list[Any]]:
    """All trials: the complete ones, best first, then the rest in order."""
    rest = [tried for tried in found.tried if tried.state != "complete"]
    rows = [*found.ranked, *sorted(rest, key=lambda tried: tried.number)]
    keys = list(rows[0].settings) if rows else []
    return {
        "trial": [row.number for row in rows],
        **{key: [row.settings.get(key) for row in rows] for key in keys},
        f"val {found.metric}": [row.value for row in rows],
        "state": [row.state for row in rows],
        "updates": [row.updates for row in rows],
        "seconds": [row.seconds for row in rows],
        "parameters": [row.parameters for row in rows],
        "run id": [row.run_id for row in rows],
        "why failed": [row.failed for row in rows],
    }


def write_search(path: Path, found: Found, *, title: str) -> None:
    """Draw the trials and the best value so far (left), and the settings' importance (right)."""
    figure = Figure(figsize=(11, 4.4), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    limits = _limits(found)
    for state, colour, mark in (("complete", TRAIN, "o"), ("pruned", SOFT, "x")):
        shown = [t for t in found.tried if t.state == state and math.isfinite(t.value)]
        if shown:
            values = [min(max(t.value, limits[0]), limits[1]) for t in shown]
            left.plot([t.number for t in shown], values, color=colour, marker=mark, linestyle="none", label=state)
    if points := best_so_far(found):
        left.step(*zip(*points, strict=True), where="post", color=VAL, linewidth=1.8, label="best so far")
        left.set_ylim(
            *(limit + sign * 0.04 * (limits[1] - limits[0]) for limit, sign in zip(limits, (-1, 1), strict=True))
        )
        left.legend(frameon=False, fontsize=9)
    left.set(xlabel="trial", ylabel=f"val {found.metric.replace('_', ' ')}")
    bars = list(found.importance.items())[:MOST_BARS][::-1]
    if bars:
        right.barh([name for name, _ in bars], [share for _, share in bars], color=INK, height=0.6)
        right.set(xlabel="importance (for being among the best tenth)", xlim=(0, 1))
    else:
        right.text(
            0.5, 0.5, "too few trials to estimate importance", transform=right.transAxes, ha="center", color=SOFT
        )
        right.set(xticks=[], yticks=[])
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    FigureCanvasAgg(figure).print_png(path)


def _limits(found: Found) -> tuple[float, float]:
    """Axis limits: from the best to as far on the other side of the median. Worse values are drawn at the edge, so that
    diverged trials don't flatten the rest."""
    values = [tried.value for tried in found.ranked]
    if not values:
        return (-math.inf, math.inf)
    best, middle = values[0], values[len(values) // 2]
    edge = middle + (middle - best or (0.05 * abs(best) or 0.1) * (1 if found.lower else -1))
    return (min(best, edge), max(best, edge))
