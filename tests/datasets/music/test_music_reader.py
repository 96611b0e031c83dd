"""A stranger's folder: music or a reason from each file, none of the good lost, and a report."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from music_files import ABC, BASS, CHORDS, DRUMS, KERN, MUSICXML, TUNE, midi, piano_piece, pop_song

from components.datasets.files.sandbox import Limits, Refused
from components.datasets.music import reader as music
from components.datasets.music.formats.abc_notation import read_abc
from components.datasets.music.formats.notation import read_notation
from components.datasets.music.reader import COLUMNS, MusicReader
from components.datasets.sources import build
from components.errors import UserError
from components.registry import resolve
from components.score import Chord, Note, Score

OPTIONS = {"steps_per_beat": 12, "max_seconds": 600.0, "beats": "file"}


def rows(notes) -> list[tuple[int, ...]]:
    return [tuple(row[:3]) for row in notes.tolist()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What an hour of a stranger's use brings together."""
    here = tmp_path / "music"
    pop_song(here / "pop.mid")
    midi(here / "drums only.mid", ("Kit", 0, DRUMS, True))
    piano_piece(here / "deep" / "down" / "piano.MID")
    midi(here / "song.kar", ("Melody", 0, TUNE), ("Bass", 32, BASS), words=[(0.0, "la")])
    (here / "empty").mkdir()
    (here / "scores").mkdir()
    (here / "scores" / "lead.musicxml").write_text(MUSICXML)
    with zipfile.ZipFile(here / "scores" / "packed.mxl", "w") as archive:
        archive.writestr("META-INF/container.xml", '<c><rootfiles><rootfile full-path="s.xml"/></rootfiles></c>')
        archive.writestr("s.xml", MUSICXML)
    (here / "tunes.abc").write_text(ABC)
    (here / "tune.krn").write_text(KERN)
    (here / "notes.txt").write_text("not music")
    (here / ".hidden.mid").write_bytes(b"x")
    (here / "damaged.mid").write_bytes((here / "pop.mid").read_bytes()[:200])
    return here


@pytest.mark.slow
def test_a_folder_of_everything_gives_music_or_a_reason_for_each_file(folder) -> None:
    reader = MusicReader([folder], min_notes=4)
    scores = list(reader.items())
    report = {(row["file"], row["title"]): row for row in reader.report}
    assert all(set(row) == set(COLUMNS) for row in reader.report)
    read = {key for key, row in report.items() if row["read"]}
    assert len(scores) == len(read) == 8
    reasons = {file: row["reason"] for (file, _), row in report.items() if not row["read"]}
    assert reasons["drums only.mid"] == "has only drums"
    assert reasons["damaged.mid"].startswith("damaged MIDI: ")
    assert reasons["tunes.abc"] == "has no notes"  # its third tune
    assert set(reasons) == {"drums only.mid", "damaged.mid", "tunes.abc"}
    assert report["deep/down/piano.MID", "piano"]["read"]
    pop = report["pop.mid", "pop"]
    assert pop["melody"] == "4 'Lead Vocals'"
    assert (pop["metre"], pop["tempo_bpm"], pop["key"]) == ("4/4", 100.0, "C major")
    assert json.loads(pop["left_out"])["drum"] == len(DRUMS)
    assert pop["notes_kept"] == len(TUNE) + len(BASS) + 2 * len(CHORDS)
    assert reader.dropped == {
        "file that isn't music (.txt)": 1, "has only drums": 1, "damaged MIDI": 1, "has no notes": 1,
    }  # fmt: skip
    assert any("drums only.mid skipped: has only drums" in note for note in reader.notes)
    assert list(reader.items()) == scores  # what was kept is what was read
    for score in scores:
        assert any(part.role == "melody" for part in score.parts)
        assert score.length_steps == max(n.start + n.duration for part in score.parts for n in part.notes)


@pytest.mark.slow
def test_the_melody_alone_keeps_its_chords(folder) -> None:
    reader = MusicReader([folder / "pop.mid"], parts="melody")
    (score,) = reader.items()
    assert [part.name for part in score.parts] == ["Lead Vocals"]
    assert [note.pitch for note in score.parts[0].notes] == [pitch for _, _, pitch in TUNE]
    assert score.chords[2] == Chord(96, 47, 7, "7")
    (row,) = reader.report
    assert json.loads(row["left_out"])["note of a part that isn't the melody"] == len(BASS) + 2 * len(CHORDS)


