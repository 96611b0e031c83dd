"""Figures of drum patterns, each beside a pattern whose figures are known."""

from __future__ import annotations

import pytest

from components.errors import UserError
from components.evaluation.drums import DRUM_UNITS, bars, judge_drums
from components.evaluation.performances import PERFORMANCE_UNITS, judge_performances
from components.score import Note, Part, Score

BEAT, BAR = 96, 384


def pattern(*hits: tuple[int, int, int], count: int = 2) -> Score:
    notes = tuple(Note(start, 12, key, loud) for start, key, loud in sorted(hits))
    return Score((Part("Kit", notes, role="drums"),), BEAT, length_steps=count * BAR, tempo_bpm=100.0)


ROCK = pattern(*((bar * BAR + beat * BEAT, 36 + 2 * (beat % 2), 90) for bar in range(2) for beat in range(4)))
LATE = pattern(*((start + 8 * n % 16, key, 60 + 40 * (n % 2)) for n, (start, key) in enumerate(
    (note.start, note.pitch) for note in ROCK.parts[0].notes)))  # fmt: skip
OTHER = pattern((0, 36, 80), (BAR, 49, 80), (BAR + BEAT, 51, 80))


def test_bars_are_what_is_hit_on_which_sixteenth() -> None:
    assert bars(ROCK)[0] == bars(ROCK)[1] == {(0, 0), (4, 1), (8, 0), (12, 1)}
    assert bars(LATE) == bars(ROCK)  # neither velocity nor what lies below the grid counts
    assert len(bars(pattern((0, 36, 80), count=3))) == 3


def test_figures_are_those_of_known_patterns() -> None:
    table = judge_drums([LATE], [ROCK], [OTHER])
    assert set(table) == set(DRUM_UNITS)
    made, real = ({name: row[side] for name, row in table.items()} for side in ("generated", "held_out"))
    # a step is 60,000 / 100 / 96 = 6.25 ms, every other hit is 8 steps late
    assert made == pytest.approx({
        "hits_per_bar": 4, "pieces_used": 2, "velocity_spread": 20, "off_grid_ms": 25, "off_grid_spread_ms": 25,
        "bars_repeated": 0.5, "bars_copied": 1, "patterns_copied": 1,
    })  # fmt: skip
    assert real == pytest.approx({
        "hits_per_bar": 1.5, "pieces_used": 3, "velocity_spread": 0, "off_grid_ms": 0, "off_grid_spread_ms": 0,
        "bars_repeated": 0, "bars_copied": 0, "patterns_copied": 0,
    })  # fmt: skip


def test_nothing_to_judge_is_said() -> None:
    with pytest.raises(UserError, match="the generated patterns have no hits"):
        judge_drums([pattern()], [ROCK], [ROCK])


def test_figures_of_performances_need_no_bars() -> None:
    def piece(*notes: Note, pedal: tuple[tuple[int, int], ...] = ()) -> Score:
        return Score((Part("P", notes, pedal=pedal),), 100, (1, 4), 0, 400, 60.0, timing="seconds")

    one = piece(Note(0, 200, 60, 40), Note(0, 100, 64, 80), Note(300, 100, 67, 60), pedal=((0, 100),))
    table = judge_performances([one], [one], [piece(Note(0, 400, 60, 50))])
    assert {"pitch_class_distance", *PERFORMANCE_UNITS} <= set(table)
    assert "duration_distance" not in table
    expected = {"notes_per_second": 0.75, "notes_at_once": 400 / 300, "pedal_down": 0.25, "velocity_spread": 16.33}
    assert {name: table[name]["generated"] for name in expected} == pytest.approx(expected, abs=0.01)
    assert table["pedal_down"]["held_out"] == table["velocity_spread"]["held_out"] == 0
