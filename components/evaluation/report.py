"""Pictures of results: the learning curve, matrices, and a held-out piece with each token's surprisal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from components.encodings.base import Encoding
from components.evaluation.fan import write_fan
from components.evaluation.style import INK, SIGNED, SOFT, TRAIN, VAL, style_axes
from components.evaluation.thresholds import write_thresholds
from components.tasks.base import Fan, Matrix, Surprise, Thresholds

MOST_NAMES = 60  # labels of rows or columns; more would overlap
MAX_NATS = 4.0  # end of the colour scale: a probability of 1/55


def write_learning_curve(
    path: Path,
    history: Sequence[Mapping[str, float]],
    *,
    metric: str,
    baselines: Mapping[str, float],
    test: float | None,
    title: str,
    loss_unit: str = "",
    counted: str = "tokens",
) -> None:
    """Draw the metric on train and val against the training tokens; `baselines` are drawn as lines.

    A training loss with another unit (`loss_unit`) gets a separate panel.
    """
    figure = Figure(figsize=(8, 6.2 if loss_unit else 4.6), dpi=130, layout="constrained")
    panels = figure.subplots(1 + bool(loss_unit), 1, sharex=True, squeeze=False)[:, 0]
    axes, loss_axes = panels[0], panels[-1]
    tokens = [point["tokens"] for point in history]
    for key, colour, name, on in (("train", TRAIN, "train", loss_axes), ("val", VAL, "val", axes)):
        values = [point[key] for point in history]
        if any(map(math.isfinite, values)):  # val may be part of train
            on.plot(tokens, values, color=colour, marker="o", markersize=3, label=name)
    keys = ("val",) if loss_unit else ("train", "val")
    curves = [point[key] for point in history for key in keys if math.isfinite(point[key])]
    drawn = bool(curves)
    curves += [test] if test is not None else []
    if curves:
        # a distant baseline would flatten the curves: it is only named in the legend
        low, high = min(curves), max(curves)
        near = [value for value in baselines.values() if value < 2.5 * high]
        low = low if drawn else min([low, *near])  # the test figure alone has no scale
        top = max([high, *near, low + 1e-6])  # a single point needs an axis too
        bottom = low - 0.15 * (top - low)  # nats of a density may be negative
        bottom = bottom if low < 0 else max(0.0, bottom)
        axes.set_ylim(bottom, top + 0.1 * (top - low))
        for name, value in baselines.items():
            far = "" if bottom <= value <= top else " (outside the plot)"
            axes.axhline(value, color=SOFT, linewidth=0.9, linestyle="--", label=f"{name} {value:.3g}{far}")
    if test is not None and tokens:
        axes.plot(tokens[-1:], [test], color=INK, marker="*", markersize=11, linestyle="none", label=f"test {test:.3g}")
    axes.set(ylabel=metric.replace("_", " "), title=title)
    if loss_unit:
        loss_axes.set(ylabel=f"training loss, {loss_unit}")
    loss_axes.set(xlabel=f"{counted} seen in training")
    loss_axes.xaxis.set_major_formatter(lambda value, _: _amount(value))
    for panel in panels:
        style_axes(panel)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(path)


def _amount(value: float) -> str:
    """0, 500, 20 k, 1.5 M."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def draw(finding: Matrix | Surprise | Fan | Thresholds, encoding: Encoding, path: Path) -> None:
    """Draw a task's finding as a PNG."""
    if isinstance(finding, Surprise):
        write_surprise(path, encoding, finding.ids, finding.nats, title=finding.title)
    elif isinstance(finding, Fan):
        write_fan(path, finding)
    elif isinstance(finding, Thresholds):
        write_thresholds(path, finding)
    else:
        write_matrix(path, finding)


