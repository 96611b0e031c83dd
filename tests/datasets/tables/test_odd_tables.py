"""Tables as spreadsheets, pandas and R write them: numbers, headers and labels are what they mean, or it is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.datasets.files.cells import Points, numbers
from components.datasets.ingest import ingest
from components.datasets.labelled import stem
from components.datasets.series.table import SeriesTableReader
from components.datasets.sources import path_readers
from components.datasets.store import Store
from components.datasets.tables.columns import is_header
from components.errors import UserError
from components.proposals.base import Look
from components.proposals.columns import grid_of
from components.use.files import reader_for

LABELS = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}}
NUMBERS = LABELS | {"target": {"kind": "frames"}}
TEXTS = [f"sample {sign}" for sign in "abcdefghijkl"]


def items(folder: Path, name: str, content: str, reader: str = "table", **options: Any) -> tuple[list, Any]:
    """What a reader gives of a file, and the reader."""
    (folder / name).write_text(content, encoding="utf-8")
    _, readers = path_readers({"path": name, "reader": reader, **options}, folder, folder / "cache")
    (made,) = readers.values()
    return list(made.items()), made


def notes(folder: Path, name: str, content: str, encoding: dict = LABELS, reader: str = "table", **options) -> str:
    (folder / name).write_text(content, encoding="utf-8")
    data = {"path": name, "reader": reader, "split": [0.6, 0.2, 0.2], **options}
    ref = ingest(data, encoding, root=folder, cache_dir=folder / "cache", seed=0)
    return "\n".join(Store.open(ref.path).manifest["notes"])


@pytest.mark.parametrize(
    ("cells", "told"), [("1,250 3,500 7,125", True), ("1,250 0,500 7,125", False), ("1,250 3,5 7,125", False)]
)
def test_a_comma_that_may_be_one_of_thousands_is_told(cells: str, told: bool, tmp_path: Path) -> None:
    lines = [f"{text};{cell}" for text, cell in zip(TEXTS, cells.split() * 4, strict=True)]
    found = notes(tmp_path, "t.csv", "\n".join(["text;y", *lines]), NUMBERS, separator="semicolon", numbers=True)
    assert ("1,250 is read as 1.25: in tables separated by semicolons" in found) == told
    rows = "\n".join(["day;y", *(f"2024-01-{at:02};{cell}" for at, cell in enumerate(cells.split(), 1))])
    _, made = items(tmp_path, "s.csv", rows, "series-windows", length=1)
    assert any("1,250 is read as 1.25" in note for note in made.notes) == told


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.234,5", "-12.345.678,25", "7,5"], [1234.5, -12345678.25, 7.5]),
        (["2,5", "2.5"], [2.5, 2.5]),
        (["0.125", "1,5"], [0.125, 1.5]),
        (["1.500", "2.250"], [1.5, 2.25]),  # no comma anywhere: points
    ],
)
def test_numbers_with_decimal_commas(cells: list[str], expected: list[float]) -> None:
    points = Points(";", apart=True)
    assert [numbers(points([cell], "x"))[0].tolist()[0] for cell in cells] == expected


@pytest.mark.parametrize("cells", [["2,5", "1.250"], ["1.250", "2,5"], ["1.250", "3.000,75"]])
@pytest.mark.parametrize("reader", ["table", "series-windows", "series-rows", "frame-files"])
def test_a_thousand_that_may_be_one_and_a_bit_is_refused(cells: list[str], reader: str, tmp_path: Path) -> None:
    rows = {
        "table": "text;price\n" + "".join(f"t{at};{cell}\n" for at, cell in enumerate(cells)),
        "series-windows": "day;price\n" + "".join(f"2001-01-0{at + 1};{cell}\n" for at, cell in enumerate(cells)),
        "series-rows": ";".join(cells) + ";up\n",
        "frame-files": "".join(f"{cell};1\n" for cell in cells),
    }[reader]
    options = {"table": {"separator": "semicolon", "numbers": True}, "series-windows": {"length": 1}}.get(reader, {})
    with pytest.raises(UserError, match=r"has both 1\.250 and .*: which sign is the decimal one\?"):
        items(tmp_path, "t.csv", rows, reader, **options)


def test_columns_may_write_their_numbers_in_their_own_way() -> None:
    points = Points(";", apart=True)
    assert points(["1.250", "2,5"], "x") == ["1.250", "2.5"]
    assert points.notes[0].startswith("warning: 1.250 is read with a decimal point, but 2,5 in another column")
    alone = Points(";", apart=True)
    assert alone(["1.250"], "x") == ["1.250"]
    assert alone.notes == ["1.250 is read as 1.25: write numbers without thousands separators"]
    assert points(["1.2", "2,5"], "x") == ["1.2", "2.5"]  # surely decimal
    assert points.notes == []
    with pytest.raises(UserError):
        points(["2,5", "1"], "x")


def test_an_underscore_makes_a_name_not_a_number(tmp_path: Path) -> None:
    assert numbers(["1_0"])[1] == "not a number"
    rows = "run,x,y\n" + "".join(f"1_{at},{at},{at * at}\n" for at in range(6))
    found, _ = items(tmp_path, "t.csv", rows, "series-windows", length=2, columns="x")
    assert len(found) == 4
    with pytest.raises(UserError, match="'1_0' isn't a number"):
        items(tmp_path, "t.csv", rows, "series-windows", length=2, columns="run")


def test_the_way_out_shows_how_numbers_are_written(tmp_path: Path) -> None:
    rows = "day,y\n" + "".join(f'2001-01-0{at},"{at},500"\n' for at in range(1, 8))
    with pytest.raises(UserError) as caught:
        items(tmp_path, "t.csv", rows, "series-windows", length=2)
    assert "y begins with '1,500'" in caught.value.hint
    assert "1234.5" in caught.value.hint
    with pytest.raises(UserError, match=r"1234\.5"):
        notes(tmp_path, "u.csv", "text,y\n" + "".join(f"{text},5 %\n" for text in TEXTS), NUMBERS, numbers=True)


@pytest.mark.parametrize("separator", [None, "semicolon"])
def test_excels_first_line_is_read_as_excel_reads_it(separator: str | None, tmp_path: Path) -> None:
    options = {"separator": separator} if separator else {}
    found, made = items(tmp_path, "t.csv", "sep=;\ntext;mood\nwell, well;glad\n;sad\n", **options)
    assert found == [("well, well", "glad")]
    assert made.dropped == {"no input": 1}
    assert [row.where.rpartition("line ")[2] for row in made.rows(labelled=True)] == ["3", "4"]


def test_blanks_after_separators_dont_hide_quotes(tmp_path: Path) -> None:
    found, _ = items(tmp_path, "t.csv", 'text, mood\n"rain, again", "sad"\n"sun", glad\n')
    assert found == [("rain, again", "sad"), ("sun", "glad")]


def test_a_header_that_comes_again_is_left_out(tmp_path: Path) -> None:
    found, made = items(tmp_path, "t.csv", "text,mood\na day,glad\ntext,mood\na night,sad\n")
    assert found == [("a day", "glad"), ("a night", "sad")]
    assert made.dropped == {"the header again": 1}


def test_a_first_row_taken_for_the_header_is_told(tmp_path: Path) -> None:
    rows = "".join(f"{text},{('glad', 'sad')[at % 2]}\n" for at, text in enumerate(TEXTS))
    told = notes(tmp_path, "t.csv", rows)
    assert "'glad' is also a label (if there is no header, set data.header=false" in told
    assert "is also a label" not in notes(tmp_path, "u.csv", "text,mood\n" + rows)


@pytest.mark.parametrize(
    ("name", "said"),
    [("t.xlsx", "is a spreadsheet"), ("t.csv.bz2", "is compressed"), ("t.jsonl", "is not a text table")],
)
def test_other_files_are_called_by_their_names(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        items(tmp_path, name, "PK\3\4")
    assert caught.value.hint


def test_lines_above_the_table_are_found(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        items(tmp_path, "t.csv", "exported on Monday\n\ntext,mood\na,b\n")
    assert "begin in line 3" in caught.value.hint
    with pytest.raises(UserError, match="has 2 cells, but the first line has 1") as caught:
        items(tmp_path, "t.csv", "exported on Monday\nday,y\n2001-01-01,3\n", "series-windows", length=1)
    assert "above" in caught.value.hint


def test_empty_fields_at_the_ends_of_lines_are_no_columns(tmp_path: Path) -> None:
    rows = "x,what,,\n" + "".join(f"{at},{'ab'[at % 2]},,\n" for at in range(6))
    found, _ = items(tmp_path, "t.csv", rows, "tagged-frames", window=3)
    assert [labels for _, labels in found] == [["a", "b", "a"], ["b", "a", "b"]]


def test_columns_without_names_that_pandas_counts_are_a_header(tmp_path: Path) -> None:
    rows = ",0,1\n" + "".join(f"{at},{at * 2},{at * 3}.5\n" for at in range(6))
    found, _ = items(tmp_path, "t.csv", rows, "series-windows", length=2, columns="0")
    assert found[0][0].ravel().tolist() == [0, 2]


def test_years_after_names_are_a_header() -> None:
    years = [str(year) for year in range(1990, 1996)]
    row = ["Chad", "TCD", "1.5", "2", "3.5", "4", "", "6"]
    assert is_header(["Country", "Code", *years], row)
    assert not is_header(["Chad", "TCD", *years], ["Togo", "TGO", *years]), "values that happen to be years"
    assert not is_header(["Country", "Code", *reversed(years)], row)
    assert not is_header(years, ["1"] * 6)


def test_a_series_a_row_below_a_header_that_counts(tmp_path: Path) -> None:
    rows = "0.5,1,2,up\n3,2,1,down\n"
    found, made = items(tmp_path, "t.csv", "0,1,2,label\n" + rows, "series-rows")
    assert [label for _, label in found] == ["up", "down"]
    assert made.dropped == {"a header that counts the columns": 1}
    found, _ = items(tmp_path, "t.csv", "0,1,2,up\n" + rows, "series-rows")  # its label is there again: a series
    assert len(found) == 3
    found, _ = items(tmp_path, "t.csv", "0,1,2,3\n1,2,3,4\n", "series-rows")
    assert len(found) == 2
    found, _ = items(tmp_path, "t.csv", "0,1,2,3\n0.5,2,3,4\n", "series-rows")
    assert len(found) == 1


def test_the_label_may_be_first_and_cells_may_be_quoted(tmp_path: Path) -> None:
    found, _ = items(tmp_path, "t.tsv", "2\t0.5\t1.5\n1\t2.5\t3.5\n", "series-rows", label="first")
    assert [(frames.ravel().tolist(), label) for frames, label in found] == [([0.5, 1.5], "2"), ([2.5, 3.5], "1")]
    found, made = items(tmp_path, "t.csv", '"0.5","1.5","a"\n\n"2.5","3.5","b"\n', "series-rows")
    assert [label for _, label in found] == ["a", "b"]
    assert made.dropped == {"empty line": 1}
    (tmp_path / "new.csv").write_text(",0.5,1.5\n0.5,1.5\n", encoding="utf-8")
    _, readers = path_readers(
        {"path": "new.csv", "reader": "series-rows", "label": "first", "steps": 2}, tmp_path, tmp_path
    )
    rows = [row.input.ravel().tolist() for reader in readers.values() for row in reader.inputs()]
    assert rows == [[0.5, 1.5]] * 2


def test_a_label_for_nearly_every_item_is_told(tmp_path: Path) -> None:
    rows = "".join(f"{at % 2},{at}.5,{at * at}.25\n" for at in range(40))
    assert "is it the right column" in notes(
        tmp_path, "t.csv", rows, LABELS | {"input": {"kind": "frames"}}, "series-rows"
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["1", "1.0"], "as different: '1' and '1.0'"),
        (["7", "007"], "as different: '007' and '7'"),
        (["dry", "NaN"], "read as a label: 'NaN'"),
        (["dry", "wet", "unsorted"], "its name says that its items have none: 'unsorted'"),
        (["wahr", "FALSCH", "ja"], "yes and no in several spellings"),
        (["dry", "wet"], ""),
        (["+", "-"], ""),
        (["1_0", "10"], ""),
    ],
)
def test_labels_that_hardly_differ_and_such_as_are_none_are_told(labels: list[str], said: str, tmp_path: Path) -> None:
    rows = "".join(f"{text},{labels[at % len(labels)]}\n" for at, text in enumerate(TEXTS))
    told = notes(tmp_path, "t.csv", "text,what\n" + rows)
    assert said in told if said else not told


def test_texts_of_parquet_may_be_bytes_but_not_lists(tmp_path: Path) -> None:
    rows = {"text": [b"na\xc3\xafve", b"plain"], "words": [["a"], ["b"]], "mood": ["glad", "sad"]}
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    data = {"path": "t.parquet", "reader": "table", "target": "mood"}
    _, readers = path_readers(data | {"input": "text"}, tmp_path, tmp_path)
    assert list(readers[None].items()) == [("naïve", "glad"), ("plain", "sad")]
    _, readers = path_readers(data | {"input": "words"}, tmp_path, tmp_path)
    with pytest.raises(UserError, match="column 'words' contains lists"):
        list(readers[None].items())


def test_an_index_of_pandas_is_a_column_only_if_it_has_times(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=6, name="day")
    pd.DataFrame({"kW": np.arange(6.0)}, index=days).to_parquet(tmp_path / "days.parquet")
    (series,) = SeriesTableReader([tmp_path / "days.parquet"], horizon=1).whole()
    assert (str(series.times[5])[:10], series.values[5]) == ("2024-01-06", 5)
    rows = pd.DataFrame({"text": ["a", "b", "c"], "mood": ["glad", "sad", "glad"]})
    rows[rows.mood == "glad"].to_parquet(tmp_path / "t.parquet")  # with an index of 0 and 2
    _, readers = path_readers({"path": "t.parquet", "reader": "table"}, tmp_path, tmp_path)
    assert list(readers[None].items()) == [("a", "glad"), ("c", "glad")]


def test_nul_characters_of_parquet_are_taken_out_and_counted(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a\0b", "plain"], "mood": ["gl\0ad\0", "sad"]}).to_parquet(tmp_path / "t.parquet")
    _, readers = path_readers({"path": "t.parquet", "reader": "table"}, tmp_path, tmp_path)
    assert list(readers[None].items()) == [("ab", "glad"), ("plain", "sad")]
    assert readers[None].dropped == {"NUL character": 3}


def test_whole_numbers_that_are_rounded_are_told(tmp_path: Path) -> None:
    rows = "text,y\n" + "".join(f"{text},{2**53 + 16 + at}\n" for at, text in enumerate(TEXTS))
    assert "are rounded to 2" in notes(tmp_path, "t.csv", rows, NUMBERS, numbers=True)
    rows = "text,y\n" + "".join(f"{text},{10**12 + at}\n" for at, text in enumerate(TEXTS))
    assert "are rounded to" not in notes(tmp_path, "u.csv", rows, NUMBERS, numbers=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("3.5 stars.txt", "3.5 stars"), ("3.5.txt.gz", "3.5"), ("Welsh.txt", "Welsh"), ("été.txt", "été"), ("2.0", "2.0")],
)
def test_points_between_digits_begin_no_ending(name: str, expected: str) -> None:
    assert stem(Path(name)) == expected


def test_files_whose_labels_differ_behind_a_point_have_different_labels(tmp_path: Path) -> None:
    for name in ("3.0 stars.txt", "3.5 stars.txt", "4.txt"):
        (tmp_path / "reviews").mkdir(exist_ok=True)
        (tmp_path / "reviews" / name).write_text("".join(f"{name} {at}\n" for at in range(9)), encoding="utf-8")
    data = {"path": "reviews", "reader": "labelled-lines", "split": [0.6, 0.2, 0.2]}
    ref = ingest(data, LABELS, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    manifest = Store.open(ref.path).manifest
    assert set().union(*manifest["labels"].values()) == {"3.0 stars", "3.5 stars", "4"}


def test_rolls_of_zeros_and_ones_are_no_pitches(tmp_path: Path) -> None:
    frames = np.eye(88, dtype=int)[:3].tolist()
    with pytest.raises(UserError, match="88 zeros and ones"):
        items(tmp_path, "r.json", f"[[{frames[0]}], {frames}]", "rolls")


@pytest.mark.parametrize("reader", ["table", "labelled-lines", "lines"])
def test_items_of_test_that_are_in_train_are_told(reader: str, tmp_path: Path) -> None:
    names = {"table": ("train.csv", "test.csv")}.get(reader, ("train/up.txt", "test/up.txt"))
    header, end = ("text,what\n", ",{}") if reader == "table" else ("", "")
    for name, texts in zip(names, (TEXTS, [TEXTS[3].upper(), "sample new"]), strict=True):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(text + end.format(at % 2) + "\n" for at, text in enumerate(texts))
        (tmp_path / "d" / name).write_text(header + lines, encoding="utf-8")
        other = (tmp_path / "d" / name).with_name("down.txt")
        if reader == "labelled-lines":
            other.write_text("".join(f"{name} {at}\n" for at in range(6)), encoding="utf-8")
    encoding = {"kind": "characters"} if reader == "lines" else LABELS
    ref = ingest({"path": "d", "reader": reader}, encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0)
    told = [note for note in Store.open(ref.path).manifest["notes"] if "also in train" in note]
    assert told == [f"warning: 1 of the {8 if reader == 'labelled-lines' else 2} items of test are also in train"]


@pytest.mark.parametrize("rows", [",text,mood\n", "sep=,\nnumber,text,mood\n"])
def test_a_recipe_is_proposed_for_tables_with_an_index_and_such_as_excel_writes(rows: str, tmp_path: Path) -> None:
    rows += "".join(f"{at},{text},{('glad', 'sad')[at % 2]}\n" for at, text in enumerate(TEXTS))
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8")
    grid = grid_of(Look(tmp_path / "t.csv", "t.csv"))
    assert grid.header
    assert [column.kind for column in grid.columns] == ["whole", "texts", "labels"]


def test_a_series_below_excels_first_line(tmp_path: Path) -> None:
    rows = "sep=;\nday;y\n" + "".join(f"2001-01-0{at};{at},5\n" for at in range(1, 8))
    found, _ = items(tmp_path, "t.csv", rows, "series-windows", length=2)
    assert found[0][0].ravel().tolist() == [1.5, 2.5]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes: a POSIX system")
def test_a_pipe_to_predict_for_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="not a file or a folder"):
        reader_for(tmp_path / "pipe.csv", {"reader": "table"})
