"""Files to predict for that differ from those of training, as people's do: refused or told, never read as if alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.datasets.labelled import LabelledReader
from components.datasets.series import NO_LABEL, SeriesRowsReader


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