def write_matrix(path: Path, matrix: Matrix) -> None:
    """Draw a grid of numbers with named rows and columns; red and blue around 0 if some are negative."""
    height, width = matrix.values.shape
    size = (min(16.0, max(4.5, 0.42 * width + 2.2)), min(16.0, max(3.6, 0.36 * height + 1.8)))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    axes = figure.subplots()
    colours: dict[str, Any] = {"cmap": "Blues", "vmin": 0}
    if matrix.values.min(initial=0) < 0:
        most = float(np.abs(matrix.values).max())
        colours = {"cmap": SIGNED, "vmin": -most, "vmax": most}
    image = axes.imshow(matrix.values, **colours, aspect="auto", interpolation="nearest")
    axes.set(title=matrix.title, xlabel=matrix.column_axis, ylabel=matrix.row_axis)
    for set_ticks, names, turned in ((axes.set_xticks, matrix.columns, True), (axes.set_yticks, matrix.rows, False)):
        if len(names) <= MOST_NAMES:
            long = turned and max(map(len, names), default=0) > 3
            set_ticks(range(len(names)), names, fontsize=8, rotation=90 if long else 0)
        else:
            set_ticks([])
    if matrix.cells and height * width <= 400:
        darkest = matrix.values.max(initial=0)
        for y, x in np.ndindex(height, width):
            value = matrix.values[y, x]
            if value >= 0.005:
                colour = "white" if value > 0.6 * darkest else INK
                count = "" if matrix.counts is None else f"\n{matrix.counts[y, x]:,.0f}"
                axes.text(x, y, f"{value:.2f}{count}", ha="center", va="center", fontsize=6.5, color=colour)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    FigureCanvasAgg(figure).print_png(path)


def cell_counts(matrix: Matrix) -> dict[str, list[Any]]:
    """The matrix's non-zero cells, as a table."""
    cells = [(y, x) for y, x in np.argwhere(matrix.counts)]
    return {
        matrix.row_axis: [matrix.rows[y] for y, _ in cells],
        matrix.column_axis: [matrix.columns[x] for _, x in cells],
        "count": [int(matrix.counts[cell]) for cell in cells],
    }


@lru_cache(maxsize=4096)
def _outline(label: str) -> Outline:
    """A label's letters as one outline in points, centred at (0, 0)."""
    drawn = TextPath((0, 0), label, size=7.5, prop=FontProperties(family="DejaVu Sans Mono"))
    return drawn.transformed(Affine2D().translate(-drawn.get_extents().width / 2, -2.7))


def write_surprise(path: Path, encoding: Encoding, ids: np.ndarray, nats: np.ndarray, *, title: str) -> None:
    """Draw the tokens ids[1:] in rows, darker with higher surprisal."""
    shown = np.asarray(ids[1:], dtype=np.int64)
    rows = encoding.layout(shown)
    columns = max(len(row) for row in rows)
    cell = 0.19 if columns > 40 else 0.24
    figure = Figure(figsize=(max(6.0, columns * cell + 1.4), len(rows) * 0.27 + 1.3), dpi=130, layout="constrained")
    axes = figure.subplots()
    places = [(x, y, index) for y, row in enumerate(rows) for x, index in enumerate(row)]
    grid = np.full((len(rows), columns), np.nan)
    for x, y, index in places:
        grid[y, x] = nats[index]
    labels = PathCollection(  # a single artist: a text per label takes 2 ms
        [_outline(encoding.label(int(shown[index]))) for *_, index in places],
        offsets=[place[:2] for place in places],
        offset_transform=axes.transData,
        facecolors=["white" if nats[index] > 0.6 * MAX_NATS else INK for *_, index in places],
        linewidths=0,
    )
    labels.set_transform(Affine2D().scale(figure.dpi / 72))
    axes.add_collection(labels, autolim=False)
    image = axes.imshow(grid, cmap="YlOrRd", vmin=0, vmax=MAX_NATS, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[], title=f"{title}  ·  mean {float(np.mean(nats)):.2f} nats")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="surprise, nats", fraction=0.03, pad=0.01)
    FigureCanvasAgg(figure).print_png(path)
