"""Files whose headers differ: columns are found by their names, or the file is refused; never by their place alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.errors import UserError
from components.use.files import reader_for

FRAMES, LABELS = {"kind": "frames"}, {"kind": "labels"}
# reader: (options, input, target, the header, rows)
CASES: dict[str, tuple] = {
    "table": ({}, {"kind": "characters"}, LABELS, "text,mood", ["good day,glad", "bad day,sad", "a day,glad"]),
    "tagged-frames": ({"window": 2}, FRAMES, LABELS, "x,y,what", ["1,20,go", "2,30,go", "3,10,rest", "4,10,rest"]),
    "series-windows": ({"length": 2}, FRAMES, FRAMES, "day,sales", [f"2001-01-0{n},{n * n}" for n in range(1, 9)]),
    "series-rows": ({}, FRAMES, LABELS, "t1,t2,t3,what", ["1,2,3,go", "4,5,6,go", "2,2,2,rest"]),
}


def swapped(lines: list[str]) -> list[str]:
    """The last column first."""
    return [",".join([cells[-1], *cells[:-1]]) for cells in (line.split(",") for line in lines)]


def stored(folder: Path, reader: str, train: list[str], test: list[str]) -> Store:
    options, one, other, *_ = CASES[reader]
    paths = {}
    for split, lines in (("train", train), ("test", test)):
        paths[split] = str(folder / f"{split}.csv")
        Path(paths[split]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {"path": paths, "reader": reader, "split": [1.0, 0.0, 0.0], **options}
    encoding = {"kind": "pair", "input": one, "target": other}
    return Store.open(ingest(data, encoding, root=folder, cache_dir=folder / "c", seed=0).path)


def read(store: Store, split: str) -> list[list[Any]]:
    examples = store.split(split)
    return [[examples.fields[name][row].tolist() for name in ("input", "target")] for row in range(len(examples))]


@pytest.mark.parametrize("reader", ["table", "tagged-frames", "series-windows"])
def test_columns_in_another_order_are_found_by_their_names(reader: str, tmp_path: Path) -> None:
    header, rows = CASES[reader][3:]
    store = stored(tmp_path, reader, [header, *rows], swapped([header, *rows]))
    assert read(store, "test") == read(store, "train")
    assert len(read(store, "test"))


@pytest.mark.parametrize("reader", CASES)
def test_a_column_of_another_name_is_refused(reader: str, tmp_path: Path) -> None:
    header, rows = CASES[reader][3:]
    for old in [name for name in header.split(",") if name != "day"]:
        with pytest.raises(
            UserError, match=r"test.csv: the columns (read|predicted) would be .*, but those of train.csv are "
        ):
            stored(tmp_path, reader, [header, *rows], [header.replace(old, "other"), *rows])


def test_rows_whose_header_is_in_another_order_are_refused(tmp_path: Path) -> None:
    header, rows = CASES["series-rows"][3:]
    with pytest.raises(UserError, match=r"would be what, t1, t2, but those of train.csv are t1, t2, t3"):
        stored(tmp_path, "series-rows", [header, *rows], swapped([header, *rows]))
    store = stored(tmp_path, "series-rows", [header, *rows], rows)
    assert read(store, "test") == read(store, "train"), "a file may have no header"


def test_frames_of_files_with_other_headers_are_refused(tmp_path: Path) -> None:
    for label, name, header in (("go", "a", "x,y"), ("rest", "b", "x,y"), ("rest", "c", "y,x")):
        (tmp_path / "f" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / label / f"{name}.csv").write_text(f"{header}\n1,2\n3,4\n", encoding="utf-8")
    data = {"path": str(tmp_path / "f"), "reader": "frame-files"}
    pair = {"kind": "pair", "input": FRAMES, "target": LABELS}
    with pytest.raises(UserError, match=r"c.csv: the columns read would be y, x, but those of a.csv are x, y"):
        ingest(data, pair, root=tmp_path, cache_dir=tmp_path / "c", seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("header", [",t1,t2,what", ",0,1,what"])
def test_the_numbers_of_rows_are_not_read_with_them(header: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="first column has no name"):
        stored(tmp_path, "series-rows", [header, "0,5,6,go", "1,8,9,rest"], ["5,6,go"])
    store = stored(tmp_path, "series-rows", ["", ",1,go", "4,5,go", "2,3,rest"], ["5,6,go"])
    assert len(store.split("train")) == 2, "lines that are no header"
    header, rows = CASES["tagged-frames"][3:]
    numbered = [f"{n - 1 if n else ''},{line}" for n, line in enumerate([header, *rows])]
    store = stored(tmp_path, "tagged-frames", numbered, [header, *rows])
    assert read(store, "train") == read(store, "test")
    assert "read of each frame: x, y" in store.manifest["notes"]


def test_tags_in_another_column_than_the_first_files_are_refused(tmp_path: Path) -> None:
    """The last column is that of the tags: of a file with one column fewer it would be another."""
    for name, lines in (("train", ["a DET O", "b NOUN B-x", "", "a DET O"]), ("test", ["a O", "b B-x"])):
        (tmp_path / f"{name}.conll").write_text("\n".join(lines) + "\n", encoding="utf-8")
    paths = {split: str(tmp_path / f"{split}.conll") for split in ("train", "test")}
    data = {"path": paths, "reader": "conll", "split": [1.0, 0.0, 0.0], "scheme": "none"}
    pair = {"kind": "pair", "input": {"kind": "symbols"}, "target": LABELS}
    with pytest.raises(
        UserError, match=r"test.conll: the columns predicted would be column 2, but those of train.conll are column 3"
    ) as caught:
        ingest(data, pair, root=tmp_path, cache_dir=tmp_path / "c", seed=0)
    assert "data.tag_column" in str(caught.value)


def asked(folder: Path, reader: str, columns: dict[str, list[str]], lines: list[str], *settings: str) -> list[Any]:
    """What a model whose data had these columns reads of a new file."""
    path = folder / "new.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = reader_for(path, {"reader": reader, **CASES[reader][0]}, overrides=settings)
    made.trained_on(columns)
    rows = list(made.inputs())
    assert not any(row.problem for row in rows)
    return [row.input if isinstance(row.input, str) else np.asarray(row.input).tolist() for row in rows]


def test_a_model_reads_the_columns_that_it_was_trained_on(tmp_path: Path) -> None:
    table = {"read": ["text"], "predicted": ["mood"]}
    assert asked(tmp_path, "table", table, ["mood,text", "glad,good day"]) == ["good day"]
    assert asked(tmp_path, "table", table, ["id,text,mood", "7,good day,glad"]) == ["good day"]
    assert asked(tmp_path, "table", table, ["sentence", "good day"]) == ["good day"], "the only column"
    with pytest.raises(UserError, match="would be An export, but those of the training data are text"):
        asked(tmp_path, "table", table, ["An export,", "text,mood", "good day,glad"])
    with pytest.raises(UserError, match="has one column, 'text;mood', instead of 'text'"):
        asked(tmp_path, "table", table, ["text;mood", "good day;glad"])
    with pytest.raises(UserError, match="would be id, but those of the training data are text"):
        asked(tmp_path, "table", table, ["id,sentence", "7,good day"])
    assert asked(tmp_path, "table", table, ["id,sentence", "7,good day"], "data.input=sentence") == ["good day"]
    frames = {"read": ["x", "y"], "predicted": ["what"]}
    assert asked(tmp_path, "tagged-frames", frames, ["y,what,x", "2,0,1"]) == [[[1, 2]]], "labels that are numbers"
    with pytest.raises(UserError, match="would be 1, 2, but those of the training data are x, y"):
        asked(tmp_path, "tagged-frames", frames, ["2,1", "3,4"])
    assert asked(tmp_path, "tagged-frames", frames, ["2,1"], "data.columns=['2', '1']") == [[[1, 2]]]
    sales = {"read": ["sales"]}
    assert asked(tmp_path, "series-windows", sales, ["stock,sales", "1,2", "3,4"]) == [[[2], [4]]]
    assert asked(tmp_path, "series-windows", sales, ["2", "4"]) == [[[2], [4]]], "one column, no header"
    with pytest.raises(UserError, match="would be stock, but those of the training data are sales"):
        asked(tmp_path, "series-windows", sales, ["stock", "1", "3"])
    rows = {"read": ["t1", "t2", "t3"], "predicted": ["what"]}
    assert asked(tmp_path, "series-rows", rows, ["1,2,3,go"]) == [[[1], [2], [3]]]
    with pytest.raises(UserError, match="would be what, t1, t2"):
        asked(tmp_path, "series-rows", rows, ["what,t1,t2,t3", "go,1,2,3"])
