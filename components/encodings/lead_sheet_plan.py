"""Context features of planned lead sheets: the bars left in the form, and pitches relative to home.

A good ending is on the root of the first chord, at the end of the last bar. From the current chord alone, a network
would have to remember the first chord through the whole piece.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from components.encodings.form import BARS_LEFT, FAMILIES, METRES, MOST_LEFT, NEXT_ROOT, ROOT_HERE, bar_and_beat
from components.encodings.lead_sheet_signs import LOWEST, Places, Signs

# root of the first chord (home); relative to it the roots of the current and the next chord and the latest pitch
HOME_SIZES = (13, 13, 13, 13)


def plan_columns(signs: Signs, ids: np.ndarray, places: Places, context: np.ndarray) -> np.ndarray:
    """int64 [T, 4], sizes as in HOME_SIZES, all from 1 (0: none yet). Also writes the bars left of the planned form
    into `context` [T, C], the columns of an unplanned lead sheet, for the tokens before the melody."""
    form = ids[: places.begin]
    if bars := signs.planned_bars(form):
        said = np.arange(len(form)) >= np.flatnonzero((form >= signs.bars0) & (form < signs.metre0))[0]
        left = bars - Written(signs, form, places.time[: places.begin]).bars
        context[: places.begin, BARS_LEFT][said] = np.clip(left, 0, MOST_LEFT)[said]
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


class Written:
    """Number of bars begun after each of the ids [T] before a melody: `bars`, int64 [T], as
    `components.encodings.form.bars_begun` computes it for one step."""

    def __init__(self, signs: Signs, ids: np.ndarray, time: np.ndarray) -> None:
        lengths = np.where((ids >= signs.length0) & (ids < signs.pitch0), ids - signs.length0 + 1, 0)
        upbeat = np.cumsum(lengths * np.concatenate([[False], ids[:-1] == signs.upbeat]))
        marks = np.flatnonzero((ids >= signs.metre0) & (ids < signs.tempo0)).tolist()
        self.bars = np.zeros(len(ids), dtype=np.int64)
        self.origin, self.before, self.bar = 0, 0, 1  # step where the metre began, bars before it, steps of a bar
        for mark, stop in pairwise([*marks, len(ids)]):
            self.before = int(self.bars[mark - 1]) if mark else 0
            self.bar, _ = bar_and_beat(METRES[int(ids[mark]) - signs.metre0], signs.steps_per_beat)
            origins = upbeat[mark:stop] if time[mark] == 0 else time[mark : mark + 1]
            self.origin = int(origins[-1])
            self.bars[mark:stop] = self.before + np.maximum(0, -(-(time[mark:stop] - origins) // self.bar))

    def end(self, bars: int) -> int:
        """The step at which the form has `bars` bars, if the metre doesn't change."""
        return self.origin + (bars - self.before) * self.bar
