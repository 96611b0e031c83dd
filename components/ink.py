"""Drawings and handwriting as pen strokes, without times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_POINTS = 20_000  # of a piece, over all strokes


@dataclass(frozen=True)
class Ink:
    """`strokes`: float64 [N, 2] each, the points (x, y) of a line drawn without lifting the pen, x to the right and y
    down, in the data's units. `text`: the label, "" if unknown."""

    strokes: tuple[np.ndarray, ...]
    text: str = ""

    @property
    def points(self) -> int:
        """The number of points."""
        return sum(len(stroke) for stroke in self.strokes)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Minimum x and y, maximum x and y; zeros without points."""
        if not self.points:
            return 0.0, 0.0, 0.0, 0.0
        every = np.concatenate(self.strokes)
        low, high = every.min(axis=0), every.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def __str__(self) -> str:
        of = f"{self.text!r}: " if self.text else ""
        return f"{of}{len(self.strokes):,} strokes, {self.points:,} points"
