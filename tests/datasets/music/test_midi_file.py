"""MIDI as people's files have it: nothing that is there is lost, and what was put right is told."""

from __future__ import annotations

import random

import numpy as np
import pytest
import symusic
from hypothesis import given
from hypothesis import strategies as st
from music_files import CHORDS, TUNE, events, midi, pop_song, smf
from test_midi import rows

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.grid import decoded
from components.datasets.music.formats.midi import read_midi
from components.datasets.music.formats.midi_file import MOST_OUT_OF_RANGE, parse_midi
from components.datasets.music.formats.roles import assign
from components.datasets.music.reader import MusicReader

OPTIONS = {"steps_per_beat": 12, "max_seconds": 600.0, "beats": "file"}
LINE = [60, 64, 62, 65, 64, 67, 65, 69, 67, 71, 69, 72, 71, 74, 72, 76]


def note(tick: int, pitch: int, loud: int = 80, channel: int = 0, length: int = 240) -> list[tuple[int, bytes]]:
    return [(tick, bytes([0x90 | channel, pitch, loud])), (tick + length, bytes([0x80 | channel, pitch, 0]))]


def line(*, step: int = 480, start: int = 0, pitches=LINE, channel: int = 0) -> list[tuple[int, bytes]]:
    return [event for i, pitch in enumerate(pitches) for event in note(start + i * step, pitch, channel=channel)]


def name(text: bytes) -> tuple[int, bytes]:
    return 0, b"\xff\x03" + bytes([len(text)]) + text


def read(data: bytes, **options):
    return read_midi(data, "song.mid", OPTIONS | options)


def only(data: bytes, **options):
    (piece,) = read(data, **options)
    return piece


def test_what_symusic_reads_is_read_alike(tmp_path) -> None:
    data = pop_song(tmp_path / "a.mid").read_bytes()
    ours, theirs = parse_midi(data), symusic.Score.from_midi(data)
    found = {
        (track.name.decode(), of is track.drums, note)
        for track in ours.tracks
        for of in (track.notes, track.drums)
        for notes in of.values()
        for note in notes
    }
    assert found == {
        (track.name, track.is_drum, (n.time, n.time + n.duration, n.pitch, n.velocity))
        for track in theirs.tracks
        for n in track.notes
    }
    assert len(found) > 80


def test_a_change_of_program_is_no_end_of_a_melody() -> None:
    piece = only(smf(events(name(b"Lead"), *line(), (7700, b"\xc0\x49"), *line(start=7920), *line(start=15840))))
    (track,) = piece.tracks
    assert (len(track.notes), track.program, track.name) == (48, 73, "Lead")


def test_channels_of_one_track_are_tracks_and_keep_their_numbers() -> None:
    both = sorted([*line(), *line(channel=3, pitches=[p - 24 for p in LINE]), *line(channel=9)])
    piece = only(smf(events(*both), kind=0))
    assert [(track.number, len(track.notes)) for track in piece.tracks] == [(0, 16), (1, 16)]
    assert piece.left_out == {"drum": 16}


@pytest.mark.slow
def test_type_2_is_several_songs_with_their_own_metre_and_tempo(tmp_path) -> None:
    first = events((0, b"\xff\x58\x04\x03\x02\x18\x08"), (0, b"\xff\x51\x03\x07\xa1\x20"), *line())
    second = events(name(b"Evening"), (0, b"\xff\x58\x04\x02\x02\x18\x08"), (0, b"\xff\x51\x03\x0f\x42\x40"), *line())
    (tmp_path / "two.mid").write_bytes(smf(first, second, events(name(b"Empty")), kind=2))
    reader = MusicReader([tmp_path])
    scores = list(reader.items())
    assert [(s.title, s.metre, s.tempo_bpm, len(s.parts[0].notes)) for s in scores] == [
        ("two 1", (3, 4), 120.0, 16), ("Evening", (2, 4), 60.0, 16),
    ]  # fmt: skip
    assert [row["reason"] for row in reader.report] == ["", "", "has no notes"]


