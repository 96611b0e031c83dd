"""The piano roll as a picture: pitch over time, a colour for each voice, chord symbols above. Drums are drawn as a grid
with a row for each piece of the kit. In performances, louder notes are more opaque."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.harmony import format_chord
from components.render.layout import Bar, Rows, bars, colour, lanes, loudness, pictured
from components.render.record import Record, embed_marker, printable
from components.score import Note, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _LINE, _GRID, _PAPER, _SHADE = "#2b2b33", "#8d8d9b", "#c9c9d2", "#ffffff", "#f1f1f5"
_DPI = 120
_BARS_A_ROW, _MOST_ROWS = 16, 12
_INCHES_PER_BAR, _LEAST_INCHES, _MOST_INCHES = 0.66, 8.0, 30.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.62, 0.25, 0.62, 0.36  # margins in inches, independent of the picture's size
_NAMES = 0.42  # extra inches for the names of drum pieces
_CHORDS = 0.22  # inches above a row for its chord symbols
_CHARACTER = 0.075  # width of a character of a chord symbol, in inches
_MOST_NAMES = 12  # in the legend
_HANDLE, _LETTER, _TITLE_LETTER, _LEGEND_LINE = 0.45, 0.085, 0.125, 0.2  # inches: of a legend's entry, of the title


def write_pianoroll(score: Score, path: Path, record: Record | None = None) -> None:
    """A PNG of the score, 960 to 3,600 pixels wide; long scores are broken into rows.

    The record is an uncompressed text chunk ("Comment").

    Raises:
        UserError: the score can't be rendered or the record isn't JSON-ready.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = _rows(bars(score))
    score, shown = pictured(score, least=14)
    low, high = shown.low, shown.high
    margin = _LEFT + (_NAMES if shown.names else 0.0)
    by_bar = _INCHES_PER_BAR * (2 if shown.names else 1)
    width = margin + _RIGHT + by_bar * max(row[-1].number - row[0].number + 1 for row in rows)
    width = min(_MOST_INCHES, max(_LEAST_INCHES, width))
    inner = min(6.0, (0.22 if shown.names else 0.12 if len(rows) == 1 else 0.1) * (high - low + 1))
    above = _CHORDS if score.chords else 0.0
    title = printable(score.title, 70) or "Untitled"
    names = [printable(part.name, 24) or f"Part {voice + 1}" for voice, part in enumerate(score.parts)][:_MOST_NAMES]
    columns, top = _legend_room(names, title, width - margin - _RIGHT)
    height = top + len(rows) * (inner + _BOTTOM + above) + 0.05
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    longest = max(1, *(row[-1].end - row[0].start for row in rows))
    placed = lanes(score)
    for index, row in enumerate(rows):
        bottom = height - top - (index + 1) * (inner + above) - index * _BOTTOM
        full = (width - margin - _RIGHT) / width
        span = max(1, row[-1].end - row[0].start)
        axes = figure.add_axes((margin / width, bottom / height, full * span / longest, inner / height))
        axes.set_xlim(row[0].start, row[0].start + span)
        axes.set_ylim(low - 0.5, high + 0.5)
        _draw_grid(axes, row, shown, "s" if score.timing == "seconds" else "bar")
        _draw_notes(axes, placed, row, score.timing != "written")
        pedal = [span for part in score.parts for span in part.pedal]
        if pedal:
            axes.hlines([low - 0.3] * len(pedal), *np.array(pedal).T, color=_LINE, linewidth=2.5)
        _draw_chords(axes, score, row, full * width * span / longest)
        if index == 0:
            _draw_legend(axes, names, columns, above / inner)
    figure.text(
        margin / width,
        1 - 0.32 / height,
        title,
        fontsize=13,
        fontweight="bold",
        color=_INK,
        va="center",
        parse_math=False,
    )
    metadata = {"Software": None}
    if record is not None:
        metadata["Comment"] = embed_marker(record)
    figure.savefig(path, format="png", metadata=metadata)


def _rows(layout: list[Bar]) -> list[list[Bar]]:
    """The bars in rows of equal length: one row up to 20 bars, else about 16 a row, or more to limit the rows."""
    if len(layout) <= _BARS_A_ROW + 4:
        return [layout or [Bar(1, 0, 0, (4, 4), 1, 1)]]
    numbered = [bar for bar in layout if bar.number]
    count = min(_MOST_ROWS, math.ceil(len(numbered) / _BARS_A_ROW))
    size = math.ceil(len(numbered) / count)
    rows = [numbered[start : start + size] for start in range(0, len(numbered), size)]
    return [layout[: len(layout) - len(numbered)] + rows[0], *rows[1:]]


