"""Fan charts of forecasts: the past, the median with its intervals, the actual values, and the last season repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from components.evaluation.style import COLOURS, INK, SOFT, style_axes
from components.tasks.base import Fan, Future

MODEL, NAIVE = COLOURS[:2]


def write_fan(path: Path, fan: Fan) -> None:
    """Draw a panel for each forecast, two per row."""
    columns = min(2, len(fan.futures))
    rows = -(-len(fan.futures) // columns)
    figure = Figure(figsize=(6.4 * columns, 2.9 * rows + 0.9), dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, future in zip(panels, fan.futures, strict=False):
        _panel(axes, future)
    for axes in panels[len(fan.futures) :]:
        axes.set_axis_off()
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=len(names), frameon=False)
    figure.suptitle(fan.title)
    FigureCanvasAgg(figure).print_png(path)


def _panel(axes: Axes, future: Future) -> None:
    past = len(future.history)
    before, after = future.times[:past], future.times[past:]
    # lines continue from the last known value
    joined = future.times[past - 1 :]
    last = future.history[-1:]
    axes.plot(before, future.history, color=SOFT, linewidth=1.1, label="past")
    pairs = len(future.levels) // 2
    for place, shade in ((0, 0.22), (pairs // 2, 0.3)):
        low, high = (np.concatenate([last, future.quantiles[at]]) for at in (place, -1 - place))
        share = round(100 * (future.levels[-1 - place] - future.levels[place]))
        axes.fill_between(joined, low, high, color=MODEL, alpha=shade, linewidth=0, label=f"{share} % interval")
    middle = np.concatenate([last, future.quantiles[pairs]])
    axes.plot(joined, middle, color=MODEL, linewidth=1.6, label="median")
    axes.plot(after, future.naive, color=NAIVE, linewidth=1, linestyle="--", label="seasonal naive")
    axes.plot(after, future.actual, color=INK, linewidth=1.1, marker=".", markersize=3.5, label="actual")
    locator = AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_title(future.name, fontsize=10)
    style_axes(axes)
