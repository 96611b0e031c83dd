"""What stands in tables beside their data isn't taken for data: totals, notes, columns that count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.datasets.beside_data import counts, footer
from components.datasets.sources import path_readers
from components.errors import UserError


def read(folder: Path, content: str, reader: str, **options) -> tuple[list, list[str]]:
    (folder / "t.csv").write_text(content, encoding="utf-8")
    _, readers = path_readers({"path": "t.csv", "reader": reader, **options}, folder, folder / "cache")
    (made,) = readers.values()
    return list(made.items()), made.notes


@pytest.mark.parametrize(
    ("cell", "is_footer"),
    [
        ("Total", True), (" grand total: ", True), ("SUBTOTAL", True), ("* Average", True), ("Gesamtsumme", True),
        ("合计", True), ("Source: the harbour office", True), ("total loss", False),
        ("a mean dog", False), ("12", False), ("", False),
    ],
)  # fmt: skip
def test_footers(cell: str, is_footer: bool) -> None:
    assert bool(footer([cell])) == is_footer


@pytest.mark.parametrize(
    ("tail", "told"),
    [("Total,6", "line 8"), ("Average,8.5\nSource: us,", "line 8"), ("Total,\n", ""), ("the total of it,6", "")],
)
def test_an_example_that_looks_like_a_total_is_told(tail: str, told: str, tmp_path) -> None:
    rows = "".join(f"ship {n},{n % 2}\n" for n in range(6))
    _, notes = read(tmp_path, f"text,y\n{rows}{tail}\n", "table")
    found = [note for note in notes if "Is it a total or a note?" in note]
    assert len(found) == bool(told)
    assert not told or told in found[0]


def measured(last: str, label: str = "calm", rows: int = 12) -> str:
    lines = "".join(f"2024-05-{n + 1:02},{n % 5},{'storm' if n % 3 else label}\n" for n in range(rows))
    return f"day,wind,sea\n{lines}{last}\n"


@pytest.mark.parametrize("last", ["Total,24,", ",24,", "2024-05-13,24,mean"])
def test_a_series_with_a_total_below_it_is_refused(last: str, tmp_path) -> None:
    with pytest.raises(UserError, match="delete everything below the table") as caught:
        read(tmp_path, measured(last), "series-windows", length=3, columns="wind")
    assert "line 14" in str(caught.value)


def test_a_label_or_series_of_that_name_is_one_like_any_other(tmp_path) -> None:
    (items, _) = read(tmp_path, measured("2024-05-13,2,total", label="total"), "tagged-frames")
    assert sum(len(tags) for _, tags in items) == 13
    with pytest.raises(UserError, match="the last line isn't data"):
        read(tmp_path, measured("2024-05-13,2,total"), "tagged-frames")
    lines = "".join(f"2024-05-{n + 1:02},{name},{n}\n" for n in range(20) for name in ("north", "Total"))
    assert len(read(tmp_path, f"day,item,y\n{lines}", "series-table", horizon=2)[0]) == 2


def frames(name: str, value) -> str:
    return f"{name},x,sea\n" + "".join(f"{value(n)},{n % 5},{'storm' if n % 3 else 'calm'}\n" for n in range(20))


@pytest.mark.parametrize(
    ("name", "value", "read_too"),
    [
        ("time [s]", lambda n: n * 0.04, False),
        ("Frame_No", lambda n: n + 7, False),
        ("timestamp", lambda n: 1_700_000_000 + n * n, False),
        ("time", lambda n: n * 7 % 20, True),
        ("height", lambda n: n * 2, True),
    ],
)
def test_a_column_that_counts_the_frames_is_left_out_and_told(name, value, read_too, tmp_path) -> None:
    items, notes = read(tmp_path, frames(name, value), "tagged-frames")
    assert {array.shape[1] for array, _ in items} == {1 + read_too}
    assert (f"read of each frame: x; not read: {name}" in notes[0]) != read_too
    assert any(f"{name} increases by a constant" in note for note in notes) == (name == "height")
    items, _ = read(tmp_path, frames(name, value), "tagged-frames", columns=[name, "x"])
    assert {array.shape[1] for array, _ in items} == {2}


@pytest.mark.parametrize("value", [lambda n: 900 - n * n, lambda n: f"2024-06-{30 - n:02}"])
def test_frames_with_the_newest_first_are_told(value, tmp_path) -> None:
    items, notes = read(tmp_path, frames("time", value), "tagged-frames")
    assert {array.shape[1] for array, _ in items} == {1}
    assert any("time decreases in every line, from" in note for note in notes)


def test_each_recording_may_count_anew(tmp_path) -> None:
    lines = "".join(f"{n % 10},{n // 10},{n % 4},calm\n" for n in range(20))
    items, _ = read(tmp_path, f"t,swim,x,sea\n{lines}", "tagged-frames", recording="swim")
    assert {array.shape[1] for array, _ in items} == {1}
    assert not counts("t", np.arange(20) % 10)


@pytest.mark.slow
def test_files_of_frames_that_begin_with_the_time_are_told(tmp_path) -> None:
    for label in ("up", "down"):
        (tmp_path / "d" / label).mkdir(parents=True)
        for n in range(3):
            np.save(tmp_path / "d" / label / f"{n}.npy", np.c_[np.arange(9) / 50, np.sin(np.arange(9) + n)])
    for first, told in ((0, True), (1, False)):
        for path in (tmp_path / "d").rglob("*.npy"):
            np.save(path, np.roll(np.load(path), first, axis=1))
        _, readers = path_readers({"path": "d", "reader": "frame-files"}, tmp_path, tmp_path)
        (reader,) = readers.values()
        assert len(list(reader.items())) == 6
        assert any("each frame increases by a constant" in note for note in reader.notes) == told