@pytest.mark.slow
def test_options_reach_the_workers(folder) -> None:
    (score,) = MusicReader([folder / "pop.mid"], steps_per_beat=4, melody_track="strings").items()
    assert score.steps_per_beat == 4
    assert next(part.name for part in score.parts if part.role == "melody") == "Strings"
    with pytest.raises(UserError, match=r"no piece could be read from 1 files: 1 × has no track(.|\n)*'Lead Vocals'"):
        list(MusicReader([folder / "pop.mid"], melody_track="tuba").items())


@pytest.mark.slow
def test_two_hundred_corrupted_files_cost_none_of_fifty_good_ones(tmp_path) -> None:
    rng = random.Random(3)
    here = tmp_path / "music"
    for index in range(50):
        shifted = [(start, duration, pitch - 12 + index % 24) for start, duration, pitch in TUNE]
        midi(here / f"good {index}.mid", ("", 0, shifted), ("", 0, CHORDS))
    good = sorted(here.iterdir())
    mutations = (
        lambda b: b[: rng.randrange(len(b))],
        lambda b: bytes(byte if rng.random() > 0.05 else rng.randrange(256) for byte in b),
        lambda b: b[:40] + b"\xff\xff\xff\x7f" * rng.randrange(1, 99) + b[40:],
        lambda b: b[:4] + b"\xff\xff\xff\xff" + b[8:],
        lambda b: b[:18] + b"\xff\xff\xff\xff" + b[22:],
        lambda b: bytes(rng.randrange(1, 1 << 18)),
        lambda b: rng.randbytes(rng.randrange(3000)),
        lambda b: b[:12] + struct.pack(">H", rng.choice([0, 0x8000, 0xE728])) + b[14:],
    )
    for index in range(200):
        source = rng.choice(good).read_bytes()
        (here / f"bad {index}.mid").write_bytes(mutations[index % len(mutations)](source))
    reader = MusicReader([here])
    scores = list(reader.items())
    rows_ = {row["file"]: row for row in reader.report}
    assert len(rows_) == 250
    assert all(rows_[path.name]["read"] for path in good)
    skipped = [row for row in rows_.values() if not row["read"]]
    assert all(row["reason"] and row["reason"].isprintable() for row in skipped)
    assert len(skipped) >= 120  # the rest could still be read
    assert len(scores) == 250 - len(skipped)
    alone = list(MusicReader(good).items())
    by_title = {score.title: score for score in scores}
    assert [by_title[score.title] for score in alone] == alone


@pytest.mark.slow
def test_nothing_to_read_explains_itself(tmp_path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="the folder is empty"):
        MusicReader([empty])
    (empty / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"contains no music, only 1 × \.txt"):
        MusicReader([empty])
    with pytest.raises(
        UserError, match=r"no piece could be read from 2 files: 1 × can't be opened; 1 × has only drums"
    ):
        list(MusicReader([tmp_path / "none.mid", midi(tmp_path / "d.mid", ("", 0, DRUMS, True))]).items())
    assert list(MusicReader([]).files) == []  # settings are checked before there are files


@pytest.mark.slow
def test_drums_alone_are_told_what_they_lack(tmp_path):
    midi(tmp_path / "beat.mid", ("Kit", 0, DRUMS, True))
    with pytest.raises(UserError, match="1 × has only drums") as error:
        list(MusicReader([tmp_path]).items())
    assert "drums have no melody" in error.value.hint


@pytest.mark.parametrize("options", [{"steps_per_beat": 0}, {"parts": "drums"}, {"beats": "guess"}])
def test_a_wrong_setting_is_refused(options) -> None:
    with pytest.raises(UserError, match=r"data\."):
        build("reader", "music", options, (), [])


@pytest.mark.slow
def test_the_same_piece_in_another_key_is_of_the_same_group(tmp_path) -> None:
    up = [(start, duration, pitch + 2) for start, duration, pitch in TUNE]
    files = [midi(tmp_path / "a.mid", ("", 0, TUNE)), midi(tmp_path / "b.mid", ("x", 5, up))]
    files.append(midi(tmp_path / "c.mid", ("", 0, [(s, d / 2, p) for s, d, p in TUNE])))
    reader = MusicReader(files)
    a, b, c = map(reader.group, reader.items())
    assert a == b != c


@pytest.mark.slow
def test_later_passes_take_what_was_kept_and_do_not_disturb_each_other(folder) -> None:
    reader = MusicReader([folder], min_notes=4)
    assert list(reader.items()) == list(reader.items())
    (folder / "pop.mid").unlink()  # nothing is read a second time
    first = reader.items()
    next(first)
    assert len(list(reader.items())) == 8
    assert len(list(first)) == 7


