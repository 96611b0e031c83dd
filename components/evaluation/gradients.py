"""Readings of the gradient probe during a training run: stored in a file in the run's folder, and drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from components.evaluation.style import INK, TRAIN, VAL, style_axes

READINGS = "gradients.jsonl"  # in a run's folder
LARGEST_FILE = 256 << 20  # bytes
MOST_CURVES, MOST_LAYERS = 12, 3  # in the picture
SMALLEST = 1e-8  # relative to the largest norm; smaller norms aren't drawn
EARLY_TO_LATE = LinearSegmentedColormap.from_list("early to late", ["#cfe8f7", TRAIN, "#7a5aa6", VAL])


def append_reading(path: Path, curves: Mapping[str, Any]) -> None:
    """Append a reading of the probe (`Reading.curves()`) as a line of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(curves) + "\n")


def read_readings(path: Path) -> list[dict[str, Any]]:
    """All readings of a run in the order of updates; empty if there is no file.

    A resumed run repeats readings that the interrupted one made after its checkpoint: the later line counts. A
    truncated line is ignored.
    """
    if not path.exists() or path.stat().st_size > LARGEST_FILE:
        return []
    found: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            reading = json.loads(line)
            curves = reading["layers"].values()
            if all(len(curve["lags"]) == len(curve["norms"]) > 0 for curve in curves):
                found[int(reading["global_step"])] = reading
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return [found[step] for step in sorted(found)]


def write_gradient_picture(
    path: Path, readings: Sequence[Mapping[str, Any]], *, title: str, unit: str = "nats"
) -> None:
    """‖∂L⟨e⟩/∂h⟨e−k⟩‖ against the lag k, with a line for each evaluation and a panel for each layer (first, middle,
    last).

    Straight lines downwards are exponential decay: the gradient vanishes. `unit`: of the loss.

    Raises:
        ValueError: there are no readings.
    """
    if not readings:
        raise ValueError("no readings to draw")
    names = _spread(list(readings[-1]["layers"]), MOST_LAYERS)
    shown = _spread(list(readings), MOST_CURVES)
    width = 3.6 + 3.4 * len(names)
    figure = Figure(figsize=(width, 4.4), dpi=130, layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    scale = Normalize(readings[0]["global_step"], max(readings[-1]["global_step"], readings[0]["global_step"] + 1))
    for axes, name in zip(panels, names, strict=True):
        for reading in shown:
            if curve := reading["layers"].get(name):
                colour = EARLY_TO_LATE(scale(reading["global_step"]))
                axes.plot(curve["lags"], curve["norms"], color=colour, linewidth=1.6)
        dress_lag_axes(axes)
        if len(names) > 1:
            axes.set_title(f"layer {name}", fontsize=10, color=INK)
    norms = [norm for reading in shown for name in names for norm in reading["layers"].get(name, {}).get("norms", ())]
    bound_norms(panels[0], norms)
    panels[0].set_ylabel(f"‖∂L⟨e⟩ / ∂h⟨e−k⟩‖, {unit} per unit of h")
    figure.suptitle(f"{title}: how far back the loss of one step reaches", fontsize=11, color=INK)
    mapping = matplotlib.cm.ScalarMappable(scale, EARLY_TO_LATE)
    bar = figure.colorbar(mapping, ax=panels.tolist(), fraction=0.04, pad=0.02)
    bar.set_label("update")
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    bar.outline.set_visible(False)
    FigureCanvasAgg(figure).print_png(path)


def dress_lag_axes(axes: Any) -> None:
    """Set up the axes of norms (logarithmic) against lags."""
    axes.set_yscale("log")
    axes.set_xlabel("lag k, steps")
    axes.margins(x=0.01)
    style_axes(axes)


def bound_norms(axes: Any, norms: Sequence[float]) -> None:
    """Set limits of a logarithmic axis that exclude rounding noise and zeros."""
    seen = [norm for norm in norms if math.isfinite(norm) and norm > 0]
    if seen:
        high = max(seen)
        axes.set_ylim(max(min(seen), SMALLEST * high) / 1.5, high * 1.5)


def _spread(items: list[Any], most: int) -> list[Any]:
    """At most `most` evenly spaced items, including the first and the last."""
    if len(items) <= most:
        return items
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]
