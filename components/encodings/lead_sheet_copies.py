"""What stood so many bars ago in a lead sheet: in the melody for its notes, in the form for its chords."""

from __future__ import annotations

import numpy as np

from components.encodings.copying import match_classes
from components.encodings.form import METRES, MOST_STEPS, Form, bar_and_beat
from components.encodings.lead_sheet_signs import Places, Signs, latest
from components.encodings.vocabulary import PAD

LAGS = (1, 2, 4, 8, 16)  # bars; half of a folk tune's bars were heard 1, 2, 4, 8 or 16 bars ago
_APART = 2 * MOST_STEPS  # between the times of the form and those of the melody


def lead_sheet_copies(signs: Signs, ids: np.ndarray, places: Places, form: Form | None) -> tuple[np.ndarray, ...]:
    """As `Encoding.copies`, for ids [T]; `form` is theirs once the melody has begun.

    A note, rest or chord is a candidate where one began exactly L bars before; its length where one's length is next.
    A bar is one of the metre that holds.
    """
    bar_T = _bars(signs, ids, places, form)
    heads = np.flatnonzero(places.head & (ids != signs.upbeat))
    clock_T = places.time + _APART * places.inside
    ago_TL = bar_T[:, None] * np.array(LAGS)
    wanted_TL = clock_T[:, None] - ago_TL
    candidates_TL = np.full(wanted_TL.shape, PAD, dtype=np.int64)
    if len(heads):
        found = np.searchsorted(clock_T[heads], wanted_TL)
        at = heads[np.minimum(found, len(heads) - 1)]
        there = (clock_T[at] == wanted_TL) & (places.time[:, None] >= ago_TL)
        # time went on since `at`, so its length is written: in what breaks the grammar it may be another token
        length_next = places.head[:, None]
        token = ids[np.minimum(at + length_next, len(ids) - 1)]
        there &= ~length_next | ((token >= signs.length0) & (token < signs.pitch0))
        candidates_TL[there] = token[there]
    return candidates_TL, match_classes(ids, candidates_TL, places.head)


def _bars(signs: Signs, ids: np.ndarray, places: Places, form: Form | None) -> np.ndarray:
    """The steps of a bar in the metre that holds after each of the ids, int64 [T]."""
    steps = np.array([bar_and_beat(metre, signs.steps_per_beat)[0] for metre in METRES])
    metre = latest((ids >= signs.metre0) & (ids < signs.tempo0))
    bars = np.where(metre >= 0, steps[np.clip(ids[metre] - signs.metre0, 0, len(METRES) - 1)], steps[0])
    if form is not None:
        metres = [(0, form.metre), *form.changes]
        holds = np.searchsorted([start for start, _ in metres], places.time[places.inside], side="right") - 1
        bars[places.inside] = steps[[METRES.index(metre) for _, metre in metres]][holds]
    return bars