@pytest.mark.slow
def test_time_in_seconds_is_read_in_beats_of_the_tempo_and_told(tmp_path) -> None:
    quarter_seconds = events(*line(step=250))  # 25 frames of 40 ticks are 1,000 ticks a second
    data = smf(quarter_seconds, kind=0, division=(256 - 25) << 8 | 40)
    assert [start for start, *_ in rows(only(data).tracks[0])] == [6 * i for i in range(16)]
    slow = smf(events((0, b"\xff\x51\x03\x0f\x42\x40"), *line(step=250)), kind=0, division=(256 - 25) << 8 | 40)
    assert [start for start, *_ in rows(only(slow).tracks[0])] == [3 * i for i in range(16)]
    assert only(slow).seconds == pytest.approx(4.0, abs=0.1)
    (tmp_path / "film.mid").write_bytes(data)
    reader = MusicReader([tmp_path])
    list(reader.items())
    assert any(note.startswith("film.mid, 'film': its time is in seconds (SMPTE)") for note in reader.notes)


def test_notes_never_closed_end_at_the_next_of_their_pitch_or_with_the_track() -> None:
    opened = [(i * 480, bytes([0x90, pitch, 80])) for i, pitch in enumerate([60, 62, 60, 62, 64])]
    piece = only(smf(events(*opened, (2880, b"\xb0\x07\x40"))))
    assert rows(piece.tracks[0]) == [(0, 24, 60), (12, 24, 62), (24, 48, 60), (36, 36, 62), (48, 24, 64)]
    assert piece.left_out == {"note never ended: it goes to the next of its pitch (kept)": 5}


def test_one_note_never_closed_costs_no_other() -> None:
    rows_ = [(0, b"\x90\x3c\x50"), (480, b"\x90\x3c\x50"), (960, b"\x80\x3c\x40"), (960, b"\x90\x40\x50"),
             (1440, b"\x80\x40\x40")]  # fmt: skip
    piece = only(smf(events(*rows_)))
    assert rows(piece.tracks[0]) == [(0, 12, 60), (12, 12, 60), (24, 12, 64)]


def test_an_end_ends_the_oldest_note_of_its_pitch() -> None:
    overlapping = [(0, b"\x90\x3c\x50"), (240, b"\x90\x3c\x50"), (480, b"\x90\x3c\x00"), (960, b"\x90\x3c\x00")]
    (track,) = parse_midi(smf(events(*overlapping))).tracks
    assert track.notes == {0: [(0, 480, 60, 80), (240, 960, 60, 80)]}
    assert track.never_closed == 0


def test_one_byte_out_of_range_costs_one_velocity_at_most() -> None:
    good = events(*line())
    at = good.index(bytes([0x90, 67, 80]))
    piece = only(smf(good[: at + 2] + b"\x85" + good[at + 3 :]))
    assert len(piece.tracks[0].notes) == 16
    assert piece.tracks[0].notes[5, 3] == 127
    assert piece.left_out == {"byte out of range put right (kept)": 1}
    many = events(*[(tick, bytes([0x90, pitch, 0x85])) for tick, pitch in enumerate([60] * (MOST_OUT_OF_RANGE + 1))])
    with pytest.raises(Refused, match="damaged MIDI: track 1 has 17 bytes out of range"):
        read(smf(many))


