"""What every rendering of a score must hold: the notes, the record, the pictures, the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.errors import UserError
from components.render import audio, layout
from components.render.audio import write_wav
from components.render.keys import spelling
from components.render.midi import write_midi
from components.render.musicxml import write_musicxml
from components.render.page import write_page
from components.render.pianoroll import write_pianoroll
from components.render.piece import Piece
from components.render.record import read_record
from components.score import Chord, Note, Part, Score

RECORD = {"model": "chorales", "version": "3", "seed": 7, "settings": {"temperature": 0.95}, "prompt": "Größe ♯"}
HOSTILE = 'reprise-record:e30=:end <b>&"\x00\x1b\u202e\ud83d\ude00' + "x" * 500


def page(score: Score, path: Path, record: dict[str, Any] | None) -> None:
    write_page(Piece(score, score.title, score.title, {score.title: "a"}, record), path, audio.page_audio(score))


RENDERERS: dict[str, Callable[[Score, Path, dict[str, Any] | None], None]] = {
    ".mid": write_midi,
    ".musicxml": write_musicxml,
    ".png": write_pianoroll,
    ".wav": write_wav,
    ".html": page,
}


def chorale(bars: int = 2) -> Score:
    """Four voices with an upbeat, ties over bar lines, a unison, rests and a last bar that the upbeat completes."""
    end = 16 * bars
    lines = {
        "Soprano": [(0, 4, 69), (4, 2, 71), (6, 2, 73), (8, 8, 69), (18, 6, 68), (24, end - 24, 69)],
        "Alto": [(0, 4, 64), (4, 12, 64), (16, 8, 62), (24, end - 24, 61)],
        "Tenor": [(0, 4, 61), (4, 14, 57), (18, 2, 59), (20, 4, 61), (24, end - 24, 61)],
        "Bass": [(0, 2, 57), (2, 2, 56), (4, 8, 54), (12, 12, 50), (24, end - 24, 45)],
    }
    parts = tuple(Part(name, tuple(Note(*note) for note in notes), program=19) for name, notes in lines.items())
    return Score(parts, upbeat_steps=4, length_steps=end, title="Wie schön", tempo_bpm=96.0)


def sounding(score: Score) -> list[list[tuple[float, float, int]]]:
    unit = score.steps_per_beat
    return [sorted((n.start / unit, n.duration / unit, n.pitch) for n in part.notes) for part in score.parts]


def rounded(notes: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    return sorted((round(start, 4), round(length, 4), pitch) for start, length, pitch in notes)


def musicxml_notes(path: Path) -> list[list[tuple[float, float, int]]]:
    """Each part's notes with ties joined. (music21's own stripTies overlooks a tie between F and F-natural.)"""
    from music21 import converter

    found = []
    for part in converter.parse(path, forceSource=True).parts:
        notes: list[tuple[float, float, int]] = []
        open_at: dict[int, tuple[float, float]] = {}  # pitch → start and end of what is tied so far
        for element in part.flatten().notes:
            for one in getattr(element, "notes", [element]):
                at, length, pitch = float(element.offset), float(element.quarterLength), one.pitch.midi
                kind = one.tie.type if one.tie else None
                start, end = open_at.pop(pitch) if kind in ("continue", "stop") else (at, at)
                assert end == pytest.approx(at), "a tie across a gap"
                if kind in ("start", "continue"):
                    open_at[pitch] = (start, at + length)
                else:
                    notes.append((start, at + length - start, pitch))
        assert not open_at
        found.append(notes)
    return found


def midi_tracks(path: Path) -> tuple[list[list[tuple[float, float, int]]], list[list[Any]]]:
    """Notes of each track after the conductor's, and the events of every track."""
    from music21 import midi

    file = midi.MidiFile()
    file.open(path)
    file.read()
    file.close()
    found = []
    for track in file.tracks[1:]:
        now, notes, open_at = 0, [], defaultdict(list)
        for event in track.events:
            if event.isDeltaTime():
                now += event.time
            elif event.isNoteOn():
                open_at[event.pitch].append(now)
            elif event.isNoteOff():
                start = open_at[event.pitch].pop(0)
                notes.append((start / file.ticksPerQuarterNote, (now - start) / file.ticksPerQuarterNote, event.pitch))
        assert not any(open_at.values())
        found.append(notes)
    return found, [[e for e in track.events if not e.isDeltaTime()] for track in file.tracks]


