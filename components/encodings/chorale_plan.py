"""What a planned chorale is told beside each token: how much of it is left, and what sounds over its home.

A chorale ends on its tonic, with a cadence that begins bars before. A network that knows neither how much is left nor
which of twelve notes is home stops wherever a phrase could end.
"""

from __future__ import annotations

import numpy as np

from components.score import Score

MOST_LEFT = 32  # quarter notes left that are told apart
# quarter notes left (0: no plan), home, and what sounds in each voice counted from it (from 1; 0: none)
PLAN_SIZES = (MOST_LEFT + 1, 13, 13, 13, 13, 13)


def home_of(score: Score, *, first: bool = False) -> int:
    """The pitch class that the lowest part with notes ends on, or begins on: nine of ten chorales end where they began.
    Of a melody alone it is its own last note, which is as often the tonic."""
    notes = next((part.notes for part in reversed(score.parts) if part.notes), ())
    return notes[0 if first else -1].pitch % 12 if notes else 0


def plan_columns(left_T: np.ndarray, home: int | None, sounding_4T: np.ndarray) -> list[np.ndarray]:
    """Six columns int64 [T], sizes as in PLAN_SIZES. `left_T`: quarter notes left, `sounding_4T`: a pitch for each
    voice from 1, a C; 0: silence. The first tokens of a piece come before its plan, and are told nothing of it."""
    T = np.arange(len(left_T))
    left = np.where(T >= 3, np.clip(left_T, 0, MOST_LEFT), 0)
    known = (T >= 4) & (home is not None)
    over = np.where(known & (sounding_4T > 0), (sounding_4T - 1 - (home or 0)) % 12 + 1, 0)
    return [left, np.where(known, (home or 0) + 1, 0), *over]
