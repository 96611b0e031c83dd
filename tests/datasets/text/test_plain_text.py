"""Text from strangers: any coding mark, any line end, any length; what can't be read is refused with the place."""

from __future__ import annotations

import codecs
import gzip
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.datasets.files import text as text_files
from components.datasets.sources import build
from components.datasets.text import plain as plain_text
from components.datasets.text.plain import LinesReader, TextReader
from components.errors import UserError

LINES = "To be,\r\nor not\rto be:\n\n字 \N{PILE OF POO}"


def write(folder, content, name="text.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(*paths, **options):
    return "".join(TextReader(paths, **options).items())


@pytest.mark.parametrize(
    ("mark", "coding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("block", [4, 5, 1 << 20])
def test_every_coding_packing_and_line_end_reads_alike(tmp_path, monkeypatch, mark, coding, packed, block):
    monkeypatch.setattr(text_files, "BLOCK", block)  # line ends and characters that lie across two blocks
    content = mark + LINES.encode(coding)
    path = write(tmp_path, gzip.compress(content) if packed else content)
    assert read(path) == "To be,\nor not\nto be:\n\n字 \N{PILE OF POO}"


@given(text=st.text(st.sampled_from("ab \n\t\u3000字"), min_size=1, max_size=80), chunk=st.integers(1, 12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunks_join_to_the_text_and_are_cut_before_whitespace(tmp_path, monkeypatch, text, chunk):
    monkeypatch.setattr(plain_text, "CHUNK", chunk)
    monkeypatch.setattr(text_files, "BLOCK", 3)
    reader = TextReader([write(tmp_path, text)])
    chunks = list(reader.items())
    assert "".join(chunks) == text
    assert all(chunks)
    assert sum(map(reader.length, chunks)) == len(text)
    for before, after in pairwise(chunks):
        assert after[0].isspace() or not any(character.isspace() for character in before[1:])
    assert list(reader.items()) == chunks  # a second pass reads the same


@pytest.mark.slow
def test_a_line_without_an_end_is_read_in_bounded_memory(tmp_path):
    path = write(tmp_path, b"x" * (40 << 20))
    tracemalloc.start()
    length = sum(map(len, TextReader([path]).items()))
    lines = list(LinesReader([path]).items())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == 40 << 20
    assert lines == []
    assert peak < 30 << 20


@pytest.mark.parametrize("before", [0, 5, 2000])
@pytest.mark.parametrize("block", [7, 1 << 20])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_that_is_not_utf8_is_refused_with_its_offset_and_the_way_out(tmp_path, monkeypatch, before, block, mark):
    monkeypatch.setattr(text_files, "BLOCK", block)
    path = write(tmp_path, mark + "é".encode() * before + b"\xff!")
    with pytest.raises(UserError) as caught:
        read(path)
    assert f"byte {len(mark) + 2 * before:,} (0xff)" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "data.errors=replace" in str(caught.value)
    assert read(path, errors="replace") == "é" * before + "\N{REPLACEMENT CHARACTER}!"


def test_a_character_cut_off_at_the_end_is_refused_too(tmp_path):
    with pytest.raises(UserError, match=r"byte 1 \(0xc3\)"):
        read(write(tmp_path, b"a\xc3"))


def test_nul_characters_are_dropped_and_counted(tmp_path):
    reader = TextReader([write(tmp_path, "a\0b\0\0c")])
    assert list(reader.items()) == ["abc"]
    assert list(reader.items()) == ["abc"]
    assert reader.dropped == {"NUL character": 3}


@pytest.mark.parametrize("content", [b"", codecs.BOM_UTF8, b"\0\0", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused_by_name(tmp_path, content):
    with pytest.raises(UserError, match=r"text\.txt: the file is empty"):
        read(write(tmp_path, content))


def test_a_missing_file_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"no\.txt: can't be read"):
        read(tmp_path / "no.txt")


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: packed[:20] + b"\xff" * 9 + packed[29:]])
def test_damaged_gzip_is_refused_by_name(tmp_path, damage):
    packed = gzip.compress(bytes(range(32, 127)) * 9)
    with pytest.raises(UserError, match=r"text\.txt: the gzip data is damaged"):
        read(write(tmp_path, damage(packed)))


def test_a_gzip_bomb_stops_at_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "SMALL", 1 << 16)
    path = write(tmp_path, gzip.compress(b" " * (4 << 20)))
    with pytest.raises(UserError, match=r"expand to more than .* bytes\n.*data\.max_bytes"):
        read(path)
    assert len(read(path, max_bytes=4 << 20)) == 4 << 20


def test_max_bytes_bounds_a_plain_file(tmp_path):
    path = write(tmp_path, "12345")
    assert read(path, max_bytes=5) == "12345"
    with pytest.raises(UserError, match="more than 4 bytes"):
        read(path, max_bytes=4)


@pytest.mark.parametrize("options", [{"errors": "ignore"}, {"max_bytes": 0}])
def test_settings_without_a_meaning_are_refused(tmp_path, options):
    with pytest.raises(UserError, match=f"data.{next(iter(options))}"):
        build("reader", "text", options, (), [write(tmp_path, "a text")])


def test_the_words_of_two_files_do_not_grow_together(tmp_path):
    first, second = write(tmp_path, "one", "1.txt"), write(tmp_path, "two\n", "2.txt")
    assert read(first, second) == "one\ntwo\n"
    assert read(second, first) == "two\none"


def test_lines_are_items_and_every_dropped_line_is_counted(tmp_path):
    path = write(tmp_path, "anna\r\n\n  bert \n \t\nAnna\nanna\n" + "x" * 11 + "\nlast")
    reader = LinesReader([path], max_length=10)
    expected = ["anna", "bert", "Anna", "last"]
    assert list(reader.items()) == expected
    assert list(reader.items()) == expected
    assert reader.dropped == {"empty line": 2, "repeated line": 1, "longer than 10 characters": 1}
    assert reader.group("Anna") == reader.group("anna")
    assert [reader.length(item) for item in expected] == [1, 1, 1, 1]


def test_repeated_lines_and_blanks_stay_when_asked(tmp_path):
    path = write(tmp_path, " a\n a\n")
    assert list(LinesReader([path], unique=False, strip=False).items()) == [" a", " a"]


@given(text=st.text(st.sampled_from("ab \n"), min_size=1, max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_do_not_depend_on_how_the_file_is_read(tmp_path, monkeypatch, text):
    monkeypatch.setattr(text_files, "BLOCK", 2)
    monkeypatch.setattr(plain_text, "BLOCK", 2)
    reader = LinesReader([write(tmp_path, text)], unique=False, strip=False, max_length=5)
    kept = [line for line in text.split("\n") if line.strip() and len(line) <= 5]
    assert list(reader.items()) == kept
