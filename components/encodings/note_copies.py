"""Copy candidates of notes: what began at the same place some bars ago, and what followed the latest intervals before.

A candidate is a whole step: pitch, duration, gap and velocity. T steps, S streams, L lags, N notes.
"""

from __future__ import annotations

import numpy as np

from components.encodings.copying import match_class, match_classes, returns
from components.encodings.vocabulary import PAD

LAGS = (1, 2, 4, 8, 16)  # bars


def note_copies(
    ids: np.ndarray, time_T: np.ndarray, bar_T: np.ndarray, *, rest: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Candidate steps [T, S, L] and match classes [T, L] for ids [T, S], the pitch first.

    `time_T`: when the next step begins; `bar_T`: the steps of its bar, 0: unknown; `rest`: the least id in the pitch
    stream that is a rest or a note; `size`: that of the pitch stream. Within a chord, whose pitches ascend, the
    candidate is the next higher pitch there.
    """
    pitch_T = ids[:, 0]
    begun_T = np.append(0, time_T[:-1])
    # within a chord the next pitch is above the latest one
    above_T = np.where((begun_T == time_T) & (pitch_T > rest), pitch_T, rest - 1)
    kept = np.flatnonzero(pitch_T >= rest)
    key = begun_T[kept] * size + pitch_T[kept]
    order = np.argsort(key, kind="stable")
    wanted_TL = time_T[:, None] - bar_T[:, None] * np.asarray(LAGS)
    candidates_TSL = np.full((*ids.shape, len(LAGS)), PAD, dtype=np.int64)
    if len(kept):
        found = np.searchsorted(key[order], wanted_TL * size + above_T[:, None], side="right")
        at_TL = kept[order[np.minimum(found, len(kept) - 1)]]
        known_TL = (found < len(kept)) & (begun_T[at_TL] == wanted_TL) & (bar_T > 0)[:, None]
        candidates_TSL = np.where(known_TL[:, None], ids[at_TL].transpose(0, 2, 1), PAD)
    return candidates_TSL, match_classes(pitch_T, candidates_TSL[:, 0], pitch_T >= rest)


def pattern_steps(ids: np.ndarray, *, lowest: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """As `note_copies` for one candidate: [T, S, 1] and [T, 1].

    After a note, the longest run of intervals that ends with it is searched for in the notes before, in any key; of
    several the latest is used. The candidate is the note that followed there, transposed. `lowest`: the id of the
    lowest pitch.
    """
    candidates_TS, classes_T = np.full_like(ids, PAD), np.zeros(len(ids), dtype=np.int64)
    at_N = np.flatnonzero(ids[:, 0] >= lowest)
    if len(at_N) > 2:
        source, longest = returns(np.diff(ids[at_N, 0]))
        note = np.flatnonzero(longest)
        there, here = source[note] + 1, at_N[note + 1]
        steps = ids[at_N[there + 1]]
        steps[:, 0] += ids[here, 0] - ids[at_N[there], 0]
        fits = (steps[:, 0] >= lowest) & (steps[:, 0] < size)
        candidates_TS[here[fits]], classes_T[here[fits]] = steps[fits], match_class(longest[note[fits]])
    return candidates_TS[..., None], classes_T[:, None]
