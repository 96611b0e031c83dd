"""Drums and performances as files: the MIDI has the same hits, times and pedal; pictures, page and sound fit them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from components.datasets.made.drums import MadeDrums
from components.datasets.made.piano import MadePiano
from components.datasets.music.played import read_drums, read_piano
from components.datasets.music.reader import _score
from components.drums import KIT
from components.encodings.drums import Drums
from components.encodings.performance import Performance
from components.render.audio import synthesise
from components.render.layout import pictured
from components.render.midi import write_midi
from components.render.outputs import described, write_score
from components.render.percussion import drum
from components.render.piece import Piece
from components.score import Note, Part, Score, note_columns, sounding, spoken

PATTERN = Drums().decode(Drums().encode(MadeDrums().item(10)))  # in 12/8
PIECE = Performance().decode(Performance().encode(MadePiano().item(0)))


def sorted_columns(score: Score, rows: list[int]) -> list[list[int]]:
    return sorted(note_columns(score.parts[0].notes)[rows].T.tolist())


@pytest.mark.slow
def test_written_drums_are_read_back_hit_by_hit_from_channel_10(tmp_path) -> None:
    write_midi(PATTERN, tmp_path / "d.mid")
    ((_, content),) = read_drums((tmp_path / "d.mid").read_bytes(), "d.mid", {"bars": 0, "min_notes": 1})
    back = _score(content)
    assert sorted_columns(back, [0, 2, 3]) == sorted_columns(PATTERN, [0, 2, 3])
    assert (back.metre, back.tempo_bpm, back.steps_per_beat) == ((12, 8), PATTERN.tempo_bpm, PATTERN.steps_per_beat)
    assert np.array_equal(Drums().encode(back), Drums().encode(PATTERN))


@pytest.mark.slow
def test_a_written_performance_is_read_back_with_its_pedal(tmp_path) -> None:
    write_midi(PIECE, tmp_path / "p.mid")
    ((_, content),) = read_piano((tmp_path / "p.mid").read_bytes(), "p.mid", {"seconds": 0, "min_notes": 1})
    back = _score(content)
    # on a grid ten times as fine, so of the same hundredths
    first = min(note.start for note in PIECE.parts[0].notes)
    scaled = [
        [(start - first) * 10, length * 10, pitch, loud]
        for start, length, pitch, loud in sorted_columns(PIECE, [0, 1, 2, 3])
    ]
    assert np.abs(np.array(sorted_columns(back, [0, 1, 2, 3])) - scaled).max() <= 1
    assert len(back.parts[0].pedal) == len(PIECE.parts[0].pedal) > 4
    moved = (np.array(PIECE.parts[0].pedal) - first) * 10
    assert np.abs(np.array(back.parts[0].pedal) - np.maximum(moved, 0)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("item", [PATTERN, PIECE], ids=["drums", "piano"])
def test_files_have_no_notation_and_sound_that_neither_is_silent_nor_clips(tmp_path, item) -> None:
    short = item.until(item.steps_per_beat * 4)
    paths = write_score(Piece(short, "One", record={"seed": 1}), tmp_path / "one")
    assert [path.suffix for path in paths] == [".mid", ".wav", ".png", ".html"]
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert len(set(re.findall(r'fill-opacity="([\d.]+)"', page))) > 3  # soft and loud notes look different
    assert ("closed hi-hat</span>" in page) == item.only_drums
    assert ('"unit": "second"' in page) != item.only_drums
    sound = synthesise(short)
    assert 0.85 < np.abs(sound).max() < 0.9
    assert np.sqrt((sound[:, :32000] ** 2).mean()) > 0.01


def test_a_kit_is_drawn_as_its_pieces_in_groups() -> None:
    shown, rows = pictured(PATTERN)
    assert [rows.name(row) for row in range(rows.low, rows.high + 1)] == list(KIT)
    kick = replace(PATTERN, parts=(Part("Kit", (Note(0, 12, 36),), role="drums"),))
    for one in (shown, pictured(kick)[0]):  # of the same colours, even if nothing of a group is hit
        assert [part.name for part in one.parts] == ["Kick", "Snare", "Hi-hat", "Toms", "Cymbals"]
    assert sum(len(part.notes) for part in shown.parts) == len(PATTERN.parts[0].notes)
    assert shown.length_steps == PATTERN.length_steps
    assert pictured(PIECE)[0] is PIECE


def test_words_of_drums_name_what_is_hit() -> None:
    item = Score((Part("Kit", (Note(0, 12, 36), Note(48, 12, 40)), role="drums"),), 96, length_steps=384)
    assert spoken(item) == "Kit: kick snare"
    assert described(item) == "4/4, 1.0 bars\nKit: kick snare"
    assert described(PIECE).startswith(f"{PIECE.length_seconds:.1f} seconds\nPiano: ")


def test_each_piece_of_the_kit_sounds_and_another_key_like_the_nearest() -> None:
    sounds = [drum(key, 16000) for key in (36, 38, 42, 46, 43, 47, 50, 49, 51)]
    assert all(np.abs(sound).max() > 0.1 and np.isfinite(sound).all() for sound in sounds)
    assert len({sound.tobytes() for sound in sounds}) == 9
    assert np.array_equal(drum(56, 16000), drum(55, 16000))


def test_the_pedal_holds_notes_until_it_is_lifted_or_the_key_is_struck_again() -> None:
    notes = (Note(0, 5, 60), Note(2, 3, 64), Note(8, 2, 60), Note(30, 4, 67), Note(33, 2, 72))
    part = Part("P", notes, pedal=((3, 20), (34, 50)))
    assert sounding(part) == [8, 18, 12, 20, 17]
    assert sounding(Part("P", notes)) == [5, 3, 2, 4, 2]
    cut = Score((part,), 10, length_steps=60).until(10).parts[0]
    assert (len(cut.notes), cut.pedal) == (3, ((3, 10),))