@st.composite
def scores(draw: st.DrawFn) -> Score:
    """One to three voices of notes and rests, on any grid and in any metre that the recipes use."""
    unit = draw(st.sampled_from([1, 2, 3, 4, 6, 12]))
    metre = draw(st.sampled_from([(4, 4), (3, 4), (2, 2), (6, 8), (5, 4)]))
    base = Score((), steps_per_beat=unit, metre=metre)
    parts = []
    for name in draw(st.sampled_from([["Soprano", "Bass"], ["Tenor"], ["a", "b", "c"]])):
        notes, at = [], 0
        for gap, length, pitch in draw(
            st.lists(
                st.tuples(st.sampled_from([0, 0, 0, 1, 5]), st.integers(1, 2 * unit + 3), st.integers(36, 84)),
                max_size=8,
            )
        ):
            notes.append(Note(at + gap, length, pitch))
            at += gap + length
        parts.append(Part(name, tuple(notes)))
    upbeat = draw(st.integers(0, base.bar_steps - 1))
    length = draw(st.integers(1, 4 * base.bar_steps))
    return replace(base, parts=tuple(parts), upbeat_steps=upbeat, length_steps=length)


# records


@pytest.mark.slow
@pytest.mark.parametrize("suffix", RENDERERS)
def test_every_format_carries_the_record(suffix, tmp_path):
    RENDERERS[suffix](chorale(), path := tmp_path / f"piece{suffix}", RECORD)
    assert read_record(path) == RECORD


@pytest.mark.slow
@pytest.mark.parametrize("suffix", RENDERERS)
def test_without_a_record_a_file_says_so(suffix, tmp_path):
    RENDERERS[suffix](chorale(), path := tmp_path / f"piece{suffix}", None)
    with pytest.raises(UserError, match="contains no record"):
        read_record(path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", RENDERERS)
def test_hostile_names_neither_break_a_file_nor_forge_its_record(suffix, tmp_path):
    piece = replace(chorale(), title=HOSTILE, parts=tuple(replace(part, name=HOSTILE) for part in chorale().parts))
    RENDERERS[suffix](piece, path := tmp_path / f"piece{suffix}", RECORD)
    assert read_record(path) == RECORD
    if suffix == ".musicxml":
        assert [rounded(notes) for notes in musicxml_notes(path)] == sounding(piece)


# the same bytes


def digests(folder: Path) -> dict[str, str]:
    for suffix, write in RENDERERS.items():
        write(chorale(), folder / f"piece{suffix}", RECORD)
    return {suffix: hashlib.sha256((folder / f"piece{suffix}").read_bytes()).hexdigest() for suffix in RENDERERS}


@pytest.mark.slow
def test_another_process_on_another_hash_seed_writes_the_same_bytes(tmp_path):
    (tmp_path / "other").mkdir()
    code = "import json, pathlib, sys, test_render as t; print(json.dumps(t.digests(pathlib.Path(sys.argv[1]))))"
    here = Path(__file__).parent
    paths = os.pathsep.join(str(folder) for folder in (here, *here.parents[:2]))
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "other")],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "12345", "TZ": "Pacific/Kiritimati"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(result.stdout) == digests(tmp_path)
    assert b"encoding-date" not in (tmp_path / "piece.musicxml").read_bytes()


# notation and MIDI


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(piece=scores())
def test_written_scores_read_back_as_the_same_notes(piece, tmp_path):
    write_midi(piece, tmp_path / "a.mid", RECORD)
    assert [rounded(notes) for notes in midi_tracks(tmp_path / "a.mid")[0]] == [rounded(n) for n in sounding(piece)]
    write_musicxml(piece, tmp_path / "a.musicxml", RECORD)
    assert [rounded(n) for n in musicxml_notes(tmp_path / "a.musicxml")] == [rounded(n) for n in sounding(piece)]


