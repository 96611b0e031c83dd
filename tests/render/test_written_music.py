"""How generated music is written down: keys, chord symbols, swing, legends; and that it can be played."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from components.render.keys import estimate_key
from components.render.layout import bars
from components.render.musicxml import write_musicxml
from components.render.outputs import playable
from components.render.pianoroll import _legend_room
from components.render.swing import evened, swung
from components.score import Chord, Note, Part, Score

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0, -5), (0, 2, 3, 5, 7, 8, 11, 12, 7, 3, 0, -5)


def melody(pitches: tuple[int, ...], length: int = 12, **facts) -> Score:
    notes = tuple(Note(n * length, length, pitch) for n, pitch in enumerate(pitches))
    return Score((Part("Melody", notes, role="melody"),), 12, length_steps=length * len(notes), **facts)


@pytest.mark.slow
def test_of_two_spellings_a_key_takes_the_one_with_fewer_signs() -> None:
    found = [estimate_key(melody(tuple(60 + t + p for p in scale))) for t in range(12) for scale in (MAJOR, MINOR)]
    assert max(abs(key.sharps) for key in found) == 6
    assert {(key.sharps, key.mode) for key in found} >= {(-5, "major"), (5, "major"), (-5, "minor"), (5, "minor")}


@pytest.mark.slow
def test_a_chord_symbol_has_no_natural_sign_and_says_its_degrees_once(tmp_path: Path) -> None:
    chords = (Chord(0, 48, 11, "7"), Chord(48, 48, 4, "m7", 11), Chord(96, 48, 0, "7b9"))
    write_musicxml(melody(tuple(65 + p for p in MAJOR), chords=chords), tmp_path / "f.musicxml")  # one flat: B♭
    text = (tmp_path / "f.musicxml").read_text(encoding="utf-8")
    assert text.count("<root-step>B</root-step>") == 1
    assert "root-alter>0" not in text
    assert "bass-alter>0" not in text
    assert text.count('<degree print-object="no">') == text.count("<degree") - text.count("<degree-") == 1


@pytest.mark.slow
def test_swing_is_written_as_even_eighths(tmp_path: Path) -> None:
    line = melody((60, 62, 64, 65, 67, 65, 64, 62) * 3, length=6)
    played = swung(line)
    assert [note.start for note in played.parts[0].notes[:3]] == [0, 8, 12]
    assert evened(played).parts == line.parts
    write_musicxml(played, tmp_path / "x.musicxml")
    text = (tmp_path / "x.musicxml").read_text(encoding="utf-8")
    assert "Swing" in text
    assert "<time-modification>" not in text  # no triplet
    # a chord struck short on a late eighth is an eighth, and a triplet stays one
    comped = replace(played, parts=(*played.parts, Part("Piano", (Note(8, 3, 60), Note(32, 7, 60)))))
    assert [(n.start, n.duration) for n in evened(comped).parts[1].notes] == [(6, 6), (30, 6)]
    triplet = tuple(Note(144 + 4 * n, 4, 60) for n in range(3))
    mixed = replace(played, parts=(replace(played.parts[0], notes=(*played.parts[0].notes, *triplet)),))
    assert evened(mixed).parts[0].notes[-3:] == triplet


@pytest.mark.parametrize("length", [4, 6, 12])
def test_what_does_not_swing_is_written_as_it_is(length: int) -> None:
    line = melody((60, 62, 64) * 16, length=length)
    assert evened(line) is line


def test_a_legend_stands_beside_the_title_or_below_it() -> None:
    assert _legend_room(["Melody", "Bass"], "Short", 7.0)[0] == 2
    columns, top = _legend_room(["Electric bass (finger)"] * 9, "A title that takes most of the line", 7.0)
    assert columns * (0.45 + 0.085 * 22) <= 7.0
    assert top > _legend_room(["Melody"], "Short", 7.0)[1]
    assert _legend_room(["x" * 24] * 3, "", 1.0)[0] == 1
    assert _legend_room([], "Short", 7.0)[0] == 1


def test_a_piece_that_plays_for_an_hour_is_cut_and_a_silent_one_is_told() -> None:
    long = melody((60,) * 600, length=120, tempo_bpm=100.0, chords=(Chord(0, 72_000, 0, "maj"),))
    items, warnings = playable([long, melody(()), "a text"])
    assert warnings == ["piece 1 would last 60 minutes: cut off after 30", "piece 2 has no notes"]
    assert items[0].length_seconds == items[0].chords[0].duration / 12 * 60 / 100 == 1800
    assert items[0].parts[0].notes[-1].start + items[0].parts[0].notes[-1].duration <= items[0].length_steps
    assert bars(items[0])[-1][2] == items[0].length_steps
    assert items[2] == "a text"
