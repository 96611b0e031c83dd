"""One way to count bars: in pictures, notation, MIDI, the band and the judgement, a change of the metre included."""

import re
from dataclasses import replace

import pytest

from components.datasets.music.formats.midi import read_midi
from components.errors import UserError
from components.render import layout
from components.render.band import accompaniment
from components.render.midi import write_midi
from components.render.musicxml import write_musicxml
from components.render.outputs import described, playable
from components.score import Chord, Note, Part, Score

NOTES = tuple(Note(step, 4, 60 + step % 12) for step in range(0, 56, 4))
CHANGING = Score((Part("Melody", NOTES, role="melody"),), metre=(4, 4), metre_changes=((32, (3, 4)),), length_steps=56)


def test_bars_and_beats_follow_the_metre_that_holds():
    assert [bar[:4] for bar in layout.bars(CHANGING)] == [
        (1, 0, 16, (4, 4)), (2, 16, 32, (4, 4)), (3, 32, 44, (3, 4)), (4, 44, 56, (3, 4)),
    ]  # fmt: skip
    assert layout.bars(CHANGING)[2].beats == [32, 36, 40]
    jig = replace(CHANGING, upbeat_steps=4, metre_changes=((4, (2, 4)), (20, (6, 8))))
    found = layout.bars(jig)
    assert [bar[:3] for bar in found] == [(0, 0, 4), (1, 4, 12), (2, 12, 20), (3, 20, 32), (4, 32, 44), (5, 44, 56)]
    assert [bar.beats for bar in found[2:4]] == [[12, 16], [20, 26]]
    cut = layout.bars(replace(CHANGING, metre_changes=((24, (3, 4)),)))
    assert [(bar.start, bar.end, bar.full) for bar in cut[1:3]] == [(16, 24, 16), (24, 36, 12)]
    bars, beats = layout.units(CHANGING)
    assert bars == {bar.number: (bar.start, bar.end) for bar in layout.bars(CHANGING)}
    assert len(beats) == 14
    with pytest.raises(UserError, match="bars without a step"):
        layout.bars(replace(CHANGING, metre_changes=((16, (1, 64)),)))


@pytest.mark.slow
def test_midi_and_notation_say_the_change(tmp_path):
    for piece in (CHANGING, replace(CHANGING, upbeat_steps=4, metre_changes=((20, (3, 4)),))):
        write_midi(piece, tmp_path / "a.mid")
        options = {"steps_per_beat": 4, "max_seconds": 99, "beats": "file"}
        (back,) = read_midi((tmp_path / "a.mid").read_bytes(), "a.mid", options)
        assert (back.metre, back.upbeat_steps, back.metre_changes) == (
            piece.metre, piece.upbeat_steps, list(piece.metre_changes),
        )  # fmt: skip
    write_musicxml(CHANGING, tmp_path / "a.musicxml")
    measures = re.findall(r"<measure .*?</measure>", (tmp_path / "a.musicxml").read_text(), re.DOTALL)
    metres = [re.findall(r"<beats>(\d+)", measure) for measure in measures]
    assert metres == [["4"], [], ["3"], []]
    assert [measure.count("<note") for measure in measures] == [4, 4, 3, 3]


def test_the_band_and_what_is_told_count_the_same_bars():
    song = replace(CHANGING, chords=(Chord(0, 56, 0, "maj"),))
    bass = accompaniment(song, "folk").parts[-1].notes
    assert [note.start // 3 for note in bass] == [0, 8, 16, 24, 32, 44]  # beats 1 and 3 of four, the first of three
    assert described(CHANGING).startswith("4/4, 4.0 bars")
    slow = replace(CHANGING, tempo_bpm=1.0, length_steps=5000, metre_changes=((100, (3, 4)),))
    (cut,), _ = playable([slow])
    assert cut.length_steps == 112  # 30 minutes are 120 steps