@pytest.mark.slow
def test_chords_and_overlapping_notes_read_back(tmp_path):
    notes = (Note(0, 8, 60), Note(0, 8, 64), Note(2, 4, 67), Note(12, 8, 62), Note(20, 4, 59), Note(20, 4, 65))
    piece = Score((Part("Piano", notes),), length_steps=32)
    write_musicxml(piece, tmp_path / "a.musicxml")
    write_midi(piece, tmp_path / "a.mid")
    assert rounded(musicxml_notes(tmp_path / "a.musicxml")[0]) == sounding(piece)[0]
    assert rounded(midi_tracks(tmp_path / "a.mid")[0][0]) == sounding(piece)[0]


@pytest.mark.slow
def test_chorales_are_notated_as_in_choral_editions(tmp_path):
    from music21 import chord, clef, converter, key, meter, note, stream, tempo

    write_musicxml(chorale(), tmp_path / "a.musicxml", RECORD)
    read = converter.parse(tmp_path / "a.musicxml", forceSource=True)
    assert [part.partName for part in read.parts] == ["Soprano", "Alto", "Tenor", "Bass"]
    clefs = [type(part[clef.Clef].first()) for part in read.parts]
    assert clefs == [clef.TrebleClef, clef.TrebleClef, clef.Treble8vbClef, clef.BassClef]
    assert read.metadata.bestTitle == "Wie schön"
    assert read[tempo.MetronomeMark].first().number == 96
    for part in read.parts:
        measures = list(part[stream.Measure])
        assert [m.number for m in measures] == [0, 1, 2]
        assert [m.duration.quarterLength for m in measures] == [1, 4, 3]
        assert part[meter.TimeSignature].first().ratioString == "4/4"
        assert part[key.KeySignature].first().sharps == 3  # A major
        assert measures[-1].rightBarline.type == "final"
        names = {p.name for n in part[note.NotRest] for p in (n.pitches if isinstance(n, chord.Chord) else [n.pitch])}
        assert names <= {"A", "B", "C#", "D", "E", "F#", "G#"}


@pytest.mark.slow
def test_a_transposing_instrument_s_part_and_chords_are_read_back_as_they_sound(tmp_path):
    from components.datasets.music.reader import MusicReader

    notes = tuple(Note(4 * n, 4, 60 + n) for n in range(8))
    sax = Part("Melody", notes, program=66, role="melody")  # a tenor saxophone's own notation lies a ninth higher
    piece = Score((sax,), length_steps=32, chords=(Chord(0, 32, 5, "7"),))
    write_musicxml(piece, tmp_path / "a.musicxml")
    read = next(iter(MusicReader([tmp_path / "a.musicxml"], min_notes=1).items()))
    assert [note.pitch for note in read.parts[0].notes] == [note.pitch for note in notes]
    assert [(chord.root, chord.kind) for chord in read.chords] == [(5, "7")]


def test_a_key_spells_its_own_scale_and_leading_tone():
    assert [spelling(0, "major")[pc] for pc in (0, 2, 4, 5, 7, 9, 11)] == list("CDEFGAB")
    assert [spelling(-6, "major")[pc] for pc in (6, 10, 11)] == ["G-", "B-", "C-"]
    assert spelling(5, "minor")[7] == "F##"  # g-sharp minor
    assert spelling(-3, "minor")[11] == "B"  # c minor
    assert all(sorted(spelling(sharps, "major")) == list(range(12)) for sharps in range(-7, 8))


