"""Metrics of drum patterns, compared with the same for real, held-out ones: density, dynamics, timing and copying."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from components.drums import PIECE_OF
from components.errors import UserError
from components.score import Score, note_columns

GRID = 4  # sixteenths
# metric → its unit, as in `components.evaluation.music`
DRUM_UNITS = {
    "hits_per_bar": "hits",
    "pieces_used": "pieces",
    "velocity_spread": "velocity",
    "off_grid_ms": "milliseconds",
    "off_grid_spread_ms": "milliseconds",
    "bars_repeated": "share",
    "bars_copied": "share",
    "patterns_copied": "share",
}
Bar = frozenset[tuple[int, int]]  # (sixteenth, piece) of its hits


def judge_drums(
    scores: Sequence[Score], training: Sequence[Score], held_out: Sequence[Score]
) -> dict[str, dict[str, float]]:
    """{metric: {"generated": x, "held_out": y}}.

    - `hits_per_bar`; `pieces_used` of the kit, mean over patterns.
    - `velocity_spread`: standard deviation of the velocities in a pattern, mean over patterns.
    - `off_grid_ms`: mean distance of a hit from the nearest sixteenth; `off_grid_spread_ms`: standard deviation of the
      lateness of hits in a pattern, mean over patterns.
    - `bars_repeated`: share of bars with the same hits as an earlier bar of the pattern; velocities are ignored.
    - `bars_copied`, `patterns_copied`: share of bars and of whole patterns whose hits occur in a training pattern.

    Raises:
        UserError: one of the three has no hits.
    """
    for pieces, name in ((scores, "generated"), (training, "training"), (held_out, "held-out")):
        if not any(part.notes for piece in pieces for part in piece.parts):
            raise UserError(f"the {name} patterns have no hits, so they can't be compared", where="judge")
    whole = {tuple(bars(score)) for score in training}
    known = {bar for pattern in whole for bar in pattern}
    columns = {"generated": _figures(scores, whole, known), "held_out": _figures(held_out, whole, known)}
    return {name: {column: values[name] for column, values in columns.items()} for name in columns["generated"]}


def bars(score: Score) -> list[Bar]:
    """The hits of each bar."""
    step, piece, _, _ = _hits(score)
    bar = score.metre[0] * 4 * GRID // score.metre[1] or 1
    lead = round(score.upbeat_steps * GRID / score.steps_per_beat) % bar
    step = step + (bar - lead if lead else 0)
    count = max(-(-score.length_steps // max(1, score.bar_steps)), int(step.max(initial=0)) // bar + 1)
    found: list[set[tuple[int, int]]] = [set() for _ in range(count)]
    for at, what in zip(step.tolist(), piece.tolist(), strict=True):
        found[at // bar].add((at % bar, what))
    return [frozenset(bar) for bar in found]


def _hits(score: Score) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each hit the nearest sixteenth, the piece, the velocity, and the lateness in milliseconds."""
    columns = [note_columns(part.notes) for part in score.parts if part.role == "drums"]
    start, _, pitch, velocity = np.concatenate([np.zeros((4, 0), dtype=np.int64), *columns], axis=1)
    kit = np.isin(pitch, list(PIECE_OF))
    start, pitch, velocity = start[kit], pitch[kit], velocity[kit]
    fine = start * GRID / score.steps_per_beat
    step = np.floor(fine + 0.5).astype(np.int64)
    piece = np.array([PIECE_OF[key] for key in pitch.tolist()], dtype=np.int64)
    return step, piece, velocity, (fine - step) * 60_000.0 / GRID / score.tempo_bpm


def _figures(scores: Sequence[Score], whole: set[tuple[Bar, ...]], known: set[Bar]) -> dict[str, float]:
    scores = [score for score in scores if any(part.notes for part in score.parts)]
    hits, patterns = [_hits(score) for score in scores], [bars(score) for score in scores]
    all_bars = [bar for pattern in patterns for bar in pattern]
    late = np.concatenate([of[3] for of in hits])
    return {
        "hits_per_bar": sum(len(of[0]) for of in hits) / len(all_bars),
        "pieces_used": fmean(len(np.unique(of[1])) for of in hits),
        "velocity_spread": fmean(float(of[2].std()) for of in hits),
        "off_grid_ms": float(np.abs(late).mean()),
        "off_grid_spread_ms": fmean(float(of[3].std()) for of in hits),
        "bars_repeated": sum(bar in pattern[:n] for pattern in patterns for n, bar in enumerate(pattern))
        / len(all_bars),
        "bars_copied": fmean(bar in known for bar in all_bars),
        "patterns_copied": fmean(tuple(pattern) in whole for pattern in patterns),
    }
