"""What text files are told that hold more, or something else, than text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from components.datasets.files.codings import detect
from components.datasets.text.plain import TextReader
from components.errors import UserError

WORDS = "He came home late.\n" * 5
BEGINNINGS = {
    "subtitles": "1\n00:00:01,000 --> 00:00:02,500\nHe came home.\n\n",
    "lyrics": "[ti:Home]\n[ar:Anna]\n[00:12.00]He came home.\n[00:15.30]Late.\n",
    "WEBVTT": "WEBVTT\n\n00:01.000 --> 00:02.000\nHe came home.\n",
    "PO": '# German\nmsgid "Open"\nmsgstr "Öffnen"\n',
    "JSON": '{"text": "He came home.", "label": 1}\n{"text": "Late.", "label": 0}\n',
    "list of JSON": '[\n  {\n    "id": 1\n  }\n]\n',
    "XML": '<?xml version="1.0"?>\n<tmx version="1.4"><body/></tmx>\n',
    "FASTQ": "@read1 a\nACGTN\n+\nIIIII\n",
    "GenBank": "LOCUS       AB000001   40 bp    DNA\nORIGIN\n        1 acgtacgtac\n//\n",
    "EMBL": "ID   X56734; SV 1; linear; mRNA; STD; PLN; 40 BP.\nXX\n",
    "calendar": "BEGIN:VCALENDAR\nVERSION:2.0\nEND:VCALENDAR\n",
    "brat": "T1\tPER 0 4\tAnna\nT2\tLOC 14 20\tRome\n",
}


def told(path: Path, text: str, **settings: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    reader = TextReader([path], **settings)
    assert list(reader.items())
    return reader.notes


@pytest.mark.parametrize("form", BEGINNINGS)
def test_signs_of_a_format_that_are_read_as_text_are_told(tmp_path: Path, form: str) -> None:
    (note,) = told(tmp_path / "a.txt", BEGINNINGS[form])
    assert note.startswith("warning: a.txt: ")
    assert "all signs of which are read" in note


@pytest.mark.parametrize(
    "text", [WORDS, "[Verse 1]\nLa la\n", "# Title\n\nText\n", "@anna hello\nhi\n", "ID 3 of 4\n", "12\n13\n"]
)
def test_plain_texts_are_no_format(tmp_path: Path, text: str) -> None:
    assert told(tmp_path / "a.txt", text) == []


def test_escapes_and_control_characters_are_told(tmp_path: Path) -> None:
    assert "1 × escape character" in told(tmp_path / "a.log", "\x1b[31mfailed\n")[0]
    (tmp_path / "b.txt").write_bytes("It’s late – go.\n".encode("cp1252"))
    reader = TextReader([tmp_path / "b.txt"], coding="latin-1")
    list(reader.items())
    assert "2 × control character (a sign of a wrong data.coding)" in reader.notes[0]


def test_iso_2022_jp_is_refused_or_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("猫が好きです。\n".encode("iso2022_jp") * 9)
    with pytest.raises(UserError, match="is ISO-2022-JP"):
        list(TextReader([path]).items())
    assert "猫" in "".join(TextReader([path], coding="auto").items())


def test_western_text_of_old_macs_is_not_taken_for_thai() -> None:
    french = "Où êtes-vous né ? Ça va très bien à Orléans.\nC'est déjà Noël, l'été est fini.\n" * 5
    assert detect([french.encode("mac-roman")]) == "mac-roman"
    assert detect(["สวัสดีครับ วันนี้อากาศดี\n".encode("tis-620") * 9]) in ("tis-620", "cp874", "iso-8859-11", "windows-874")


@pytest.mark.parametrize(
    ("beginning", "what"),
    [
        (b"BZh91AY&SY", "packed by bzip2"),
        (gzip.compress(b"x", mtime=0), "gzip more than once"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
    ],
)
def test_other_packed_files_are_named(tmp_path: Path, beginning: bytes, what: str) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(beginning + b"\x00" * 50))
    with pytest.raises(UserError, match=what):
        list(TextReader([path]).items())


def test_many_files_are_read_in_linear_time_and_told_in_one_line(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_bytes("Сегодня хорошая погода".encode("windows-1251"))
    reader = TextReader([tmp_path], coding="auto")
    for _ in range(2):  # a second pass tells the same
        list(reader.items())
        assert [note.partition(":")[0] for note in reader.notes] == [
            "00.txt and 29 more files are read as windows-1251 (detected)",
            "a line feed was added before 01.txt and 28 more files",
        ]
    assert len(reader._text._doubts._seen) == 0  # files without doubts take no memory, and no time after each file