def test_midi_gives_each_voice_its_name_and_channel_and_the_bar_lines_their_place(tmp_path):
    from music21.midi import ChannelVoiceMessages, MetaEvents

    write_midi(chorale(), tmp_path / "a.mid", RECORD)
    _, (head, *tracks) = midi_tracks(tmp_path / "a.mid")
    names = [event.data.decode() for track in tracks for event in track if event.type is MetaEvents.SEQUENCE_TRACK_NAME]
    assert names == ["Soprano", "Alto", "Tenor", "Bass"]
    channels = [{event.channel for event in track if event.isNoteOn()} for track in tracks]
    assert channels == [{1}, {2}, {3}, {4}]
    programs = {event.data for track in tracks for event in track if event.type is ChannelVoiceMessages.PROGRAM_CHANGE}
    assert {int.from_bytes(p) if isinstance(p, bytes) else p for p in programs} == {19}
    metres = [tuple(event.data[:2]) for event in head if event.type is MetaEvents.TIME_SIGNATURE]
    assert metres == [(1, 2), (4, 2)]  # the upbeat as a bar of 1/4, then 4/4 (the denominator as a power of two)
    tempi = [int.from_bytes(event.data) for event in head if event.type is MetaEvents.SET_TEMPO]
    assert tempi == [60_000_000 // 96]


# pictures and layout


@pytest.mark.slow
@pytest.mark.parametrize("bars", [0, 1, 16, 300])
def test_piano_rolls_stay_within_bounds_however_long_the_score(bars, tmp_path):
    notes = tuple(Note(8 * i, 8, 50 + i % 24) for i in range(2 * bars))
    write_pianoroll(Score((Part("a", notes),), title="$x$"), tmp_path / "a.png", RECORD)
    width, height = struct.unpack(">II", (tmp_path / "a.png").read_bytes()[16:24])
    assert 960 <= width <= 3600
    assert 200 <= height <= 7000


@pytest.mark.slow
@pytest.mark.slow
def test_parts_beyond_the_fifteenth_share_channels_without_warnings(tmp_path, capsys):
    score = Score(tuple(Part(f"P{n}", (Note(0, 4, 60),), program=n) for n in range(17)), 4)
    write_musicxml(score, tmp_path / "a.musicxml")
    channels = re.findall("<midi-channel>(.*?)<", (tmp_path / "a.musicxml").read_text())
    assert len(channels) == 17
    assert len(set(channels)) == 15
    assert capsys.readouterr().err == ""


def test_piano_roll_shows_each_voice_in_its_colour(tmp_path):
    from matplotlib.image import imread

    write_pianoroll(chorale(), tmp_path / "a.png")
    pixels = (imread(tmp_path / "a.png")[..., :3] * 255).round().astype(int)
    for voice in range(4):
        wanted = [int(layout.colour(voice)[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=2) <= 1).sum() > 500


def test_bars_are_counted_from_the_first_full_one():
    assert [bar[:3] for bar in layout.bars(chorale())] == [(0, 0, 4), (1, 4, 20), (2, 20, 32)]
    assert layout.bars(Score(())) == []


@given(piece=scores())
def test_bars_cover_the_score_without_gap_or_overlap(piece):
    found = layout.bars(piece)
    assert [b[1] for b in found] == [0, *(b[2] for b in found[:-1])]
    assert found[-1][2] == layout.score_end(piece)


def test_unisons_of_two_voices_lie_beside_each_other():
    shared, alone = Note(0, 4, 60), Note(4, 4, 60)
    piece = Score((Part("a", (shared, alone)), Part("b", (shared,))))
    assert layout.lanes(piece) == [[(shared, 0, 2), (alone, 0, 1)], [(shared, 1, 2)]]


@pytest.mark.parametrize(
    "broken",
    [
        Score((Part("a", (Note(0, 4, 128),)),)),
        Score((Part("a", (Note(0, 0, 60),)),)),
        Score((Part("a", (Note(-1, 4, 60),)),)),
        Score((), tempo_bpm=math.nan),
        Score((), steps_per_beat=0),
        Score((), steps_per_beat=1, metre=(1, 8)),
    ],
)
@pytest.mark.parametrize("suffix", RENDERERS)
def test_impossible_scores_are_refused_in_plain_words(broken, suffix, tmp_path):
    with pytest.raises(UserError, match="score: has"):
        RENDERERS[suffix](broken, tmp_path / "x", None)
