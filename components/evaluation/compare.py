"""Comparison of runs over settings and seeds: a leaderboard, and the learning curves in one picture.

Settings are ranked by the mean over seeds of the primary metric on val, at each run's best weights. Test metrics are
shown but not used for ranking, which would make them optimistic.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.evaluation.style import COLOURS, OTHER, SOFT, style_axes
from components.render.figures import figure, markdown_table


@dataclass(frozen=True)
class Result:
    """The result of one run. `history` has an entry {tokens, seconds, val, …} for each evaluation. `failed`: why the
    run has no figures."""

    label: str
    settings: Mapping[str, Any]
    seed: int
    run_id: str
    parameters: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = math.nan
    tokens: float = math.nan
    stopped: str = ""
    history: Sequence[Mapping[str, float]] = ()
    failed: str = ""
    fold: str = ""  # of a cross-validation: "3/10"

    @property
    def which(self) -> str:
        """The seed or fold of the run."""
        return f"fold {self.fold}" if self.fold else f"seed {self.seed}"


@dataclass(frozen=True)
class Row:
    """One combination of settings over its seeds or folds. Means and standard deviations (n − 1; NaN for one run) are
    over the runs that didn't fail."""

    label: str
    settings: Mapping[str, Any]
    results: Sequence[Result]
    val: float
    val_sd: float
    test: float
    test_sd: float

    @property
    def finished(self) -> list[Result]:
        return [result for result in self.results if not result.failed]

    @property
    def parameters(self) -> int:
        return self.results[0].parameters

    @property
    def seconds(self) -> float:
        """Mean training time of a run, evaluation included."""
        return _mean([result.seconds for result in self.finished])

    @property
    def tokens(self) -> float:
        """Mean number of training tokens of a run."""
        return _mean([result.tokens for result in self.finished])

    @property
    def tokens_per_second(self) -> float:
        return _mean([result.tokens / max(result.seconds, 1e-9) for result in self.finished])


def leaderboard(results: Sequence[Result], metric: str, *, lower: bool = True) -> list[Row]:
    """A row for each label, best first; settings without a finished run come last."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.label, []).append(result)
    rows = []
    for label, group in groups.items():
        good = [result for result in group if not result.failed]
        val, test = ([r.metrics.get(f"{split}/{metric}", math.nan) for r in good] for split in ("val", "test"))
        rows.append(Row(label, group[0].settings, group, _mean(val), _sd(val), _mean(test), _sd(test)))
    return sorted(rows, key=lambda row: (math.isnan(row.val), row.val if lower else -row.val))


def columns(rows: Sequence[Row], metric: str) -> dict[str, list[Any]]:
    """The leaderboard as a table, with numbers (or NaN) in columns that can be sorted by value."""
    keys = list(rows[0].settings) if rows else []
    return {
        "rank (by val)": list(range(1, len(rows) + 1)),
        **{key: [row.settings[key] for row in rows] for key in keys},
        "runs": [len(row.finished) for row in rows],
        "failed": [len(row.results) - len(row.finished) for row in rows],
        f"val {metric}, mean": [row.val for row in rows],
        "val ± sd": [row.val_sd for row in rows],
        f"test {metric}, mean": [row.test for row in rows],
        "test ± sd": [row.test_sd for row in rows],
        "parameters": [row.parameters for row in rows],
        "tokens/s": [row.tokens_per_second for row in rows],
        "seconds": [row.seconds for row in rows],
        "tokens": [row.tokens for row in rows],
        "run ids": [" ".join(result.run_id[:8] for result in row.results) for row in rows],
        "why failed": ["; ".join(f"{r.which}: {r.failed}" for r in row.results if r.failed) for row in rows],
    }


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The leaderboard as text, narrow enough for a terminal: (headings, rows)."""
    headings = ["", "setting", "runs", "val (ranks)", "test", "params", "tokens/s", "s", "tokens"]
    shown = []
    for rank, row in enumerate(rows, 1):
        runs = f"{len(row.finished)}" + (f" of {len(row.results)}" if len(row.finished) < len(row.results) else "")
        if not row.finished:
            shown.append([str(rank), row.label, runs, "failed", "", f"{row.parameters:,}", "", "", ""])
            continue
        figures = [plus_minus(row.val, row.val_sd), plus_minus(row.test, row.test_sd), f"{row.parameters:,}"]
        spent = [
            f"{row.tokens_per_second:,.0f}",
            f"{row.seconds:,.{0 if row.seconds >= 10 else 1}f}",
            _short(row.tokens),
        ]
        shown.append([str(rank), row.label, runs, *figures, *spent])
    return headings, shown