def test_running_status_goes_on_over_what_is_not_played() -> None:
    data = (
        b"\0\x90\x3c\x50" + b"\x60\xff\x01\x02hi" + b"\x60\x3c\0" + b"\0\x40\x50" + b"\x60\xf0\x03abc" + b"\x60\x40\0"
    )
    (track,) = parse_midi(smf(data)).tracks
    assert track.notes == {0: [(0, 192, 60, 80), (192, 384, 64, 80)]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (smf(events(*line()))[:122], "track 1 has 100 of its"),
        (smf(b"\0\x90\x3c"), "ends in the middle of an event"),
        (smf(b"\0\x3c\x50"), "where an event should begin"),
        (smf(b"\0\xf5\0"), "which isn't allowed in files"),
        (smf(b"\xff\xff\xff\xff\x7f\0"), "more than four bytes"),
        (smf(events(*line()), kind=7), "type 7"),
        (smf(events(*line()), division=0), "0 ticks"),
    ],
)
def test_damage_is_told_in_words(data, reason) -> None:
    with pytest.raises(Refused, match=f"damaged MIDI: .*{reason}"):
        read(data)


@pytest.mark.slow
def test_any_bytes_give_a_file_or_a_reason_soon() -> None:
    rng = random.Random(0)
    good = smf(events(*line()), events(*line(channel=1)))
    for _ in range(300):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 12)):
            data[rng.randrange(14, len(data))] = rng.randrange(256)
        try:
            pieces = read(bytes(data))
        except Refused:
            continue
        for piece in pieces:
            assert all((track.notes[:, 1] >= 1).all() and (track.notes[:, 0] >= 0).all() for track in piece.tracks)


@pytest.mark.parametrize(
    ("text", "coding"),
    [("Mélodie", "latin-1"), ("Été à Nîmes", "cp1252"), ("Don’t", "cp1252"), ("Flöte", "utf-8"), ("メロディ", "cp932"),
     ("ピアノ 1", "cp932"), ("主旋律", "cp932"), ("Größe über alles", "latin-1"), ("Piano", "ascii")],
)  # fmt: skip
def test_names_in_the_codings_of_their_time(text, coding) -> None:
    assert decoded(text.encode(coding)) == text
    piece = only(smf(events(name(text.encode(coding)), *line()), events(*line(channel=1))))
    assert assign(piece, melody_track=text)["melody"] == f"0 {text!r}"


def test_a_track_of_a_few_notes_is_no_melody_whatever_it_is_called(tmp_path) -> None:
    piano = [(beat, 0.9, pitch) for beat in range(64) for pitch in (52, 55, 60 + beat % 5)]
    few = [(20, 1, 72), (30, 1, 74), (40, 1, 76)]
    for called in ("", "Melody"):
        piece = only(midi(tmp_path / "a.mid", ("Demo", 0, piano), (called, 73, few)).read_bytes())
        assert assign(piece)["melody"] == "0 'Demo'"
    short = [(beat / 5, 0.2, 72 + beat % 7) for beat in range(20)]  # all in one bar of 16
    piece = only(midi(tmp_path / "b.mid", ("Demo", 0, piano), ("Lead", 73, short)).read_bytes())
    assert assign(piece)["melody"] == "0 'Demo'"
    rests = [(start + 16 * verse, d, p) for verse in (1, 3) for start, d, p in TUNE]
    piece = only(midi(tmp_path / "c.mid", ("Demo", 0, piano), ("Lead", 73, rests)).read_bytes())
    assert assign(piece)["melody"] == "1 'Lead'"
    piece = only(midi(tmp_path / "d.mid", ("Demo", 0, CHORDS), ("Line", 0, few[:1])).read_bytes())
    assert assign(piece, melody_track="Line")["melody"] == "1 'Line'"


def test_triplets_on_a_grid_without_thirds_are_told() -> None:
    triplets = [event for i in range(12) for event in note(i * 160, 60 + i, length=150)]
    assert only(smf(events(*triplets))).left_out == {}
    left_out = only(smf(events(*triplets)), steps_per_beat=4).left_out
    assert left_out == {"triplet note moved to a grid of 4 steps in a beat (kept)": 8}


