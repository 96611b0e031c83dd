"""MIDI onto the grid: triplets and swing keep their steps, overlaps and damage are counted, roles are told apart."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from music_files import BASS, CHORDS, DRUMS, TUNE, midi, piano_piece, pop_song, smf

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.beats import follow_beats, on_beats
from components.datasets.music.formats.grid import Piece, Track, alone, block_chords, key_name, settle
from components.datasets.music.formats.midi import read_midi
from components.datasets.music.formats.roles import assign, top_line

OPTIONS = {"steps_per_beat": 12, "max_seconds": 600.0, "beats": "file"}


def read(path, **options) -> Piece:
    (piece,) = read_midi(path.read_bytes(), path.name, OPTIONS | options)
    return piece


def rows(track: Track) -> list[tuple[int, ...]]:
    return [tuple(row[:3]) for row in track.notes.tolist()]


def test_sixteenths_triplets_and_swing_have_steps_of_their_own(tmp_path) -> None:
    notes = [(0, 0.25, 60), (0.25, 0.75, 62), (1, 1 / 3, 64), (4 / 3, 1 / 3, 65), (5 / 3, 1 / 3, 67), (2, 2 / 3, 69)]
    notes += [(8 / 3, 1 / 3, 71), (3, 1, 72)]
    piece = read(midi(tmp_path / "a.mid", ("", 0, notes)))
    assert rows(piece.tracks[0]) == [
        (0, 3, 60), (3, 9, 62), (12, 4, 64), (16, 4, 65), (20, 4, 67), (24, 8, 69), (32, 4, 71), (36, 12, 72),
    ]  # fmt: skip
    assert piece.timing_error_ms == 0


def test_the_timing_error_is_in_milliseconds_of_the_tempo_there(tmp_path) -> None:
    # a 24th of a beat late on a grid of 12ths: half a step, 1/24 beat
    path = midi(tmp_path / "a.mid", ("", 0, [(1 / 24 - 1 / 480, 1, 60), (4, 1, 62)]), tempi=((0, 60), (2, 120)))
    piece = read(path)
    assert piece.timing_error_ms == pytest.approx((1 / 24 - 1 / 480) * 1000 / 2, rel=1e-6)
    assert (piece.tempo_bpm, piece.tempo_changes) == (60, 1)


def test_a_note_has_a_step_at_least_and_gives_way_to_the_next_of_its_pitch(tmp_path) -> None:
    piece = read(midi(tmp_path / "a.mid", ("", 0, [(0, 0.01, 60), (1, 3, 64), (2, 1, 64), (2, 0.5, 64), (3, 1, 65)])))
    assert rows(piece.tracks[0]) == [(0, 1, 60), (12, 12, 64), (24, 24, 64), (36, 12, 65)]  # a note-off ends the oldest
    assert piece.left_out == {
        "note on the same step and pitch as another": 1,
        "note cut where its pitch begins again (kept)": 1,
    }


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 200), st.integers(58, 62), st.integers(1, 127)), min_size=1)
)
def test_settled_notes_never_overlap_in_one_pitch_and_every_onset_sounds(given_) -> None:
    start, duration, pitch, velocity = np.array(given_).T
    left_out: Counter[str] = Counter()
    notes = settle(start / 7, (start + duration) / 7, pitch, velocity, left_out)
    assert (notes[:, 1] >= 1).all()
    assert notes[:, [0, 2]].tolist() == sorted(notes[:, [0, 2]].tolist())
    wanted = {(round(s / 7), p) for s, p in zip(start.tolist(), pitch.tolist(), strict=True)}
    assert {(s, p) for s, _, p, _ in notes.tolist()} == wanted
    assert len(notes) + left_out["note on the same step and pitch as another"] == len(given_)
    for value in set(pitch.tolist()):
        line = notes[notes[:, 2] == value]
        assert (line[:-1, 0] + line[:-1, 1] <= line[1:, 0]).all()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.integers(50, 70)), min_size=1, max_size=40))
def test_the_top_line_is_one_note_at_a_time_and_loses_none(given_) -> None:
    start, duration, pitch = np.array(given_).T
    notes = settle(start, start + duration, pitch, np.full(len(start), 80), Counter())
    line, under = top_line(notes)
    assert (line[:-1, 0] + line[:-1, 1] <= line[1:, 0]).all()
    assert (line[:, 1] >= 1).all()
    both = np.concatenate([line, under])
    assert sorted(both[:, [0, 2]].tolist()) == sorted(notes[:, [0, 2]].tolist())
    first = {s: p for s, _, p, _ in sorted(notes.tolist(), key=lambda row: row[2])}
    for s, _, p, _ in line.tolist():
        assert first[s] == p  # the highest that begins there


def test_legato_is_one_voice_and_a_chord_is_not() -> None:
    legato = np.array([[0, 13, 60, 80], [12, 13, 64, 80], [24, 13, 62, 80]])
    assert alone(legato).all()
    assert len(top_line(legato)[1]) == 0
    held = np.array([[0, 36, 48, 80], [12, 6, 64, 80], [24, 6, 67, 80]])
    assert alone(held).tolist() == [True, False, False]


def test_metres_upbeats_and_silent_bars(tmp_path) -> None:
    # an upbeat as notation programs write it: a bar of 1/4 of its own
    piece = read(midi(tmp_path / "a.mid", ("", 0, TUNE), metres=((0, 1, 4), (1, 4, 4), (9, 3, 4))))
    assert (piece.metre, piece.upbeat_steps, piece.metre_changes) == ((4, 4), 12, [(108, (3, 4))])
    late = [(start + 9, duration, pitch) for start, duration, pitch in TUNE]
    piece = read(midi(tmp_path / "b.mid", ("", 0, late), metres=((0, 4, 4), (0, 4, 4), (17, 2, 4))))
    assert piece.tracks[0].notes[0, 0] == 12
    assert piece.metre_changes == [(108, (2, 4))]
    assert any("2 silent bars" in remark for remark in piece.remarks)
    piece = read(midi(tmp_path / "c.mid", ("", 0, TUNE), metres=((0, 7, 8), (3.5, 5, 64))), steps_per_beat=4)
    assert (piece.metre, piece.metre_changes) == ((7, 8), [])


def test_roles_in_a_pop_song(tmp_path) -> None:
    piece = read(pop_song(tmp_path / "song.mid"))
    found = assign(piece)
    assert (found["melody"], found["bass"]) == ("4 'Lead Vocals'", "1 'E.Bass'")
    assert found["chords"] in ("2 'Nylon Gtr'", "3 'Strings'")
    assert "named like one" in found["why"]
    assert piece.left_out["drum"] == len(DRUMS)
    assert [(c.root, c.kind) for c in piece.chords] == [(0, "maj"), (5, "maj"), (7, "7"), (0, "maj")]


def test_roles_without_any_name(tmp_path) -> None:
    piece = read(midi(tmp_path / "a.mid", ("", 0, CHORDS), ("", 0, BASS), ("", 0, TUNE)))
    found = assign(piece)
    assert (found["chords"], found["bass"], found["melody"]) == ("0", "1", "2")
    assert "highest" not in found["why"]
    assert "mean pitch 74, monophonic 100%" in found["why"]


def test_a_words_track_marks_the_melody_of_a_karaoke_file(tmp_path) -> None:
    low = [(start, duration, pitch - 14) for start, duration, pitch in TUNE]
    words = [(float(beat), "la ") for beat in range(16)]
    piece = read(midi(tmp_path / "a.kar", ("x", 0, low), ("Flute", 73, TUNE), words=words))
    found = assign(piece)
    assert found["melody"] == "0 'x'"
    assert "it carries the words" in found["why"]


def test_a_piano_piece_gives_its_top_line_and_keeps_the_rest(tmp_path) -> None:
    piece = read(piano_piece(tmp_path / "a.mid"))
    total = len(piece.tracks[0].notes)
    found = assign(piece)
    assert "its top line" in found["why"]
    melody, under = piece.tracks
    assert (melody.role, under.role) == ("melody", "chords")
    assert melody.notes[:, 2].tolist() == [pitch for _, _, pitch in TUNE]
    assert len(melody.notes) + len(under.notes) == total


def test_a_track_that_is_asked_for_is_taken_and_a_missing_one_is_told(tmp_path) -> None:
    path = pop_song(tmp_path / "song.mid")
    assert assign(read(path), melody_track=3)["melody"] == "3 'Strings'"
    assert assign(read(path), melody_track="gtr", chords_track="strings")["melody"] == "2 'Nylon Gtr'"
    with pytest.raises(Refused, match=r"no track 'sax' .*4 'Lead Vocals'"):
        assign(read(path), melody_track="sax")
    with pytest.raises(Refused, match="no track 0"):
        assign(read(path), melody_track=0)  # the drums


def test_block_chords_are_named_and_joined(tmp_path) -> None:
    blocks = (
        [(0, 1, p) for p in (48, 52, 55)] + [(1, 1, p) for p in (48, 52, 55)] + [(2, 2, p) for p in (45, 48, 52, 55)]
    )
    chords, explained = block_chords(read(midi(tmp_path / "a.mid", ("", 0, blocks))).tracks[0])
    assert [(c.start, c.duration, c.root, c.kind) for c in chords] == [(0, 24, 0, "maj"), (24, 24, 9, "m7")]
    assert explained == 1.0


def test_the_key_is_found(tmp_path) -> None:
    assert key_name(read(pop_song(tmp_path / "song.mid")).tracks) == "C major"
    up = [(start, duration, pitch + 3) for start, duration, pitch in TUNE + CHORDS]
    assert key_name(read(midi(tmp_path / "b.mid", ("", 0, sorted(up)))).tracks) == "Eb major"


def test_a_solo_played_without_a_click_is_said_to_be_off_the_beat(tmp_path) -> None:
    rng = np.random.default_rng(0)
    free = [(float(at), 0.2, 60 + i % 12) for i, at in enumerate(np.cumsum(rng.uniform(0.2, 0.7, 100)))]
    assert any("off the beat" in remark for remark in read(midi(tmp_path / "a.mid", ("", 0, free))).remarks)
    swing = [(beat + off, 0.2, 60) for beat in range(40) for off in (0.0, 0.62)]
    jitter = [(start + float(rng.normal(0, 0.03)) + 0.2, d, p) for start, d, p in swing]
    assert not any("off the beat" in remark for remark in read(midi(tmp_path / "b.mid", ("", 0, jitter))).remarks)


def a_drifting_line(rng: np.random.Generator, beats: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """(onsets in beats of the average tempo, onsets in true beats) of swung eighths over a tempo that wanders."""
    wander, lengths = 0.0, []
    for _ in range(beats):
        wander = 0.97 * wander + rng.normal(0, 0.008)
        lengths.append(np.exp(wander))
    edges = np.concatenate([[0], np.cumsum(np.array(lengths) / np.mean(lengths))])
    true = np.sort(np.concatenate([np.arange(beats)[rng.random(beats) < 0.85], np.arange(beats) + 0.62]))
    return np.interp(true, np.arange(beats + 1), edges) + rng.normal(0, 0.02, len(true)), true


@pytest.mark.parametrize("seed", range(5))
def test_beats_are_followed_where_the_tempo_wanders(seed) -> None:
    played, true = a_drifting_line(np.random.default_rng(seed))
    order = np.argsort(played)
    played, true = played[order] + 0.3, true[order]
    beats = follow_beats(played)
    assert (np.diff(beats) > 0.7).all()
    assert beats[0] < played[0]
    assert beats[-1] > played[-1]
    found = on_beats(played, beats) - true
    assert (np.abs(found - np.median(found)) < 0.15).mean() > 0.9
    against_the_file = played - true
    assert (np.abs(against_the_file - np.median(against_the_file)) < 0.15).mean() < 0.6


def test_a_followed_solo_lies_on_its_beats(tmp_path) -> None:
    played, _ = a_drifting_line(np.random.default_rng(0))
    notes = [(float(start), 0.2, 60 + index % 24) for index, start in enumerate(np.sort(played) + 1)]
    path = midi(tmp_path / "a.mid", ("", 0, notes))
    as_filed, followed = read(path), read(path, beats="follow")
    assert any("beats were estimated" in remark for remark in followed.remarks)
    places = np.bincount(followed.tracks[0].notes[:, 0] % 12, minlength=12)
    assert places[[11, 0, 1, 6, 7, 8]].sum() > 0.9 * places.sum()
    places = np.bincount(as_filed.tracks[0].notes[:, 0] % 12, minlength=12)
    assert places[[11, 0, 1, 6, 7, 8]].sum() < 0.75 * places.sum()
    assert len(followed.tracks[0].notes) + followed.left_out.total() >= len(notes)


@pytest.mark.parametrize(
    ("tracks", "reason"),
    [
        ([("Drums", 0, DRUMS, True)], "has only drums"),
        ([], "has no notes"),
        ([("", 0, [(0, 1, 60), (5000, 1, 60)])], "lasts 3,001 s, longer than max_seconds=600"),
    ],
)
def test_a_file_without_music_says_so(tmp_path, tracks, reason) -> None:
    with pytest.raises(Refused, match=reason):
        read(midi(tmp_path / "a.mid", *tracks))


@pytest.mark.parametrize("data", [b"", b"MThd", b"hello", b"MThd\0\0\0\6\0\0\0\1\0\0MTrk\0\0\0\4\0\xff\x2f\0"])
def test_what_is_no_midi_is_refused_in_words(data) -> None:
    with pytest.raises(Refused, match="MIDI"):
        read_midi(data, "a.mid", OPTIONS)


def test_a_riff_envelope_is_opened(tmp_path) -> None:
    inner = midi(tmp_path / "a.mid", ("", 0, TUNE)).read_bytes()
    (piece,) = read_midi(b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + inner, "a.rmi", OPTIONS)
    assert len(piece.tracks[0].notes) == len(TUNE)


@pytest.mark.parametrize("division", [1, 5, 100, 12_800])
def test_silent_bars_are_whole_bars_also_where_they_are_no_whole_number_of_ticks(division: int) -> None:
    beats = [7.0 + at for at in range(4)]  # two bars of 7/8, then quarter notes
    notes = [(beat, bytes([0x90, 60 + at, 80])) for at, beat in enumerate(beats)]
    notes += [(beat + 1, bytes([0x80, 60 + at, 0])) for at, beat in enumerate(beats)]
    rows = [(0.0, bytes([0xFF, 0x58, 4, 7, 3, 24, 8])), *sorted(notes)]
    track, now = b"", 0
    for beat, event in rows:
        wait, now = round(beat * division) - now, round(beat * division)
        track += bytes(128 * (shift > 0) + (wait >> shift & 127) for shift in (14, 7, 0) if shift == 0 or wait >> shift)
        track += event
    (piece,) = read_midi(smf(track, kind=0, division=division), "x.mid", OPTIONS)
    assert piece.tracks[0].notes[:, 0].tolist() == [0, 12, 24, 36]
