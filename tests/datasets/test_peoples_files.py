"""What people's own files have: what would have been read wrongly without a word is put right or told."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from components.datasets.files.folders import inside
from components.datasets.media.audio import parse_wav
from components.datasets.music.formats.abc_notation import read_abc
from components.datasets.music.formats.notation import read_notation
from components.datasets.series.labelled import SeriesRowsReader
from components.datasets.series.table import SeriesTableReader
from components.datasets.tables.dates import dates
from components.datasets.tables.reader import TableReader
from components.datasets.text.labelled_lines import LabelledLinesReader
from components.encodings.mel import Mel, Sound
from components.errors import UserError

MARK = "\ufeff"
OPTIONS = {"steps_per_beat": 12, "max_seconds": 1800.0, "beats": "file"}


def test_byte_order_marks_inside_of_files_that_were_put_together(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{MARK}text,mood\ngood,glad\n{MARK}text,mood\nbad,sad\n", encoding="utf-8")
    reader = TableReader([tmp_path / "t.csv"])
    assert list(reader.items()) == [("good", "glad"), ("bad", "sad")]
    assert reader.dropped == {"byte order mark inside a text": 1, "the header again": 1}


def test_what_tells_about_the_data_is_none_of_it(tmp_path: Path) -> None:
    for name in ("pos.txt", "neg.txt", "README.md", "LICENSE", "sub/readme.txt", "Licence-data.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{name} says\n", encoding="utf-8")
    reader = LabelledLinesReader([tmp_path], label_in="file")
    assert {label for _, label in reader.items()} == {"pos", "neg"}
    assert len(reader.passed_over["about the data"]) == 4
    alone = tmp_path / "sub"
    assert inside(alone) == ([alone / "readme.txt"], {})


@pytest.mark.parametrize(("year", "read"), [("98", 1998), ("69", 1969), ("68", 2068), ("24", 2024)])
def test_years_of_two_digits_are_of_their_century(year: str, read: int) -> None:
    (found,) = dates([f"31/03/{year}"])
    assert found is not None
    assert found.year == read


def test_an_index_is_no_step_and_no_series(tmp_path: Path) -> None:
    rows = [f"{n},{n % 3},{n % 2},{'ab'[n % 2]}\n" for n in range(8)]
    (tmp_path / "rows.csv").write_text("id,x,y,label\n" + "".join(rows), encoding="utf-8")
    reader = SeriesRowsReader([tmp_path / "rows.csv"])
    assert len(list(reader.items())) == 8
    assert "the first number of each line counts the lines" in reader.notes[0]
    (tmp_path / "rows.csv").write_text("".join(rows[::-1]), encoding="utf-8")
    reader = SeriesRowsReader([tmp_path / "rows.csv"])
    assert list(reader.items())
    assert reader.notes == []
    for index in ("", "Unnamed: 0"):
        days = "".join(f"{n},2024-01-{n + 1:02},{n % 3}\n" for n in range(20))
        (tmp_path / "days.csv").write_text(f"{index},date,y\n{days}", encoding="utf-8")
        assert [one.name for one in SeriesTableReader([tmp_path / "days.csv"], horizon=2).items()] == ["y"]


def abc(body: str, key: str = "C"):
    (piece,) = read_abc(f"X:1\nT:t\nM:4/4\nL:1/4\nK:{key}\n{body}\n".encode(), "t.abc", OPTIONS)
    return piece


def test_chords_and_key_of_a_transposed_tune_sound_where_its_notes_do() -> None:
    piece = abc('"D7"DE"G7/B"FG|]', "D transpose=-2")
    assert piece.tracks[0].notes[:, 2].tolist() == [60, 62, 64, 65]
    assert [(chord.root, chord.bass) for chord in piece.chords] == [(0, None), (5, 9)]
    assert piece.key == "C major"
    assert abc("DEFG|]", "D octave=-1").key == "D major"


@pytest.mark.slow
def test_quarter_tones_are_told() -> None:
    told = "quarter tone read as the semitone beside it (kept)"
    assert abc("^/C_/D^3/2EF|]").left_out[told] == 3
    assert told not in abc("^C/_D/E/F/|]").left_out
    step = "<note><pitch><step>{}</step><alter>{}</alter><octave>5</octave></pitch><duration>4</duration></note>"
    (piece,) = read_notation(musicxml(step.format("C", 0.5) + step.format("D", 1)), "a.musicxml", OPTIONS)
    assert piece.left_out == {told: 1}


def musicxml(body: str, mode: str = "major") -> bytes:
    key = f"<key><fifths>0</fifths><mode>{mode}</mode></key><time><beats>4</beats><beat-type>4</beat-type></time>"
    return (
        "<score-partwise><part-list><score-part id='P1'><part-name>a</part-name></score-part></part-list><part id='P1'>"
        f"<measure number='1'><attributes><divisions>4</divisions>{key}</attributes>{body}</measure></part>"
        "</score-partwise>"
    ).encode()


def test_chord_symbols_without_a_root_or_a_known_kind_are_told_and_modes_are_kept() -> None:
    numeral = "<harmony><numeral><numeral-root>5</numeral-root></numeral><kind>dominant</kind></harmony>"
    other = "<harmony><root><root-step>C</root-step></root><kind text='foo'>other</kind></harmony>"
    note = "<note><pitch><step>D</step><octave>4</octave></pitch><duration>8</duration></note>"
    (piece,) = read_notation(musicxml(numeral + note + other + note, "dorian"), "a.musicxml", OPTIONS)
    assert piece.left_out == {
        "chord symbol without a root": 1, "chord symbol of an unknown kind, read as major (kept)": 1,
    }  # fmt: skip
    assert [(chord.start, chord.root) for chord in piece.chords] == [(24, 0)]
    assert piece.key == "D dorian"


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_a_tune_in_any_unicode_coding_is_read(coding: str) -> None:
    (piece,) = read_abc("X:1\nT:Über\nM:4/4\nL:1/4\nK:C\nCDEF|]\n".encode(coding), "t.abc", OPTIONS)
    assert (piece.title, len(piece.tracks[0].notes)) == ("Über", 4)


def test_an_addition_in_brackets_costs_a_chord_nothing_but_itself() -> None:
    piece = abc('"Eb^7"CDEF|"Gm(b6)"GABc|"Bb7"cBAG|]')
    assert [(chord.root, chord.kind) for chord in piece.chords] == [(3, "maj7"), (7, "min"), (10, "7")]
    assert piece.left_out == {"addition in brackets to a chord (kept)": 1}


def test_a_transposition_of_the_sound_alone_is_told() -> None:
    told = {"%%MIDI transpose: read as written (kept)": 1}
    assert abc("%%MIDI transpose -12\nCDEF|]").left_out == told
    assert not abc("%%MIDI transpose 0\nCDEF|]").left_out


def test_samples_that_are_no_shares_of_full_scale_are_refused() -> None:
    wide = (20_000 * np.sin(np.arange(400) / 7)).astype("<f4")
    form = struct.pack("<HHIIHH", 3, 1, 8000, 32_000, 4, 32)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 1600) + wide.tobytes()
    with pytest.raises(UserError, match=r"but reach 2\d,?\d+|but reach 1\d,\d+"):
        parse_wav(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks, where="a.wav")
    with pytest.raises(UserError, match=r"must lie between -1 and 1(.|\n)*divide integer samples"):
        Mel(rate_hz=8000).energies(Sound(wide.astype(np.int16), 8000))
    assert len(Mel(rate_hz=8000).energies(Sound(wide / 20_000 * 3, 8000)))  # a little too loud