@given(
    st.lists(
        st.tuples(st.integers(0, 2000), st.integers(1, 300), st.integers(0, 127), st.integers(1, 127)),
        min_size=1,
        max_size=40,
    )
)
def test_what_is_written_comes_back(notes) -> None:
    on_off = [(s, 1, p, v) for s, d, p, v in notes] + [(s + d, 0, p, 0) for s, d, p, _ in notes]
    data = smf(events(*((t, bytes([0x90, p, v])) for t, _, p, v in sorted(on_off))))
    (track,) = parse_midi(data).tracks
    assert sorted((s, p, v) for s, _, p, v in track.notes[0]) == sorted((s, p, v) for s, _, p, v in notes)
    assert track.never_closed == 0
    assert np.sum([end - start for start, end, *_ in track.notes[0]]) == sum(d for _, d, *_ in notes)


def bank(number: int, channel: int = 1, tick: int = 0) -> list[tuple[int, bytes]]:
    return [(tick, bytes([0xB0 | channel, 0, number])), (tick, bytes([0xC0 | channel, 0]))]


def in_order(*rows: list[tuple[int, bytes]]) -> bytes:
    return events(*sorted((row for part in rows for row in part), key=lambda row: row[0]))


def system(*message: int) -> tuple[int, bytes]:
    return 0, bytes([0xF0, len(message) + 1, *message, 0xF7])


GS_RESET = system(0x41, 0x10, 0x42, 0x12, 0x40, 0x00, 0x7F, 0x00, 0x41)
GS_RHYTHM = system(0x41, 0x10, 0x42, 0x12, 0x40, 0x12, 0x15, 0x02, 0x17)  # part 2: channel 2
XG_RHYTHM = system(0x43, 0x10, 0x4C, 0x08, 0x01, 0x07, 0x02)


@pytest.mark.parametrize(
    ("messages", "drums"),
    [
        (bank(120), 16),  # General MIDI 2
        (bank(127), 16),  # XG
        (bank(126), 16),  # XG, sound effects
        ([GS_RESET, *bank(127)], 0),  # of GS it is another synthesiser's sounds
        ([GS_RHYTHM, *bank(0)], 16),
        ([XG_RHYTHM], 16),
        (bank(121), 0),
        (bank(8), 0),
        ([(0, bytes([0xB1, 0, 120]))], 0),  # a bank counts from the next change of program on
        ([*bank(120), *bank(0, tick=480 * 8)], 8),
    ],
)
def test_drum_kits_of_other_channels_are_percussion(messages, drums) -> None:
    piece = only(smf(in_order(messages, line(), line(channel=1))))
    assert piece.left_out["drum"] == drums
    assert sum(len(track.notes) for track in piece.tracks) == 32 - drums


def test_channel_10_may_play_a_melody_and_keeps_its_number() -> None:
    piece = only(smf(in_order(bank(121, 9), line(channel=9)), in_order(line())))
    assert piece.left_out == {}
    assert [track.number for track in piece.tracks] == [0, 1]
    apart = only(smf(events(GS_RHYTHM), in_order(line(channel=1)), in_order(line())))  # a track of messages alone
    assert (apart.left_out["drum"], [track.number for track in apart.tracks]) == (16, [1])


@pytest.mark.parametrize(
    ("called", "drums"),
    [
        (b"Drums", 16), (b"Drum Kit 1", 16), (b"drumset", 16), ("Batería".encode(), 16), (b"Steel Drums", 0),
        (b"Drum'n'Bass", 0), (b"Humdrum", 0), (b"Piano", 0),
    ],
)  # fmt: skip
def test_a_track_that_is_called_drums_is_percussion_on_any_channel(called, drums) -> None:
    kit = [36, 38, 42, 46] * 4
    piece = only(smf(in_order([name(called)], line(pitches=kit)), in_order([name(b"Lead")], line(channel=1))))
    assert piece.left_out["drum"] == drums
    assert any("by the track's name" in remark for remark in piece.remarks) is bool(drums)
    assert piece.tracks[-1].number == 1
    alone = only(smf(in_order([name(called)], line(pitches=kit))))
    assert len(alone.tracks[0].notes) == 16