def _draw_grid(axes: Axes, row: list[Bar], rows: Rows, unit: str) -> None:
    """`unit` of the numbers: "bar" (from 1) or "s" (from 0)."""
    low, high = rows.low, rows.high
    for pitch in range(low, high + 1):
        if rows.is_shaded(pitch):
            axes.axhspan(pitch - 0.5, pitch + 0.5, color=_SHADE, linewidth=0, zorder=0)
        if pitch % 12 in (0, 5) and not rows.names:  # between B and C, and between E and F, where two white keys touch
            axes.axhline(pitch - 0.5, color=_GRID if pitch % 12 == 0 else _SHADE, linewidth=0.9, zorder=1)
    crowded = len(row) > 3 * _BARS_A_ROW
    every = next(n for n in (1, 2, 4, 8, 16, 32, 64, 1 << 30) if len(row) / n <= 4 * _BARS_A_ROW)
    beats, ticks = [], []
    for bar in row:
        beats += bar.beats[1:]
        if bar.number and (bar.number == row[0].number or bar.number % every == 0):
            ticks.append((bar.start, str(bar.number - (unit == "s"))))
    reach = (low - 0.5, high + 0.5)
    if not crowded:
        axes.vlines(beats, *reach, color=_GRID, linewidth=0.6, linestyle=(0, (1, 2.5)), zorder=1)
    axes.vlines([bar.start for bar in row[1:]], *reach, color=_LINE, linewidth=0.9, zorder=1)
    axes.set_xticks([step for step, _ in ticks], [name for _, name in ticks], fontsize=8.5, color=_INK, ha="left")
    axes.annotate(
        unit, (0, 0), (-5, -5), xycoords="axes fraction", textcoords="offset points", ha="right", va="top",
        fontsize=8.5, color=_LINE,
    )  # fmt: skip
    named = [
        row for row in range(low, high + 1) if rows.names or row % 12 in ((0, 7) if high - low > 18 else (0, 4, 7))
    ]
    axes.set_yticks(named, [rows.name(row) for row in named], fontsize=8.5, color=_INK)
    axes.tick_params(length=0, pad=4)
    for side in axes.spines.values():
        side.set_color(_LINE)
        side.set_linewidth(0.9)


def _draw_notes(axes: Axes, placed: list[list[tuple[Note, int, int]]], row: list[Bar], by_loudness: bool) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    for voice, notes in enumerate(placed):
        boxes, colours = [], []
        for note, lane, count in notes:
            if note.start >= row[-1].end or note.start + note.duration <= row[0].start:
                continue
            height = 0.92 / count
            bottom = note.pitch + 0.46 - height * (lane + 1)
            left, right = note.start, note.start + note.duration
            boxes.append([(left, bottom), (right, bottom), (right, bottom + height), (left, bottom + height)])
            colours.append(to_rgba(colour(voice), loudness(note) if by_loudness else 1.0))
        # the edge in the background colour separates repeated notes
        boxes_drawn = PolyCollection(boxes, facecolor=colours, edgecolor=_PAPER, linewidth=0.7, zorder=3)
        axes.add_collection(boxes_drawn, autolim=False)


def _draw_chords(axes: Axes, score: Score, row: list[Bar], inches: float) -> None:
    """Draw each chord symbol where it begins, and at the row's beginning the one still in effect. `inches`: the row's
    width.

    A symbol that would overlap the one before it is left out.
    """
    first, end = row[0].start, row[-1].end
    free = float("-inf")
    for chord in sorted(score.chords):
        start = max(chord.start, first)
        if start >= min(end, chord.start + chord.duration):
            continue
        at, name = (start - first) * inches / max(1, end - first), format_chord(chord)
        if at < free:
            continue
        free = at + (len(name) + 0.7) * _CHARACTER
        axes.annotate(
            name, (start, 1.0), (1, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="left",
            va="bottom", fontsize=8.5, color=_INK, annotation_clip=False,
        ).set_parse_math(False)  # fmt: skip


def _legend_room(names: list[str], title: str, inches: float) -> tuple[int, float]:
    """The legend's number of columns in a picture `inches` wide, and the inches above the first row: the legend is
    beside the title if both fit, else below it, in as many lines as needed."""
    if not names:
        return 1, _TOP
    column = _HANDLE + _LETTER * max(map(len, names))
    if sum(_HANDLE + _LETTER * len(name) for name in names) + _TITLE_LETTER * len(title) <= inches:
        return len(names), _TOP
    columns = max(1, min(len(names), int(inches / column)))
    return columns, _TOP + _LEGEND_LINE * math.ceil(len(names) / columns)


def _draw_legend(axes: Axes, names: list[str], columns: int, above: float) -> None:
    """`above`: height of the chord symbols, as a share of the row's height."""
    from matplotlib.patches import Patch

    if not names:
        return
    legend = axes.legend(
        handles=[Patch(facecolor=colour(voice), label=name) for voice, name in enumerate(names)], loc="lower right",
        bbox_to_anchor=(1.0, 1.0 + above), ncols=columns, frameon=False, fontsize=9.5, handlelength=1.1,
        handleheight=0.8, columnspacing=1.4, borderaxespad=0.35, labelcolor=_INK,
    )  # fmt: skip
    for label in legend.get_texts():
        label.set_parse_math(False)
