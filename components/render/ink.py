"""Ink as pictures: animated SVG, and PNG."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from components.ink import Ink
from components.render.record import Record, embed_marker, printable

INK, PAPER = "#1d2a4d", "#ffffff"
WIDE, MARGIN = 1000.0, 40.0  # of an SVG, in its units: the longer side of the drawing, and the margin
POINTS_A_SECOND = 60.0
# Without animation all strokes are visible: a stroke is hidden only until its animation starts. `pathLength` is 1.
STYLE = (
    f"path{{fill:none;stroke:{INK};stroke-linecap:round;stroke-linejoin:round;stroke-dasharray:1;"
    "animation:draw linear backwards}"
    "@keyframes draw{from{stroke-dashoffset:1;stroke-opacity:0}1%{stroke-opacity:1}to{stroke-dashoffset:0}}"
    "@media(prefers-reduced-motion:reduce){path{animation:none}}"
)
DPI, INCHES, LEAST_INCHES = 120, 9.0, 1.5  # of a PNG: its longer side, and the minimum of the other


def svg(ink: Ink, title: str, record: Record | None = None) -> str:
    """An SVG that draws one stroke after the other when it is opened. The record is its last comment. Equal arguments
    give equal text.

    Raises:
        UserError: the record isn't JSON-ready.
    """
    strokes, width, height = _placed(ink)
    begun, paths = 0, []
    for stroke in strokes:
        places = " ".join(f"{x:.1f} {y:.1f}" for x, y in stroke)
        # a dot is a line of length 0
        line = f"M{places}" if len(stroke) > 1 else f"M{places}l0 0"
        delay, lasts = begun / POINTS_A_SECOND, len(stroke) / POINTS_A_SECOND
        timing = f"animation-delay:{delay:.2f}s;animation-duration:{lasts:.2f}s"
        paths.append(f'<path pathLength="1" d="{line}" style="{timing}"/>')
        begun += len(stroke)
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(printable(title))}</title>",
        f"<style>{STYLE}path{{stroke-width:{_thickness(height):.1f}}}</style>",
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
        *paths,
        *([f"<!-- {embed_marker(record)} -->"] if record is not None else []),
        "</svg>\n",
    ]
    return "\n".join(lines)


def write_svg(ink: Ink, path: Path, title: str, record: Record | None = None) -> None:
    """Write the SVG: see `svg`."""
    path.write_text(svg(ink, title, record), encoding="utf-8", newline="\n")


def write_png(ink: Ink, path: Path, record: Record | None = None) -> None:
    """Write a PNG. The record is an uncompressed text chunk ("Comment").

    Raises:
        UserError: the record isn't JSON-ready.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    strokes, width, height = _placed(ink)
    longer = max(width, height)
    inches = [max(LEAST_INCHES, INCHES * side / longer) for side in (width, height)]
    figure = Figure(figsize=inches, dpi=DPI, facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("equal")
    axes.axis("off")
    thickness = _thickness(height) * INCHES / longer * 72
    for stroke in strokes:
        marker = {"marker": "o", "markersize": thickness, "markeredgewidth": 0} if len(stroke) == 1 else {}
        axes.plot(*stroke.T, color=INK, linewidth=thickness, solid_capstyle="round", solid_joinstyle="round", **marker)
    metadata = {"Software": None, **({"Comment": embed_marker(record)} if record is not None else {})}
    FigureCanvasAgg(figure).print_png(str(path), metadata=metadata)


def _placed(ink: Ink) -> tuple[list[np.ndarray], float, float]:
    """The strokes in SVG units, and the SVG's width and height."""
    left, top, right, bottom = ink.box
    scale = WIDE / (max(right - left, bottom - top) or 1.0)
    strokes = [(stroke - [left, top]) * scale + MARGIN for stroke in ink.strokes]
    return strokes, (right - left) * scale + 2 * MARGIN, (bottom - top) * scale + 2 * MARGIN


def _thickness(height: float) -> float:
    """Line width, thinner for a long, flat drawing."""
    return min(8.0, max(2.5, height / 50))
