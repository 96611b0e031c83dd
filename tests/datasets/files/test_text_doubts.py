"""Texts that can be decoded and aren't what they should be: told, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.datasets.text.plain import LinesReader, TextReader
from components.errors import UserError

LINES = [f"le café n° {n} à l’été" for n in range(4)]


def notes(path: Path, text: str | bytes, reader: type = LinesReader, **options) -> list[str]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    made = reader([path], **options)
    for _ in range(2):  # what is told is told once, however often the text is read
        assert list(made.items())
    return made.notes


def test_text_that_was_decoded_wrongly_before_is_told(tmp_path) -> None:
    path, plain = tmp_path / "a.txt", "\n".join(LINES)
    assert notes(path, plain) == []
    for coding in ("latin-1", "cp1252"):
        (told,) = notes(path, plain.encode().decode(coding))
        assert told.startswith("warning: a.txt seems to be UTF-8 that was read as Latin-1")
    assert notes(path, "A TROISIÈME FOIS, SÃO PAULO, Â®É\n" * 3) == []  # Portuguese, and a stray sign
    assert notes(path, "caf\ufffd\nth\ufffd") == ["2 × U+FFFD, which replaces undecodable letters: a.txt"]
    assert "5 × U+FFFD" in notes(path, "dé\nfé\nça né".encode("latin-1") + b"\xe9", errors="replace")[0]


def test_a_web_page_that_is_named_as_a_text_is_told(tmp_path) -> None:
    page = "\n<!DOCTYPE html>\n<html>\n<p>We met.</p></html>\n"
    assert notes(tmp_path / "a.txt", page) == [
        "warning: a.txt: a web page (HTML), whose tags are read as text: save it as plain text"
    ]
    assert notes(tmp_path / "a.html", page) == notes(tmp_path / "b.txt", f"of {page}") == []


@pytest.mark.parametrize("reader", [LinesReader, TextReader])
def test_signs_that_are_not_seen_are_counted_over_all_files(reader, tmp_path) -> None:
    (tmp_path / "b.txt").write_text("an\u00adother \u200bworld\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text("an\u00adother\u200f one\nwith 👩\u200d👧 and می\u200cروم\n", encoding="utf-8")
    made = reader([tmp_path])
    assert len(list(made.items())) >= 1
    (told,) = [note for note in made.notes if "invisible characters" in note]
    assert "b.txt and 1 more files: 2 × soft hyphen, 1 × zero-width space, 1 × mark of direction;" in told


def test_the_licence_of_a_book_at_its_end_is_told(tmp_path) -> None:
    book = "*** START OF THE PROJECT GUTENBERG EBOOK ***\nIt was so.\n*** END OF THE PROJECT GUTENBERG EBOOK ***\nlaw\n"
    assert "test is taken from its end" in notes(tmp_path / "a.txt", book, TextReader)[0]


@pytest.mark.parametrize(
    ("beginning", "what"),
    [
        (b"%PDF-1.7\n", "a PDF file"),
        (b"{\\rtf1 Hi", "an RTF file"),
        (b"PK\x03\x04xl", "a ZIP archive"),
        (b"PAR1", "Parquet"),
    ],
)
def test_what_is_no_plain_text_is_refused_and_passed_over_in_a_folder(beginning: bytes, what: str, tmp_path) -> None:
    bad = tmp_path / "d" / "bad.txt"
    bad.parent.mkdir()
    bad.write_bytes(beginning + b"\nmore\n" * 9)
    with pytest.raises(UserError, match=what):
        list(LinesReader([bad]).items())
    (bad.parent / "good.txt").write_text("one\ntwo\n")
    made = LinesReader([bad.parent])
    assert list(made.items()) == ["one", "two"]
    assert any(what in reason for reason in made.passed_over)
