"""Transcripts as people and corpora write them: with or without a header, named by path, name or stem."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.datasets.media.audio import WavReader
from components.datasets.media.transcripts import Transcripts
from components.errors import UserError

SOUNDS = [Path("clips/low/A1.wav"), Path("clips/low/B2.WAV"), Path("clips/C.3.wav")]
TABLES = {
    "ljspeech.csv": "A1|Mr. 1|Mister one\nB2|2, or 3|two, or three\nC.3|4|four\n",
    "bars.txt": "A1|one\nB2|two\nC.3|three\n",
    "cv.tsv": "client_id\tpath\tsentence\tage\nx\tA1.mp3\tone\t\ny\tb2.mp3\ttwo\t\nz\tC.3.mp3\tthree\t\n",
    "named.csv": 'file,text\nlow/A1.wav,"one, \nor so"\nlow/B2.wav,two\n.\\C.3.wav,three\n',
    "spoken.csv": "filename;transcript\nA1;one\nB2;two\nC.3;three\n",
    "bare.csv": "A1.wav,one\nB2.wav,two\nC.3.wav,three\n",
    "bare.tsv": "A1.wav\tone | two\nB2.wav\ttwo\nC.3.wav\tthree\n",
}


def read(folder: Path, content: str, name: str = "t.csv", sounds=SOUNDS, **columns) -> Transcripts:
    (folder / "clips").mkdir(exist_ok=True)
    path = folder / "clips" / name
    path.write_text(content, encoding="utf-8")
    return Transcripts(path, [folder / sound for sound in sounds], **columns)


@pytest.mark.parametrize("name", TABLES)
def test_every_recording_gets_its_text(tmp_path, name) -> None:
    table = read(tmp_path, TABLES[name], name)
    assert {path.name for path in table.texts} == {"A1.wav", "B2.WAV", "C.3.wav"}, name
    assert table.notes == []
    expected = {"ljspeech.csv": "Mister one", "named.csv": "one, \nor so", "bare.tsv": "one | two"}
    assert table.texts[tmp_path / SOUNDS[0]] == expected.get(name, "one")


def test_names_of_macos_are_those_of_the_table(tmp_path) -> None:
    composed, apart = "caf\u00e9.wav", "cafe\u0301.wav"
    for name, sound in ((composed, apart), (apart, composed)):
        table = read(tmp_path, f"file,text\n{name},one\n", sounds=[Path(f"clips/{sound}")])
        assert list(table.texts.values()) == ["one"]


def test_columns_can_be_named_or_numbered(tmp_path) -> None:
    headed = "who,what,clip no\nann,one,A1\nbob,two,B2\n"
    assert list(read(tmp_path, headed, file_column="clip no", text_column="What").texts.values()) == ["one", "two"]
    bars = "ann|A1|one|1\nbob|B2|two|2\n"
    with pytest.raises(UserError, match=r"unknown column 'file'(.|\n)*data.file_column"):
        read(tmp_path, bars)
    bars = "A1|ann|one|1\nB2|bob|two|2\n"
    with pytest.raises(UserError, match=r"which of the 4 columns is the text\?(.|\n)*data.text_column"):
        read(tmp_path, bars)
    assert list(read(tmp_path, bars, text_column="3").texts.values()) == ["one", "two"]
    for wrong in ("0", "5", "word"):
        with pytest.raises(UserError, match=f"no column '{wrong}'"):
            read(tmp_path, bars, text_column=wrong)


def test_what_names_no_recording_or_several_is_counted_and_named(tmp_path) -> None:
    sounds = [*SOUNDS, Path("clips/high/A1.wav")]
    table = read(tmp_path, "file,text\nA1.wav,one\nlow/A1,one\ngone.wav,x\n,y\n", sounds=sounds)
    assert table.texts == {tmp_path / "clips/low/A1.wav": "one"}
    assert table.notes == [
        "1 lines of t.csv name several recordings: A1.wav",
        "2 lines of t.csv name no recording: gone.wav, (no name)",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,texte\n", "unknown column 'file'"),
        ("file,text\nA1.wav\n", "line 2: has 1 cells, but the first line has 2"),
        ("file,text\nA1.wav,one\nA1.wav,two\n", r"line 3: 'A1\.wav' has a different text"),
        ("", "the file is empty"),
    ],
)
def test_a_table_of_another_form_is_refused_with_its_place(tmp_path, content, said) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, content)
    assert "t.csv" in str(caught.value)


def test_transcripts_have_a_coding_and_the_hint_names_it(tmp_path) -> None:
    sound, table = tmp_path / "one.wav", tmp_path / "texts.csv"
    table.write_bytes("file,text\none.wav,été\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"data\.coding=latin-1"):
        Transcripts(table, [sound])
    assert Transcripts(table, [sound], coding="latin-1").texts == {sound: "été"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"file_name": "{text}", "transcripts": "t.csv"}, r"data\.file_name: can't be used together with"),
        ({"file_name": "{text}", "text_column": "said"}, r"data\.text_column: only works with data\.transcripts"),
        ({"file_column": "file"}, r"data\.file_column: only works with data\.transcripts"),
    ],
)
def test_of_names_and_a_table_one_has_the_texts(options, said) -> None:
    with pytest.raises(UserError, match=said):
        WavReader([], **options)
