"""The metrics of `components.evaluation.music` as a picture: generated and real music, one row per metric."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.evaluation.drums import DRUM_UNITS
from components.evaluation.music import UNITS as MUSIC_UNITS
from components.evaluation.performances import PERFORMANCE_UNITS
from components.evaluation.style import INK, SOFT, VAL, style_axes

UNITS = MUSIC_UNITS | DRUM_UNITS | PERFORMANCE_UNITS
_PANELS = {
    "share": "distances from the training music and shares, 0 to 1",
    "per bar": "faults of voice leading, per bar",
    "times": "times smaller when compressed",
    "notes": "notes",
    "quarters": "quarter notes",
    "bars": "bars",
    "hits": "hits",
    "pieces": "pieces of the kit",
    "velocity": "velocity, 1 to 127",
    "milliseconds": "milliseconds",
    "a second": "notes per second",
}


def write_judgement(path: Path, table: Mapping[str, Mapping[str, float]], *, title: str) -> None:
    """Write a PNG of the result of `judge`: filled dots are generated music, rings are real music.

    Distances, faults and counts have separate scales. Metrics that aren't in UNITS are left out.
    """
    panels = {unit: [name for name in UNITS if name in table and UNITS[name] == unit] for unit in _PANELS}
    panels = {unit: names for unit, names in panels.items() if names}
    rows = [max(1.0, len(names)) + 1.0 for names in panels.values()]
    figure = Figure(figsize=(8.4, 1.0 + 0.36 * sum(rows)), dpi=130, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=12, parse_math=False)
    if panels:
        drawn = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
        for axes, (unit, names) in zip(drawn, panels.items(), strict=True):
            _draw(axes, [(name, table[name]) for name in names])
            axes.set_xlabel(_PANELS[unit], color=INK, fontsize=9)
            high = max(value for name in names for value in table[name].values())
            axes.set_xlim((-0.02, 1.18) if unit == "share" else (-0.02 * (high or 1), 1.2 * (high or 1)))
        handles, labels = drawn[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    FigureCanvasAgg(figure).print_png(path)


def _said(name: str) -> str:
    for unit in ("_per_bar", "_notes", "_quarters"):
        name = name.removesuffix(unit)
    return name.replace("_percent", " %").replace("_", " ")


def _draw(axes: Axes, rows: list[tuple[str, Mapping[str, float]]]) -> None:
    for y, (_, values) in enumerate(rows):
        pair = [values[column] for column in ("generated", "held_out") if column in values]
        axes.plot([min(pair), max(pair)], [y, y], color=SOFT, linewidth=1.2, zorder=1)
        text = "  |  ".join(f"{values[c]:.3g}" if c in values else "–" for c in ("generated", "held_out"))
        axes.annotate(text, (max(pair), y), (9, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
    for column, label, face in (("generated", "generated", VAL), ("held_out", "real, held out", "white")):
        points = [(values[column], y) for y, (_, values) in enumerate(rows) if column in values]
        edge = VAL if column == "generated" else INK
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.scatter(xs, ys, s=46, facecolor=face, edgecolor=edge, linewidth=1.4, label=label, zorder=2 + (face == VAL))
    names = [_said(name) for name, _ in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9, color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    style_axes(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.set_axisbelow(True)
