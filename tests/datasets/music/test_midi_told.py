"""MIDI files that sound otherwise than their notes say, and what belongs to several tracks: read rightly, or told."""

from __future__ import annotations

import json
from collections import Counter
from xml.etree.ElementTree import fromstring

import pytest
from music_files import events, smf

from components.datasets.music.formats import pieces
from components.datasets.music.formats.midi import read_midi
from components.datasets.music.formats.midi_file import SILENT
from components.datasets.music.formats.musicxml import write_out
from components.datasets.music.performances import DrumsReader, PianoReader
from components.datasets.music.played import read_drums, read_piano
from components.score import note_columns

PIANO = {"seconds": 0.0, "min_notes": 1}
DRUMS = {"bars": 0, "min_notes": 1}
MUSIC = {"steps_per_beat": 12, "max_seconds": 1800.0, "beats": "file"}
MOVED = "note that a pitch bend or a tuning moves, read at its written pitch (kept)"
EFLAT = (63, 65, 67, 68, 70, 72, 74, 75, 70, 67, 63, 70, 63)
TUNED = "tuning message, not followed (kept)"


def line(channel: int, *between: tuple[int, bytes], pitch: int = 60) -> bytes:
    """A track of eight notes, and other events."""
    rows = [(240 * n, bytes([0x90 | channel, pitch + n, 70 + n])) for n in range(8)]
    rows += [(240 * n + 200, bytes([0x80 | channel, pitch + n, 0])) for n in range(8)]
    return events(*sorted([*between, *rows], key=lambda row: row[0]))


def of_channel(*controls: tuple[int, int]) -> list[tuple[int, bytes]]:
    return [(0, bytes([0xB0, *control])) for control in controls]


@pytest.mark.parametrize(
    ("between", "told"),
    [
        ([(0, b"\xe0\x00\x50")], {MOVED: 8}),
        ([(0, b"\xe0\x00\x50"), (960, b"\xe0\x00\x40")], {MOVED: 4}),
        ([(0, b"\xe0\x10\x40")], {}),
        (of_channel((101, 0), (100, 2), (6, 52)), {MOVED: 8}),  # an octave lower
        (of_channel((101, 0), (100, 0), (6, 12)), {}),  # how far a bend goes
        (of_channel((101, 0), (100, 2), (101, 127), (6, 12)), {}),  # no parameter
        (of_channel((7, 0)), {SILENT: 8}),
        ([*of_channel((11, 0)), (480, b"\xb0\x0b\x64")], {SILENT: 2}),
        ([(0, b"\xf0\x07\x7f\x7f\x08\x02\x00\x00\xf7")], {TUNED: 1}),
        ([(0, b"\xf0\x05\x7e\x7f\x09\x01\xf7")], {}),  # General MIDI on
    ],
)
def test_what_moves_or_silences_notes_is_told_with_their_number(between, told) -> None:
    data = smf(line(0, *between))
    assert dict(read_midi(data, "a.mid", MUSIC)[0].left_out) == told
    assert json.loads(read_piano(data, "a.mid", PIANO)[0][0]["left_out"]) == told


@pytest.mark.parametrize(
    ("signatures", "key"),
    [
        ([], "Eb major"), ([(0, 0, 0)], "Eb major"), ([(0, -5, 0)], "Bb minor"), ([(0, -6, 1)], "Eb minor"),
        ([(0, 0, 0), (0, -4, 0)], "Ab major"), ([(0, 0, 1)], "A minor"), ([(0, 2, 0), (1440, -5, 0)], "D major"),
        ([(0, 12, 0)], "Eb major"),
    ],
)  # fmt: skip
def test_a_key_signature_tells_the_key(signatures, key) -> None:
    """C major is what programs write where nobody chose a key; the notes decide between major and minor."""
    changes = [(tick, b"\xff\x59\x02" + bytes([sharps % 256, minor])) for tick, sharps, minor in signatures]
    rows = [(240 * n, bytes([0x90, pitch, 70])) for n, pitch in enumerate(EFLAT)]
    rows += [(240 * n + 200, bytes([0x80, pitch, 0])) for n, pitch in enumerate(EFLAT)]
    data = smf(events(*sorted([*changes, *rows], key=lambda row: row[0])))
    options = {"parts": "all", "melody_track": None, "chords_track": None, "min_notes": 1}
    ((row, score),) = pieces.read(data, "a.mid", MUSIC | options)
    assert row["key"] == score["key"] == key


