"""Metrics of performances, which are timed in seconds and have no bars: density, dynamics and pedal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from components.evaluation.music import judge
from components.score import Score, note_columns

PERFORMANCE_UNITS = {
    "notes_per_second": "a second",
    "velocity_spread": "velocity",
    "notes_at_once": "notes",
    "pedal_down": "share",
}
TIMELESS = ("pitch_class_distance", "interval_distance", "notes_in_best_key")  # metrics of `judge` that need no bars


def judge_performances(
    scores: Sequence[Score], training: Sequence[Score], held_out: Sequence[Score]
) -> dict[str, dict[str, float]]:
    """{metric: {"generated": x, "held_out": y}}.

    The metrics of `components.evaluation.music.judge` that need no bars, and means over pieces: notes per second; the
    standard deviation of velocities; the number of keys down at a time, while any is; the share of time that the pedal
    is down.

    Raises:
        UserError: one of the three has no piece with notes.
    """
    table = judge(scores, training, held_out)
    found = {name: table[name] for name in TIMELESS if name in table}
    columns = {"generated": _figures(scores), "held_out": _figures(held_out)}
    return found | {name: {side: columns[side][name] for side in columns} for name in PERFORMANCE_UNITS}


def _figures(scores: Sequence[Score]) -> dict[str, float]:
    rows = []
    for score in (score for score in scores if any(part.notes for part in score.parts)):
        start, duration, _, velocity = np.concatenate([note_columns(part.notes) for part in score.parts], axis=1)
        down = np.zeros(int((start + duration).max()) + 1, dtype=np.int64)
        np.add.at(down, start, 1)
        np.add.at(down, start + duration, -1)
        held = np.cumsum(down)
        pedal = sum(up - first for part in score.parts for first, up in part.pedal)
        rows.append(
            (
                len(start) / max(score.length_seconds, 1e-9),
                float(velocity.std()),
                float(held[held > 0].mean()),
                min(1.0, pedal / max(1, score.length_steps)),
            )
        )
    return dict(zip(PERFORMANCE_UNITS, map(fmean, zip(*rows, strict=True)), strict=True))
