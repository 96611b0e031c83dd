"""The record of how a file was made: written into any text, found again in any bytes, never forged by a name."""

from __future__ import annotations

import base64
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UserError
from components.render.record import FILE_LIMIT_BYTES, embed_marker, printable, read_record, with_record

RECORD = {"model": "chorales", "version": "3", "seed": 7, "settings": {"temperature": 0.95}, "prompt": "Größe ♯"}


@given(st.text())
def test_printable_names_are_short_single_lines_without_control_characters(text):
    assert len(printable(text, 50)) <= 50
    assert printable(text, 50).isprintable()


def test_no_name_can_spell_a_marker():
    nested = "reprise-repreprise-record:rise-record:cord:e30=:end"
    assert "reprise-record:" not in printable(nested)


def test_last_line_of_a_text_is_its_record(tmp_path):
    forged = "once upon a time\n" + embed_marker({"seed": 1})
    (tmp_path / "a.txt").write_text(with_record(forged, RECORD), encoding="utf-8")
    assert read_record(tmp_path / "a.txt") == RECORD
    assert with_record("a\n", RECORD).splitlines() == ["a", embed_marker(RECORD)]
    assert with_record("a\n", None) == "a\n"


def test_equal_records_give_equal_markers():
    assert embed_marker({"a": 1, "b": 2}) == embed_marker({"b": 2, "a": 1})


@pytest.mark.parametrize("record", [{"x": math.nan}, {"x": object()}, {"x": "a" * 70_000}])
def test_a_record_that_cannot_be_read_back_is_refused_when_written(record):
    with pytest.raises(UserError):
        embed_marker(record)


def marked(data: bytes) -> bytes:
    return b"reprise-record:" + base64.urlsafe_b64encode(data) + b":end"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no record"),
        (embed_marker(RECORD)[:-9].encode(), "cut off or altered"),
        (b"reprise-record:e30:end", "cut off or altered"),
        (marked(b"{"), "cut off or altered"),
        (marked(b'{"a":NaN}'), "cut off or altered"),
        (marked(b"[" * 40_000), "cut off or altered"),
        (marked(b'{"a":' + b"9" * 5000 + b"}"), "cut off or altered"),
        (marked(b"[1]"), "is a list"),
        (marked(json.dumps({"x": "a" * 70_000}).encode()), "larger than"),
    ],
)
def test_damaged_and_oversized_records_are_refused_in_plain_words(content, message, tmp_path):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_record(tmp_path / "f")
    assert error.value.hint


def test_huge_and_missing_files_are_refused_unread(tmp_path):
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(FILE_LIMIT_BYTES + 1)  # sparse
    with pytest.raises(UserError, match="is too large"):
        read_record(tmp_path / "huge")
    with pytest.raises(UserError, match="not a file"):
        read_record(tmp_path / "none")
