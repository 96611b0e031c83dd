"""Context features of planned lead sheets: the bars and the last steps left, and pitches relative to home.

A good ending is a long note on the root of the first chord, up to the end of the last bar, which an upbeat shortens.
From the current chord and bar alone, a network would have to remember the first chord and the upbeat to the end.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from components.encodings.form import BARS_LEFT, FAMILIES, METRES, MOST_LEFT, NEXT_ROOT, ROOT_HERE, bar_and_beat
from components.encodings.lead_sheet.signs import LOWEST, Places, Signs

FEW_BEATS = 4  # the steps left are told from this many beats before the end on


def plan_sizes(steps_per_beat: int) -> tuple[int, ...]:
    """Sizes of the columns of `plan_columns`: the root of the first chord (home); relative to it the roots of the
    current and the next chord and the latest pitch; the steps left."""
    return (13, 13, 13, 13, FEW_BEATS * steps_per_beat + 2)


def plan_columns(signs: Signs, ids: np.ndarray, places: Places, length: int, context: np.ndarray) -> np.ndarray:
    """int64 [T, 5], sizes as in `plan_sizes`, all from 1 (0: none yet). Also writes the bars left of the planned form
    into `context` [T, C], the columns of an unplanned lead sheet, for the tokens before the melody.

    The steps left of the melody are those to the `length` of its form. Before the melody they are those to the planned
    end, where the last bar and the upbeat make up a whole bar."""
    form = ids[: places.begin]
    columns = np.zeros((len(ids), len(plan_sizes(signs.steps_per_beat))), dtype=np.int64)
    left = length - places.time
    left[: places.begin] = -1
    if bars := signs.planned_bars(form):
        said = slice(int(np.flatnonzero((form >= signs.bars0) & (form < signs.home0))[0]), places.begin)
        written = Written(signs, form, places.time[: places.begin])
        context[said, BARS_LEFT] = np.clip(bars - written.bars, 0, MOST_LEFT)[said]
        left[said] = (written.ends(bars) - written.upbeat - places.time[: places.begin])[said]
    columns[:, -1] = np.clip(left, -1, FEW_BEATS * signs.steps_per_beat) + 1
    chords = np.flatnonzero((ids >= signs.chord0) & (ids < signs.length0))
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
    """What a form has after each of the ids [T] before a melody, all int64 [T]: `bars` begun, as
    `components.encodings.form.bars_begun` computes it for one step, and the steps of its `upbeat`."""

    def __init__(self, signs: Signs, ids: np.ndarray, time: np.ndarray) -> None:
        lengths = np.where((ids >= signs.length0) & (ids < signs.pitch0), ids - signs.length0 + 1, 0)
        self.upbeat = np.cumsum(lengths * np.concatenate([[False], ids[:-1] == signs.upbeat]))
        marks = np.flatnonzero((ids >= signs.metre0) & (ids < signs.tempo0)).tolist()
        # number of bars; step where the metre began; bars before it; steps of a bar
        self.bars, self.origin, self.before = (np.zeros(len(ids), dtype=np.int64) for _ in range(3))
        self.bar = np.ones(len(ids), dtype=np.int64)
        for mark, stop in pairwise([*marks, len(ids)]):
            self.before[mark:stop] = self.bars[mark - 1] if mark else 0
            self.bar[mark:stop], _ = bar_and_beat(METRES[int(ids[mark]) - signs.metre0], signs.steps_per_beat)
            self.origin[mark:stop] = self.upbeat[mark:stop] if time[mark] == 0 else time[mark]
            begun = -(-(time[mark:stop] - self.origin[mark:stop]) // self.bar[mark:stop])
            self.bars[mark:stop] = self.before[mark:stop] + np.maximum(0, begun)

    def ends(self, bars: int) -> np.ndarray:
        """The step at which the form has `bars` bars, if the metre doesn't change."""
        return self.origin + (bars - self.before) * self.bar
