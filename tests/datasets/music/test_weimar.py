"""Tables saved by R, and the jazz solos that are read from them."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.music.weimar import WeimarReader
from components.datasets.tables.rdata import read_tables
from components.errors import UserError
from components.score import Chord


def _text(value: str | None) -> bytes:
    raw = b"" if value is None else value.encode()
    return struct.pack(">ii", 9, -1 if value is None else len(raw)) + raw


def _vector(values: list[Any]) -> bytes:
    """A column as R writes it: words, whole numbers or fractions, None as NA."""
    if any(isinstance(value, str) for value in values):
        return struct.pack(">ii", 16, len(values)) + b"".join(map(_text, values))
    if any(isinstance(value, float) for value in values):
        numbers = [float("nan") if value is None else value for value in values]
        return struct.pack(f">ii{len(values)}d", 14, len(values), *numbers)
    return struct.pack(f">ii{len(values)}i", 13, len(values), *(-(1 << 31) if v is None else v for v in values))


def saved(name: str, table: dict[str, list[Any]]) -> bytes:
    """What R's save() writes for one data frame, without compression (R Internals 1.8)."""

    def symbol(text: str) -> bytes:
        return struct.pack(">i", 1) + _text(text)

    head = b"RDX3\nX\n" + struct.pack(">iii", 3, 0x40000, 0x30500) + struct.pack(">i", 5) + b"UTF-8"
    frame = struct.pack(">ii", 19 | 0x300, len(table)) + b"".join(map(_vector, table.values()))
    names = struct.pack(">i", 2 | 0x400) + symbol("names") + _vector(list(table)) + struct.pack(">i", 254)
    return head + struct.pack(">i", 2 | 0x400) + symbol(name) + frame + names + struct.pack(">i", 254)


TABLE = {"melid": [1, 2, None], "title": ["So", None, "Whät"], "tempo": [120.5, None, 60.0]}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gzip", "xz"])
def test_a_table_saved_by_r_is_read(pack) -> None:
    assert read_tables(pack(saved("solos", TABLE)), where="x.rda") == {"solos": TABLE}


@given(st.data())
def test_damaged_bytes_are_refused_and_never_crash(data) -> None:
    raw = bytearray(saved("solos", TABLE))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    with contextlib.suppress(UserError):  # anything else is a crash
        read_tables(bytes(raw), where="x.rda")


def test_what_is_no_data_is_refused() -> None:
    head = b"RDX2\nX\n" + struct.pack(">iii", 2, 0x40000, 0x20300)
    closure = head + struct.pack(">i", 2 | 0x400) + struct.pack(">i", 1) + _text("f") + struct.pack(">i", 3)
    with pytest.raises(UserError, match="type 3"):
        read_tables(closure, where="x.rda")
    with pytest.raises(UserError, match="begins with"):
        read_tables(b"<html>", where="x.rda")


def write_solos(folder: Path, **changes: list[Any]) -> list[Path]:
    """Two choruses of four bars over chords in the database's spelling, a note on every beat, after an upbeat."""
    bars = [0, *range(1, 9)]
    beats = {
        "melid": [7] * 36,
        "bar": [bar for bar in bars for _ in range(4)],
        "beat": [1, 2, 3, 4] * 9,
        "period": [4] * 36,
        "chord": ["NC"] * 4 + ["C-7"] * 4 + ["F79b"] * 4 + ["Bbj7"] * 6 + ["Bb6911#/D"] * 2 + ["C-7"] * 15 + ["?"],
        "chorus_id": [0] * 4 + [1] * 16 + [2] * 16,
    }
    notes = {name: beats[name] for name in ("melid", "bar", "beat", "period", "chord", "chorus_id")} | {
        "tatum": [1] * 35 + [2],
        "division": [1] * 35 + [3],
        "pitch_raw": [60 + n % 12 for n in range(36)],
        "articulation_raw": [1.0] * 4 + [0.6, 0.2] + [0.9] * 29 + [None],
    }
    solos = {
        "melid": [7], "performer": ["Me"], "title": ["Tune"], "avgtempo": [180.0], "instrument": ["tp"],
        "rhythmfeel": ["SWING"],
    }  # fmt: skip
    files = []
    for name, table in (("meta", solos), ("beats", beats), ("notes", notes)):
        path = folder / f"{name}.rda"
        path.write_bytes(lzma.compress(saved(name, table | {k: v for k, v in changes.items() if k in table})))
        files.append(path)
    return files


def test_choruses_with_their_chords_and_places_in_the_bar(tmp_path) -> None:
    reader = WeimarReader(write_solos(tmp_path), bars=4)
    first, second = reader.items()
    assert (first.metre, first.length_steps, first.tempo_bpm, first.steps_per_beat) == ((4, 4), 192, 180.0, 12)
    assert first.chords[:3] == (Chord(0, 48, 0, "m7"), Chord(48, 48, 5, "7b9"), Chord(96, 72, 10, "maj7"))
    assert first.chords[3] == Chord(168, 24, 10, "69", 2)
    notes = first.parts[0].notes
    assert [note.start for note in notes] == list(range(0, 192, 12))
    assert [note.duration for note in notes[:3]] == [12, 2, 12]  # a short silence is articulation, a long one a rest
    assert notes[0].pitch == 64
    assert first.parts[0].program == 56
    assert second.parts[0].notes[-1].start == 184  # the second of three parts of the last beat
    assert second.chords[-1] == Chord(0, 180, 0, "m7")
    assert reader.dropped["note before the first chorus"] == 4
    assert "?" in reader.notes[0]
    assert reader.group(first) == reader.group(second) == "tune"
    assert list(reader.items()) == [first, second]


def test_choruses_are_joined_until_there_are_enough_bars(tmp_path) -> None:
    (whole,) = WeimarReader(write_solos(tmp_path), bars=8).items()
    assert whole.length_steps == 8 * 48


def test_a_bar_of_irregular_length_ends_a_part(tmp_path) -> None:
    odd = [1, 2, 3, 4] * 4 + [1, 2, 3, 5] + [1, 2, 3, 4] * 4
    reader = WeimarReader(write_solos(tmp_path, beat=odd), bars=8, min_notes=8)
    assert [score.length_steps for score in reader.items()] == [3 * 48, 4 * 48]
    assert reader.dropped["note in a bar of an irregular length"] == 4


def test_missing_tables_are_named(tmp_path) -> None:
    files = write_solos(tmp_path)
    with pytest.raises(UserError, match="no table of beats"):
        list(WeimarReader([files[0], files[2]]).items())
