"""What stood so many bars ago in a lead sheet: in the melody for its notes, in the form for its chords."""

from __future__ import annotations

import numpy as np

from components.encodings.copying import match_classes
from components.encodings.form import FAMILIES, METRES, MOST_STEPS, Form, bar_and_beat, bar_numbers
from components.encodings.lead_sheet_signs import Places, Signs, latest
from components.encodings.sections import Sections
from components.encodings.vocabulary import PAD

LAGS = (1, 2, 4, 8, 16)  # bars; half of a folk tune's bars were heard 1, 2, 4, 8 or 16 bars ago
HARMONIES = 4  # classes of how long the chords stay those of so many bars ago: no, here, for a bar, for four bars
_APART = 2 * MOST_STEPS  # between the times of the form and those of the melody


def lead_sheet_copies(
    signs: Signs,
    ids: np.ndarray,
    places: Places,
    bar_S: np.ndarray,
    harmony_SL: np.ndarray,
    lags_TL: np.ndarray | tuple[int, ...] = LAGS,
) -> tuple[np.ndarray, ...]:
    """As `Encoding.copies`, for ids [T]; `bar_S` and `harmony_SL` are `form_returns` of the form before the melody.

    A note, rest or chord is a candidate where one began exactly L bars before; its length where one's length is next.
    A bar is one of the metre that holds. The class of a match is HARMONIES times that of its notes and, in the melody,
    whether the chords from here on are those that were there: a tune comes back over its own chords.
    """
    bar_T = _bars(signs, ids)
    step = np.minimum(places.time[places.inside], len(bar_S) - 1)
    bar_T[places.inside] = bar_S[step]
    heads = np.flatnonzero(places.head & (ids != signs.upbeat))
    clock_T = places.time + _APART * places.inside
    ago_TL = bar_T[:, None] * np.asarray(lags_TL)
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
    classes_TL = HARMONIES * match_classes(ids, candidates_TL, places.head)
    classes_TL[places.inside] += harmony_SL[step]
    return candidates_TL, classes_TL


def form_returns(form: Form, steps_per_beat: int, sections: Sections | None = None) -> tuple[np.ndarray, np.ndarray]:
    """For each step of a form and its end: the steps of a bar, int64 [S], and the class of how long the chords from
    there on are those of L bars before, int64 [S, L]; of so many bars as the `sections` say."""
    steps = np.arange(form.length + 1)
    bar_S = np.zeros_like(steps)
    for start, metre in [(0, form.metre), *form.changes]:
        bar_S[start:] = bar_and_beat(metre, steps_per_beat)[0]
    chord_S = np.full(form.length + 1, -2)
    for start, end, root, family in form.spans():
        chord_S[start:end] = root * len(FAMILIES) + family
    harmony_SL = np.zeros((len(steps), len(LAGS)), dtype=np.int64)
    lags_SL = np.tile(LAGS, (len(steps), 1))
    if sections:
        lags_SL = sections.lags(bar_numbers(form, steps_per_beat), LAGS)
    for column, lag_S in enumerate(lags_SL.T):
        before = steps - lag_S * bar_S
        same = (before >= 0) & (chord_S == chord_S[np.maximum(before, 0)])
        same[-1] = before[-1] >= 0  # nothing sounds after the end
        # the next step that differs, from the end backwards
        differs = np.minimum.accumulate(np.where(same, len(steps), steps)[::-1])[::-1]
        ahead = differs - steps
        ahead[differs == len(steps)] = 4 * bar_S[differs == len(steps)]  # to the end is as good as for four bars
        harmony_SL[:, column] = same * (1 + (ahead >= bar_S) + (ahead >= 4 * bar_S))
    return bar_S, harmony_SL


def _bars(signs: Signs, ids: np.ndarray) -> np.ndarray:
    """The steps of a bar in the metre that was named last, int64 [T]."""
    steps = np.array([bar_and_beat(metre, signs.steps_per_beat)[0] for metre in METRES])
    metre = latest((ids >= signs.metre0) & (ids < signs.tempo0))
    return np.where(metre >= 0, steps[np.clip(ids[metre] - signs.metre0, 0, len(METRES) - 1)], steps[0])