def test_other_pedals_are_told_and_the_sustain_pedal_may_have_a_track_of_its_own() -> None:
    soft = [(240 * n, bytes([0xB0, 67, 127 * (n % 2)])) for n in range(8)]
    pedal = events((240, b"\xb0\x40\x7f"), (720, b"\xb0\x40\x00"), (960, b"\xb1\x40\x7f"))
    ((row, content),) = read_piano(smf(line(0, *soft), pedal), "a.mid", PIANO)
    assert json.loads(row["left_out"]) == {"time that the sostenuto or the soft pedal goes down, left out (kept)": 4}
    assert content["parts"][0]["pedal"] == [[250, 750]]


def test_programs_in_another_track_hold_for_its_channel() -> None:
    setup = events((0, b"\xc0\x00"), (0, b"\xc1\x28"))
    data = smf(setup, line(0), line(1, pitch=40))
    assert [track.program for track in read_midi(data, "a.mid", MUSIC)[0].tracks] == [0, 40]
    ((row, _),) = read_piano(data, "a.mid", PIANO)
    assert (row["notes_kept"], json.loads(row["left_out"])) == (8, {"note of another instrument": 8})
    half = smf(line(0, (960, b"\xc0\x30")))
    assert (
        '"note of another instrument in a piano\'s channel (kept)": 4'
        in read_piano(half, "a.mid", PIANO)[0][0]["left_out"]
    )


@pytest.mark.parametrize("read", [read_drums, read_piano])
def test_each_track_of_type_2_is_a_song_and_a_bad_one_costs_no_other(read) -> None:
    channel = 9 if read is read_drums else 0
    data = smf(line(channel, pitch=36), line(4, (0, b"\xc4\x28")), line(channel, pitch=36), kind=2)
    rows = read(data, "two.mid", DRUMS if read is read_drums else PIANO)
    assert [row["title"] for row, _ in rows] == ["two, song 1", "two, song 2", "two, song 3"]
    assert [content is None for _, content in rows] == [False, True, False]
    assert rows[1][0]["reason"].startswith("has no ")


@pytest.mark.slow
def test_drums_by_the_name_of_their_track_a_changing_metre_and_seconds_are_told(tmp_path) -> None:
    named = b"\0\xff\x03\x05Drums" + line(0, pitch=36)
    assert read_drums(smf(named), "a.mid", DRUMS)[0][0]["notes_kept"] == 8
    metres = [(0, b"\xff\x58\x04\x04\x02\x18\x08"), (960, b"\xff\x58\x04\x03\x02\x18\x08")]
    (tmp_path / "a.mid").write_bytes(smf(line(9, *metres, pitch=36)))
    (tmp_path / "b.mid").write_bytes(smf(line(9, pitch=36), division=0xE728))
    reader = DrumsReader([tmp_path], min_notes=1)
    assert len(list(reader.items())) == 2
    told = "\n".join(reader.notes)
    assert "a.mid, 'a': its metre changes: bars are counted in the first one" in told
    assert "b.mid, 'b': its time is in seconds (SMPTE)" in told


@pytest.mark.slow
def test_names_with_commas_are_files_of_their_own(tmp_path) -> None:
    for name in ("Suite, Air.mid", "Suite, Gigue.mid"):
        (tmp_path / name).write_bytes(smf(line(0)))
    reader = PianoReader([tmp_path], min_notes=1)
    assert {reader.group(item) for item in reader.items()} == {"Suite, Air", "Suite, Gigue"}
    assert note_columns(next(iter(reader.items())).parts[0].notes).shape[1] == 8


@pytest.mark.parametrize(("volume", "told"), [("0", 2), ("0.00", 2), ("64.5", 0), ("", 0)])
def test_a_muted_part_of_musicxml_is_told(volume: str, told: int) -> None:
    note = "<note>{}<duration>1</duration></note>"
    notes = note.format("<pitch/>") * 2 + note.format("<rest/>")
    part = f'<score-part id="P1"><midi-instrument id="I1"><volume>{volume}</volume></midi-instrument></score-part>'
    root = fromstring(
        f'<score-partwise><part-list>{part}</part-list><part id="P1"><measure number="1"><attributes>'
        f"<divisions>1</divisions></attributes>{notes}</measure></part></score-partwise>"
    )
    left_out = Counter[str]()
    write_out(root, left_out)
    assert left_out[SILENT] == told
