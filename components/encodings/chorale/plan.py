"""Context features of planned chorales: the time left, and the pitches relative to home.

A chorale ends on its tonic, with a cadence that begins bars before. A network without these features stops wherever a
phrase could end.
"""

from __future__ import annotations

import numpy as np

from components.score import Score

MOST_LEFT = 32  # quarter notes left; more count as this many
# quarter notes left (0: no plan), home, and the pitch class of each voice relative to home (from 1; 0: none)
PLAN_SIZES = (MOST_LEFT + 1, 13, 13, 13, 13, 13)


def home_of(score: Score, *, first: bool = False) -> int:
    """Pitch class of the last note of the lowest part with notes; with `first` of its first note: nine of ten chorales
    end where they began. For a melody alone, its last note, which is the tonic as often."""
    notes = next((part.notes for part in reversed(score.parts) if part.notes), ())
    return notes[0 if first else -1].pitch % 12 if notes else 0


def plan_columns(left_T: np.ndarray, home: int | None, sounding_4T: np.ndarray) -> list[np.ndarray]:
    """Six columns int64 [T], sizes as in PLAN_SIZES. `left_T`: quarter notes left; `sounding_4T`: a pitch for each
    voice from 1, a C; 0: silence. The columns are 0 for the tokens before the plan."""
    T = np.arange(len(left_T))
    left = np.where(T >= 3, np.clip(left_T, 0, MOST_LEFT), 0)
    known = (T >= 4) & (home is not None)
    over = np.where(known & (sounding_4T > 0), (sounding_4T - 1 - (home or 0)) % 12 + 1, 0)
    return [left, np.where(known, (home or 0) + 1, 0), *over]
