"""Files to predict for that differ from those of training, as people's do: refused or told, never read as if alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.answers import read
from components.datasets.labelled import LabelledReader
from components.datasets.made.series import MadeSeries
from components.datasets.series.labelled import NO_LABEL, SeriesRowsReader
from components.datasets.tables.reader import TableReader
from components.encodings.doubts import Doubts
from components.encodings.series import SeriesValues
from components.errors import UserError


def problems(reader: LabelledReader) -> list[str]:
    return [row.problem for row in reader.inputs()]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("0,.1,.2\n1,.1,.2\n", [NO_LABEL] * 2),  # an index, and then .2 stood for the label
        ("5,.1,1\n5,.1,2.0\n5,.1,\n5,.1,?\n5,.1\n", [""] * 5),
        ("a,b,label\n5,.1,7\n", ["not a number", ""]),  # named by a header: a label that the model doesn't know
    ],
)
def test_a_number_where_a_label_was_is_one_of_the_labels(tmp_path: Path, rows: str, expected: list[str]) -> None:
    (tmp_path / "new.csv").write_text(rows, encoding="utf-8")
    reader = SeriesRowsReader([tmp_path / "new.csv"], steps=2)
    reader.trained_labels = ["1", "2"]
    assert problems(reader) == expected


def table(folder: Path, rows: str, **options) -> TableReader:
    (folder / "new.csv").write_text(rows, encoding="utf-8")
    reader = TableReader([folder / "new.csv"], **options)
    reader.trained_labels = ["pos", "neg"]
    return reader


@pytest.mark.parametrize(("first", "told"), [("text,label", True), ("well,pos", False), ("well,", False)])
def test_a_header_where_training_had_none(tmp_path: Path, first: str, told: bool) -> None:
    reader = table(tmp_path, f"{first}\ngood,pos\n", header=False)
    assert problems(reader) == ["", ""]
    assert reader.notes == ["warning: new.csv: the first line is read as an example, but 'label' is none of the "
                            "model's labels (if the line is a header, set data.header=true)"] * told  # fmt: skip


def test_a_column_that_holds_two(tmp_path: Path) -> None:
    reader = table(tmp_path, "good;pos\nbad;neg\n", header=False)
    assert problems(reader) == ["", ""]
    assert "set data.separator=semicolon" in reader.notes[0]
    reader = table(tmp_path, "text\ngood; very\nbad\n")
    assert problems(reader) == ["", ""]
    assert reader.notes == []


def test_an_index_is_not_the_text(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"which of the 2 columns\?\ncolumns: id, text; choose the texts' with --column"
    ):
        problems(table(tmp_path, "id,text\n1,good\n"))
    assert [row.input for row in table(tmp_path, "text,id\ngood,1\n").inputs()] == ["good"]


def test_a_series_shorter_than_what_the_model_reads_is_told() -> None:
    encoding = SeriesValues()
    encoding.fit(MadeSeries(count=2, steps=200, horizon=4).whole())
    back, doubts = max(encoding.read_lags), Doubts()
    for count in (back, back + 1):
        read(encoding, {"values": [1.5] * count, "start": "2024-01-01"}, f"{count} values", doubts)
    assert doubts.lines() == [
        f"warning: fewer values than the {back} steps back that the model reads: 1 input ({back} values)"
    ]
