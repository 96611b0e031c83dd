"""Drawings and handwriting as strokes of a pen. Times aren't kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_POINTS = 20_000  # of a piece, in all strokes


@dataclass(frozen=True)
class Ink:
    """`strokes`: float64 [N, 2] each, the points (x, y) of a line that is drawn without lifting the pen, x to the
    right and y down, in the data's own units. `text`: what is written or drawn; "" where that isn't known."""

    strokes: tuple[np.ndarray, ...]
    text: str = ""

    @property
    def points(self) -> int:
        """How many points there are."""
        return sum(len(stroke) for stroke in self.strokes)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The least x and y, the greatest x and y; zeros where there is no point."""
        if not self.points:
            return 0.0, 0.0, 0.0, 0.0
        every = np.concatenate(self.strokes)
        low, high = every.min(axis=0), every.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def __str__(self) -> str:
        of = f"{self.text!r}: " if self.text else ""
        return f"{of}{len(self.strokes):,} strokes, {self.points:,} points"
