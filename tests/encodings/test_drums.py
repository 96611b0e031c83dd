"""Drum patterns and piano performances as tokens: what comes back, what is refused, what the model is told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from components.datasets.made.drums import MadeDrums
from components.datasets.made.piano import MadePiano
from components.drums import KEYS, KIT, PIECE_OF, piece_name
from components.encodings.base import encoding_from_state
from components.encodings.drums import Drums
from components.encodings.performance import Performance
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.score import Note, Part, Score, note_columns

PATTERNS = [MadeDrums().item(number) for number in (0, 2, 10, 11)]  # 4/4, sixteenths, 12/8, 3/4
PIECES = [MadePiano().item(number) for number in (0, 1)]


def kit(*notes: tuple[int, int, int], **facts) -> Score:
    """Hits (start, key, velocity) on a grid of 96 steps a quarter note."""
    hits = tuple(Note(start, 12, key, loud) for start, key, loud in notes)
    return Score((Part("Kit", hits, role="drums"),), 96, length_steps=facts.pop("length", 384), **facts)


def hits(score: Score) -> list[tuple[int, int, int]]:
    start, _, pitch, velocity = note_columns(score.parts[0].notes)
    return sorted(zip(start.tolist(), pitch.tolist(), velocity.tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "items"), [(Drums(), PATTERNS), (Performance(), PIECES)])
def test_what_was_written_down_comes_back_and_keeps_the_grammar(encoding, items) -> None:
    rebuilt = encoding_from_state(json.loads(json.dumps(encoding.state())))
    for item in items:
        ids = encoding.encode(item)
        back = encoding.decode(ids)
        assert np.array_equal(rebuilt.encode(back), ids)
        assert len(back.parts[0].notes) == next(iter(encoding.counts(ids).values())) > 40
        framed = np.concatenate([[BOS], ids, [EOS]])
        for t in range(1, len(framed), 3):
            assert encoding.allowed(framed[:t])[framed[t]], encoding.label(int(framed[t]))
        assert encoding.allowed(framed).sum() == 1
        context = encoding.context(framed)
        assert (context.max(axis=0) < np.array(encoding.context_sizes)).all()
        assert (context.max(axis=0)[:2] > 0).all()
        for cut in (50, 51, 50, 7):  # asked for in any order, the past says it
            assert np.array_equal(encoding.context(framed[:cut]), context[:cut])


def test_hits_keep_piece_velocity_and_place_below_the_grid() -> None:
    item = kit((3, 36, 100), (20, 42, 21), (72 - 11, 38, 127), (192, 46, 1), length=768)
    back = Drums(velocities=127).decode(Drums(velocities=127).encode(item))
    assert [(start, key) for start, key, _ in hits(back)] == [(3, 36), (20, 42), (61, 38), (192, 46)]
    assert all(abs(a[2] - b[2]) <= 1 for a, b in zip(hits(item), hits(back), strict=True))
    assert (back.length_steps, back.timing) == (768, "played")
    even = Drums(offsets=1)
    assert [start for start, _, _ in hits(even.decode(even.encode(item)))] == [0, 1, 3, 8]


def test_an_upbeat_is_the_end_of_a_first_bar() -> None:
    back = Drums().decode(Drums().encode(kit((0, 38, 90), (96, 36, 90), upbeat_steps=96, length=480)))
    assert [start for start, _, _ in hits(back)] == [288, 384]


def test_keys_of_a_kit_become_its_nine_pieces() -> None:
    assert len(KIT) == len(KEYS) == 9
    assert [PIECE_OF[key] for key in KEYS] == list(range(9))
    assert [piece_name(key) for key in (22, 26, 58, 40, 60)] == [
        "closed hi-hat", "open hi-hat", "low tom", "snare", "key 60",
    ]  # fmt: skip
    same = [kit((0, key, 90)) for key in (38, 37, 40)]
    assert len({tuple(Drums().encode(item)) for item in same}) == 1


def test_of_hits_in_one_sixteenth_the_loudest_stays_and_the_others_are_told() -> None:
    encoding = Drums()
    item = kit((0, 38, 30), (6, 38, 110), (8, 40, 20), (96, 36, 90))
    encoding.fit([item])
    assert encoding.remarks() == ["2 of 4 hits (50.0 %) left out: louder hits fall on the same sixteenth"]
    assert [(start, key) for start, key, _ in hits(encoding.decode(encoding.encode(item)))] == [(6, 38), (96, 36)]
    encoding.fit([kit((0, 38, 30))])
    assert encoding.remarks() == []


def test_notes_beyond_the_keys_are_counted() -> None:
    encoding = Performance()
    part = Part("Piano", tuple(Note(100 * n, 50, pitch, 64) for n, pitch in enumerate((20, 21, 108, 109))))
    item = Score((part,), 1000, (1, 4), 0, 1000, 60.0, timing="seconds")
    encoding.fit([item])
    assert encoding.remarks() == ["2 notes outside a piano's range (A0 to C8): left out"]
    assert [note.pitch for note in encoding.decode(encoding.encode(item)).parts[0].notes] == [21, 108]
    encoding.fit([])
    assert encoding.remarks() == []


def test_what_isnt_of_the_kind_is_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match="has no drums") as error:
        Drums().encode(PIECES[0])
    assert "performance" in error.value.hint
    with pytest.raises(UserError, match="has only drums") as error:
        Performance().encode(PATTERNS[0])
    assert "data.reader=piano" in error.value.hint
    for text in ("funk", "4/4 fast", "4/4 90 3"):
        with pytest.raises(UserError, match="isn't a valid prompt for a drum pattern"):
            Drums().prompt(text)
    with pytest.raises(UserError, match="takes no prompt"):
        Performance().prompt("slow")


def test_a_prompt_sets_metre_and_tempo() -> None:
    encoding = Drums()
    ids, told = encoding.prompt("3/4 93")
    assert [encoding.label(int(id)) for id in ids] == ["3/4", "90 bpm"]
    assert told == ["the tempo 93 is rounded to 90"]
    assert encoding.prompt(" ")[0].size == 0
    framed = np.array([BOS, *ids])
    assert np.flatnonzero(encoding.allowed(framed)).tolist() == [encoding.vocabulary.id("bar")]


def test_the_model_is_told_what_the_bar_before_had_here() -> None:
    encoding = Drums()
    ids = encoding.encode(kit((0, 36, 127), (0, 42, 60), (192, 38, 90), (384, 36, 127), length=768))
    names = [encoding.label(int(id)) for id in ids]
    second = len(names) - 1 - names[::-1].index("|")
    place = encoding.context(ids)[second + 1]  # "at 1" of the second bar
    assert place.tolist() == [1, 2, 0b101, 9, 0]
    assert encoding.context(ids)[second + 2].tolist()[-1] == 16  # the kick: as loud as a bar ago


def test_pedal_velocity_and_time_come_back() -> None:
    notes = (Note(0, 500, 60, 64), Note(1503, 400, 60, 20), Note(1503, 2, 67, 100))
    item = Score((Part("P", notes, pedal=((10, 700), (700, 1200))),), 1000, (1, 4), 0, 1903, 60.0, timing="seconds")
    back = Performance(velocities=127).decode(Performance(velocities=127).encode(item))
    assert [(n.start, n.duration, n.pitch) for n in back.parts[0].notes] == [(0, 50, 60), (150, 1, 67), (150, 40, 60)]
    assert [abs(n.velocity - loud) <= 1 for n, loud in zip(back.parts[0].notes, (64, 100, 20), strict=True)] == [
        True
    ] * 3
    assert back.parts[0].pedal == ((1, 70), (70, 120))
    assert (back.timing, back.length_seconds) == ("seconds", 1.9)


def test_a_performance_is_moved_as_a_whole_and_only_as_far_as_keys_go() -> None:
    encoding = Performance(transpose=(-3, 3))
    ids = encoding.encode(PIECES[0])
    moved = [encoding.augment(ids, np.random.default_rng(seed)) for seed in range(12)]
    before = note_columns(encoding.decode(ids).parts[0].notes)
    shifts = set()
    for one in moved:
        after = note_columns(encoding.decode(one).parts[0].notes)
        shifts |= set((after[2] - before[2]).tolist())
        assert np.array_equal(after[[0, 1, 3]], before[[0, 1, 3]])
    assert shifts <= set(range(-3, 4))
    assert len(shifts) > 3