def markdown(rows: Sequence[Row]) -> str:
    """The leaderboard as a Markdown table."""
    return markdown_table(*cells(rows))


def plus_minus(mean: float, sd: float) -> str:
    """ "1.2345 ± 0.0067"; without the second part if it isn't known."""
    if math.isnan(mean):
        return ""
    return figure(mean) if math.isnan(sd) else f"{figure(mean)} ± {figure(sd)}"


def write_curves(path: Path, rows: Sequence[Row], *, metric: str, title: str, lower: bool = True) -> None:
    """Draw the metric on val during training, against tokens (left) and seconds (right): a line for the mean of a
    setting's runs at each evaluation, a band from minimum to maximum. Settings after the first eight are grey."""
    figure = Figure(figsize=(11, 4.8), dpi=130, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    shown = [row for row in rows if row.finished]
    for panel, axis, words in zip(panels, ("tokens", "seconds"), ("tokens seen", "seconds of training"), strict=True):
        for place, row in reversed(list(enumerate(shown))):  # draw the best last, on top
            named = place < len(COLOURS)
            name = f"{place + 1}  {row.label}  {plus_minus(row.val, row.val_sd)}"
            _draw(panel, row, axis, COLOURS[place] if named else OTHER, name if named else "_")
        panel.set(xlabel=words)
        panel.set_xlim(left=0)
        style_axes(panel)
        if not panel.lines:
            panel.text(0.5, 0.5, f"no run recorded its {axis}", transform=panel.transAxes, ha="center", color=SOFT)
    panels[0].set_ylabel(f"val {metric.replace('_', ' ')}")
    panels[0].xaxis.set_major_formatter(lambda value, _: _short(value))
    if limits := _limits(shown, lower):
        panels[0].set_ylim(*limits)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    runs = max((len(row.finished) for row in shown), default=0)
    over = "folds" if any(result.fold for row in shown for result in row.results) else "seeds"
    band = f"  ·  mean and range over {runs} {over}" if runs > 1 else ""
    figure.suptitle(f"{title}{band}", fontsize=11)
    FigureCanvasAgg(figure).print_png(path)


def curve(row: Row, axis: str) -> list[tuple[float, float, float, float]]:
    """(x, mean, minimum, maximum) at each evaluation that all runs of the row have; x is the mean over the runs."""
    points = []
    for entries in zip(*(result.history for result in row.finished), strict=False):
        if all(math.isfinite(entry.get(name, math.nan)) for entry in entries for name in (axis, "val")):
            values = [entry["val"] for entry in entries]
            points.append((_mean([entry[axis] for entry in entries]), _mean(values), min(values), max(values)))
    return points


def _draw(panel: Axes, row: Row, axis: str, colour: str, name: str) -> None:
    if points := curve(row, axis):
        x, mean, least, greatest = zip(*points, strict=True)
        panel.plot(x, mean, color=colour, marker="o", markersize=2.5, linewidth=1.6, label=name)
        panel.fill_between(x, least, greatest, color=colour, alpha=0.16, linewidth=0)


def _limits(rows: Sequence[Row], lower: bool) -> tuple[float, float] | None:
    """Axis limits that show the ends of the curves: the first evaluations are much worse and would flatten them."""
    curves = [points for row in rows if (points := curve(row, "tokens"))]
    if not curves:
        return None
    later = [value for points in curves for point in points[len(points) // 4 :] for value in point[1:]]
    every = [value for points in curves for point in points for value in point[1:]]
    low, high = (min(every), max(later)) if lower else (min(later), max(every))
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return low - pad, high + pad


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _sd(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


def _short(count: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:.0f}"