@pytest.mark.slow
def test_a_file_over_a_limit_is_a_reason_not_an_end(folder, monkeypatch) -> None:
    monkeypatch.setattr(music, "LIMITS", replace(Limits(), file_bytes=300))
    reader = MusicReader([folder / "pop.mid", folder / "tune.krn"], min_notes=1)
    (score,) = reader.items()
    assert score.title == "tune"
    assert reader.report[0]["reason"] == "has more than 300 bytes"


@pytest.mark.slow
def test_musicxml_keeps_upbeat_ties_triplets_chords_and_metre_changes() -> None:
    (piece,) = read_notation(MUSICXML.encode(), "a.musicxml", OPTIONS)
    assert rows(piece.tracks[0].notes) == [
        (0, 12, 72), (12, 4, 77), (16, 4, 79), (20, 4, 81), (24, 36, 82), (60, 24, 72), (84, 12, 69), (84, 12, 77),
        (96, 12, 77),
    ]  # fmt: skip
    assert (piece.metre, piece.upbeat_steps, piece.metre_changes) == ((3, 4), 12, [(84, (2, 4))])
    assert piece.title == "A lead sheet"
    assert piece.left_out["grace note"] == 1
    assert piece.chords == [
        Chord(12, 12, 5, "maj"), Chord(24, 24, 7, "m7", 10), Chord(48, 36, 0, "7"), Chord(84, 24, 5, "maj"),
    ]  # fmt: skip


@pytest.mark.slow
def test_repeats_are_played_and_transposing_instruments_sound() -> None:
    clarinet = MUSICXML.replace(
        "</time></attributes>\n<note>",
        "</time><transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose></attributes>\n<note>",
        1,
    )
    (piece,) = read_notation(clarinet.encode(), "a.xml", OPTIONS)
    assert piece.tracks[0].notes[0, 2] == 70
    repeated = MUSICXML.replace(
        "</part></score-partwise>",
        '<measure number="4"><note><rest/><duration>12</duration></note>'
        '<barline location="right"><repeat direction="backward"/></barline></measure></part></score-partwise>',
    )
    (piece,) = read_notation(repeated.encode(), "a.xml", OPTIONS)
    assert len(piece.tracks[0].notes) == 18


def test_kern_is_read() -> None:
    (piece,) = read_notation(KERN.encode(), "a.krn", OPTIONS)
    assert rows(piece.tracks[0].notes) == [
        (0, 12, 60),
        (12, 12, 64),
        (24, 18, 67),
        (42, 6, 69),
        (48, 36, 72),
        (84, 36, 67),
    ]
    assert piece.metre == (3, 4)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.xml", b"<score-partwise><part>", "damaged XML"),
        ("a.xml", b"<html/>", "isn't partwise MusicXML: its root is <html>"),
        ("a.xml", b"<score-partwise/>", "has no parts"),
        ("a.mxl", b"PK\x03\x04 and then nothing", "damaged .mxl"),
    ],
)
def test_notation_that_cannot_be_read_is_refused_in_words(name, data, reason) -> None:
    with pytest.raises(Refused, match=reason):
        read_notation(data, name, OPTIONS)


@pytest.mark.slow
def test_a_packed_score_may_not_unpack_without_end() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s.xml", b" " * (65 << 20))
    with pytest.raises(Refused, match="unpacks to more than"):
        read_notation(packed.getvalue(), "a.mxl", OPTIONS)


@pytest.mark.slow
def test_entities_that_multiply_are_no_harm(tmp_path) -> None:
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 20}">' for i in range(1, 9))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{levels}]><score-partwise>&l8;</score-partwise>'
    (tmp_path / "bomb.xml").write_text(bomb)
    reader = MusicReader([tmp_path / "bomb.xml", midi(tmp_path / "a.mid", ("", 0, TUNE))])
    assert len(list(reader.items())) == 1
    assert reader.report[0]["reason"]


