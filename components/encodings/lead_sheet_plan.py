"""What a planned lead sheet is told beside each token: how many bars its form still gets, and where home is.

A tune that ends well ends on the root of its first chord, when its last bar is over. A network that is told the chord
that holds, in any of twelve keys, would have to remember the first chord through the whole piece.
"""

from __future__ import annotations

import numpy as np

from components.encodings.form import BARS_LEFT, FAMILIES, METRES, MOST_LEFT, NEXT_ROOT, ROOT_HERE, bar_and_beat
from components.encodings.lead_sheet_signs import LOWEST, Places, Signs

# root of the first chord; roots of the chord that holds and of the next, and the latest pitch, counted from it
HOME_SIZES = (13, 13, 13, 13)


def plan_columns(signs: Signs, ids: np.ndarray, places: Places, context: np.ndarray) -> np.ndarray:
    """int64 [T, 4], sizes as in HOME_SIZES, all from 1 (0: none yet); and in `context` [T, C], the columns that an
    unplanned lead sheet has, the bars left of a form that is being written."""
    begin = places.begin
    if bars := signs.planned_bars(ids[:begin]):
        context[:begin, BARS_LEFT] = np.clip(bars - bars_written(signs, ids[:begin], places.time[:begin]), 0, MOST_LEFT)
    chords = np.flatnonzero((ids >= signs.chord0) & (ids < signs.length0))
    columns = np.zeros((len(ids), len(HOME_SIZES)), dtype=np.int64)
    if len(chords):
        home = (int(ids[chords[0]]) - signs.chord0) // len(FAMILIES)
        since = np.arange(len(ids)) >= chords[0]
        columns[since, 0] = home + 1
        pitch = context[:, -2]
        for column, classes in enumerate(
            (context[:, ROOT_HERE], context[:, NEXT_ROOT], pitch + LOWEST * (pitch > 0)), 1
        ):
            there = since & (classes > 0)
            columns[there, column] = (classes[there] - 1 - home) % 12 + 1
    return columns


def bars_written(signs: Signs, ids: np.ndarray, time: np.ndarray) -> np.ndarray:
    """How many bars of the form have begun before each step that ids [T] before the melody have reached, int64 [T]:
    `components.encodings.form.bars_begun`, of every beginning of the form at once."""
    lengths = np.where((ids >= signs.length0) & (ids < signs.pitch0), ids - signs.length0 + 1, 0)
    upbeat = np.cumsum(lengths * np.concatenate([[False], ids[:-1] == signs.upbeat]))
    marks = np.flatnonzero((ids >= signs.metre0) & (ids < signs.tempo0))
    out, before = np.zeros(len(ids), dtype=np.int64), 0
    for mark, stop in zip(marks, [*marks[1:], len(ids)], strict=True):
        bar, _ = bar_and_beat(METRES[int(ids[mark]) - signs.metre0], signs.steps_per_beat)
        here = slice(mark, stop)
        origin = upbeat[here] if time[mark] == 0 else time[mark]
        out[here] = before + np.maximum(0, -(-(time[here] - origin) // bar))
        if stop < len(ids):
            last = upbeat[stop] if time[mark] == 0 else time[mark]
            before += max(0, int(-(-(time[stop] - last) // bar)))
    return out
