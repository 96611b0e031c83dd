"""Copy candidates of lead sheets: notes of the melody and chords of the form some bars ago."""

from __future__ import annotations

import numpy as np

from components.encodings.copying import latest, match_classes
from components.encodings.form import FAMILIES, METRES, MOST_STEPS, Form, bar_and_beat, bar_numbers
from components.encodings.lead_sheet.signs import Places, Signs
from components.encodings.sections import Sections
from components.encodings.vocabulary import PAD

LAGS = (1, 2, 4, 8, 16)  # bars; half of a folk tune's bars repeat one 1, 2, 4, 8 or 16 bars ago
HARMONIES = 4  # classes of how long the chords equal those one lag ago: no, here, for a bar, for four bars
_APART = 2 * MOST_STEPS  # offset between times of the form and of the melody


def lead_sheet_copies(
    signs: Signs,
    ids: np.ndarray,
    places: Places,
    bar_S: np.ndarray,
    harmony_SL: np.ndarray,
    lags_TL: np.ndarray | tuple[int, ...] = LAGS,
) -> tuple[np.ndarray, ...]:
    """As `Encoding.copies`, for ids [T]; `bar_S` and `harmony_SL` are `form_returns` of the form before the melody.

    The candidate is the note, rest or chord that began exactly one lag before, or its length if a length is next. The
    length of a bar is that of the current metre. The class of a match is HARMONIES times that of its notes, plus in the
    melody the class of `harmony_SL`: a tune repeats over the same chords.
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
        # the next token is its length, except in ids that break the grammar
        length_next = places.head[:, None]
        token = ids[np.minimum(at + length_next, len(ids) - 1)]
        there &= ~length_next | ((token >= signs.length0) & (token < signs.pitch0))
        candidates_TL[there] = token[there]
    classes_TL = HARMONIES * match_classes(ids, candidates_TL, places.head)
    classes_TL[places.inside] += harmony_SL[step]
    return candidates_TL, classes_TL


def form_returns(form: Form, steps_per_beat: int, sections: Sections | None = None) -> tuple[np.ndarray, np.ndarray]:
    """For each step of a form and its end: the steps of a bar, int64 [S], and the class of how long the following
    chords equal those one lag before, int64 [S, L]. Lags are LAGS bars, or those of the `sections`."""
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
        same[-1] = before[-1] >= 0  # there is no chord after the end
        # the next step that differs, computed from the end
        differs = np.minimum.accumulate(np.where(same, len(steps), steps)[::-1])[::-1]
        ahead = differs - steps
        ahead[differs == len(steps)] = 4 * bar_S[differs == len(steps)]  # equal until the end counts as four bars
        harmony_SL[:, column] = same * (1 + (ahead >= bar_S) + (ahead >= 4 * bar_S))
    return bar_S, harmony_SL


def _bars(signs: Signs, ids: np.ndarray) -> np.ndarray:
    """The steps of a bar in the latest metre, int64 [T]."""
    steps = np.array([bar_and_beat(metre, signs.steps_per_beat)[0] for metre in METRES])
    metre = latest((ids >= signs.metre0) & (ids < signs.tempo0))
    return np.where(metre >= 0, steps[np.clip(ids[metre] - signs.metre0, 0, len(METRES) - 1)], steps[0])