def test_abc_plays_repeats_endings_triplets_ties_and_broken_rhythm() -> None:
    first, second, third = read_abc(ABC.encode(), "tunes.abc", OPTIONS)
    bar = [(12, 6, 67), (18, 6, 69), (24, 6, 71), (30, 6, 72), (36, 24, 74)]
    triplet = [(60, 4, 78), (64, 4, 76), (68, 4, 74), (72, 12, 79)]
    once = [*bar, *triplet, (108, 48, 76)]
    again = [(start + 144, duration, pitch) for start, duration, pitch in [*bar, *triplet, (108, 48, 77)]]
    assert rows(first.tracks[0].notes) == [(0, 12, 62), *once, *again]
    assert (first.upbeat_steps, first.tempo_bpm, first.key, first.metre) == (12, 90.0, "G major", (4, 4))
    assert first.chords[:3] == [Chord(12, 48, 7, "maj"), Chord(60, 12, 2, "7"), Chord(72, 36, 7, "maj")]
    assert rows(second.tracks[0].notes) == [
        (0, 9, 69), (9, 3, 71), (12, 24, 72), (36, 18, 69), (36, 18, 72), (36, 18, 76), (54, 18, 92), (72, 36, 55),
    ]  # fmt: skip
    assert second.key == "A dorian"
    assert second.left_out == {"chord symbol that can't be read: no chord there (kept)": 1}
    assert second.chords == [Chord(0, 36, 9, "min"), Chord(72, 36, 7, "maj", 11)]
    assert third.tracks == []


def test_written_notes_that_a_grid_has_no_step_for_are_counted() -> None:
    options = OPTIONS | {"steps_per_beat": 4}
    (piece,) = read_notation(MUSICXML.encode(), "a.musicxml", options)
    assert piece.left_out["note moved to a grid of 4 steps in a beat (kept)"] == 2
    first, *_ = read_abc(ABC.encode(), "a.abc", options)  # a triplet that is repeated
    assert first.left_out["note moved to a grid of 4 steps in a beat (kept)"] == 4
    assert not any("moved" in what for what in read_abc(ABC.encode(), "a.abc", OPTIONS)[0].left_out)


@pytest.mark.slow
def test_a_signature_without_a_mode_leaves_two_keys() -> None:
    (piece,) = read_notation(MUSICXML.encode(), "a.musicxml", OPTIONS)
    assert piece.key == "F major"
    sharps = MUSICXML.replace("<fifths>-1</fifths>", "<fifths>4</fifths>")
    (piece,) = read_notation(sharps.encode(), "a.musicxml", OPTIONS)
    assert piece.key in ("E major", "C# minor", "Db minor")


def test_abc_accidentals_last_for_the_bar_and_octave() -> None:
    (piece,) = read_abc(b"X:1\nM:4/4\nL:1/4\nK:F\n^F F f B|F =B B, _e'|\n", "a.abc", OPTIONS)
    assert [pitch for _, _, pitch in rows(piece.tracks[0].notes)] == [66, 66, 77, 70, 65, 71, 58, 87]


@pytest.mark.slow
@pytest.mark.parametrize(
    "tune", ["|:" * 3000 + "C" + ":|" * 3000, "C" * 30_000 + ":|" * 5, "(9" * 5000, "[" * 9999, "Z999" * 999]
)
def test_abc_that_is_meant_to_harm_ends_soon(tune) -> None:
    for piece in read_abc(f"X:1\nK:C\n{tune}\n".encode(), "a.abc", OPTIONS | {"max_seconds": 36_000}):
        assert piece.refused or piece.length_steps <= 1_000_000


@pytest.mark.slow
def test_the_reader_is_registered_and_gives_scores(folder) -> None:
    reader = resolve("reader", "music")([folder / "tune.krn"], min_notes=1)
    (score,) = reader.items()
    assert isinstance(score, Score)
    assert score.parts[0].notes[0] == Note(0, 12, 60, 80)


DRUM_PART = """<score-partwise><part-list><score-part id="A"/><score-part id="B"><midi-instrument id="i">
<midi-channel>10</midi-channel><midi-program>1</midi-program></midi-instrument></score-part></part-list>
<part id="A"><measure number="1"><attributes><divisions>1</divisions></attributes>NOTE<attributes><clef>
<sign>percussion</sign></clef></attributes>NOTE</measure></part>
<part id="B"><measure number="1"><attributes><divisions>1</divisions></attributes>NOTE</measure></part>
</score-partwise>""".replace(
    "NOTE", "<note><pitch><step>C</step><octave>4</octave></pitch><duration>1</duration></note>"
)


@pytest.mark.parametrize(
    ("name", "text", "drums"),
    [
        ("a.musicxml", DRUM_PART, 2),
        ("a.krn", "**kern\t**kern\n*clefX\t*clefG2\n4e\t4c\n*-\t*-\n", 1),
        ("a.krn", "**kern\t**kern\n*Idrum\t*Ipiano\n4e\t4c\n*-\t*-\n", 1),
    ],
)
def test_beats_of_percussion_are_no_pitches(name, text, drums) -> None:
    (piece,) = read_notation(text.encode(), name, OPTIONS)
    assert [track.notes[:, 2].tolist() for track in piece.tracks] == [[60]]
    assert piece.left_out == {"drum": drums}
