"""The form of a piece as a picture: how alike each two of its bars are (Foote 1999), generated beside real music."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.evaluation.music_lines import judged_parts, place
from components.evaluation.style import INK
from components.score import Score

MOST_BARS = 128  # later bars are left out
MOST_PIECES = 50  # held-out pieces to choose from
GRID = 4  # positions are compared to the nearest of so many parts of a quarter note


def self_similarity(score: Score) -> np.ndarray:
    """The similarity of each two bars, float64 [N, N], from 0 to 1: of the notes that begin in either, the share that
    begin in both, at the same position with the same pitch (Jaccard index). N: bars from the first to the last with
    notes, at most MOST_BARS. Bars without notes are equal.
    """
    bars = _bars(score)
    alike = [[len(a & b) / len(a | b) if a | b else 1.0 for b in bars] for a in bars]
    return np.array(alike).reshape(len(bars), len(bars))


def _bars(score: Score) -> list[set[tuple[int, int, int]]]:
    """The notes of each bar as (part, position, pitch)."""
    notes = [(note, number) for number, part in enumerate(judged_parts(score)) for note in part.notes]
    if not notes:
        return []
    first, last = (of(note.start for note, _ in notes) for of in (min, max))
    beats = range(first, last + 1, max(1, score.steps_per_beat))
    bars: dict[int, set[tuple[int, int, int]]] = {place(score, step)[0]: set() for step in beats}
    for note, number in notes:
        start, at, _ = place(score, note.start)
        bars.setdefault(start, set()).add((number, round(GRID * at / score.steps_per_beat), note.pitch))
    return [bars[start] for start in sorted(bars)][:MOST_BARS]


def write_self_similarity(path: Path, made: Score, held_out: Sequence[Score], *, title: str) -> None:
    """Write a PNG of a generated piece and, of the first MOST_PIECES held-out ones, the nearest to it in length."""
    own = self_similarity(made)
    real = self_similarity(min(held_out[:MOST_PIECES], key=lambda score: abs(len(_bars(score)) - len(own))))
    figure = Figure(figsize=(8.4, 4.6), dpi=130, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=12, parse_math=False)
    for axes, values, name in zip(figure.subplots(1, 2), (own, real), ("generated", "real, held out"), strict=True):
        ends = (0.5, len(values) + 0.5)
        image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", extent=(*ends, *ends[::-1]))
        axes.set_title(name, fontsize=10, color=INK)
        axes.set_xlabel("bar", fontsize=9, color=INK)
        axes.tick_params(labelsize=8)
    figure.colorbar(image, ax=figure.axes, shrink=0.8, label="share of equal notes")
    FigureCanvasAgg(figure).print_png(path)
