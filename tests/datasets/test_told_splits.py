"""Names that may mean splits, and files of val and test that are in train too: told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.datasets import sources
from components.datasets.files.folders import given_splits, like_splits
from components.datasets.ingest import ingest
from components.datasets.sources import path_readers
from components.datasets.store import Store
from components.provenance import digest_file

LABELS = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}}


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the text of {name}\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("names", "splits", "told"),
    [
        (["train_data/a", "Test-Set/a"], ["train", "test"], False),
        (["training/a", "testing/a"], ["train", "test"], False),
        (["train/a", "eval/a"], [], True),
        (["Trainingsdaten/a", "Testdaten/a"], [], True),
        (["entrenamiento/a", "prueba/a"], [], True),
        (["学習/a", "テスト/a"], [], True),
        (["d/train/a", "d/holdout/a"], [], True),
        (["treino.csv", "teste.csv"], [], True),
        (["train/a", "ship/a"], [], False),
        (["strained/a", "latest/a", "contest/a"], [], False),
    ],
)
@pytest.mark.slow
def test_names_that_may_mean_splits(names, splits, told, tmp_path) -> None:
    folder = fill(tmp_path / "all", *names)
    assert list(given_splits(folder)[0]) == splits
    _, readers = path_readers({"path": "all", "reader": "lines"}, tmp_path, tmp_path)
    decided = "\n".join(note for reader in readers.values() for note in reader.decided)
    assert ("are they splits?" in decided) == told
    assert bool(like_splits([folder / name for name in names], folder)) == (told or bool(splits))


def test_a_label_called_test_drive_is_no_split(tmp_path) -> None:
    assert given_splits(fill(tmp_path, "train_ride/a", "test_drive/a"))[0] == {}


def manifest_notes(folder: Path, data: dict, encoding: dict) -> str:
    return "\n".join(
        Store.open(ingest(data, encoding, root=folder, cache_dir=folder / "c", seed=0).path).manifest["notes"]
    )


@pytest.mark.slow
def test_a_validation_file_that_is_the_training_file_is_told_by_every_kind_of_reader(tmp_path) -> None:
    table = "text,y\n" + "".join(f"boat {n},{n % 2}\n" for n in range(9))
    series = "day,y\n" + "".join(f"2023-05-{n + 1:02},{n % 4}\n" for n in range(20))
    frames = "x,y\n" + "".join(f"{n % 5},{'ab'[n % 2]}\n" for n in range(20))
    for name, content, reader, encoding in (
        ("text", "to be, or not to be\n" * 9, {"reader": "text"}, {"kind": "characters"}),
        ("table", table, {"reader": "table"}, LABELS),
        ("series", series, {"reader": "series-windows", "length": 3},
         {"kind": "pair", "input": {"kind": "frames"}, "target": {"kind": "frames"}}),
        ("frames", frames, {"reader": "tagged-frames", "window": 5},
         {"kind": "pair", "input": {"kind": "frames"}, "target": {"kind": "labels"}}),
    ):  # fmt: skip
        for part in "ab":
            (tmp_path / f"{name}-{part}.csv").write_text(content)
        data = reader | {"path": {"train": f"{name}-a.csv", "val": f"{name}-b.csv"}}
        assert f"warning: {name}-b.csv of val has the same contents as {name}-a.csv of train" in manifest_notes(
            tmp_path, data, encoding
        )
        once = reader | {"path": f"{name}-a.csv", "split": [0.6, 0.2, 0.2]}
        assert "has the same contents" not in manifest_notes(tmp_path, once, encoding)


def test_each_file_is_digested_once(tmp_path, monkeypatch) -> None:
    digested: list[str] = []
    monkeypatch.setattr(sources, "digest_file", lambda path: digested.append(path.name) or digest_file(path))
    for name in "abc":  # of one size, as arrays often are
        (tmp_path / f"{name}.txt").write_text(f"{name} boat\n" * 3)
    data = {"reader": "lines", "path": {"train": "a.txt", "val": "b.txt", "test": "c.txt"}}
    said = manifest_notes(tmp_path, data, {"kind": "characters"})
    assert "has the same contents" not in said
    assert "data.split" not in said
    assert sorted(digested) == ["a.txt", "b.txt", "c.txt"]
    said = manifest_notes(tmp_path, {**data, "split": [0.5, 0.25, 0.25]}, {"kind": "characters"})
    assert "data.split has no effect, since the files define the splits" in said


def test_one_file_that_holds_the_splits_is_not_its_own_copy(tmp_path) -> None:
    pieces = [[[60 + n, 64], [62 + n, 65], []] for n in range(6)]
    rolls = {"train": pieces[:3], "valid": pieces[3:5], "test": pieces[5:]}
    (tmp_path / "rolls.json").write_text(json.dumps(rolls))
    notes = manifest_notes(tmp_path, {"reader": "rolls", "path": "rolls.json"}, {"kind": "pianoroll"})
    assert "has the same contents" not in notes
    both = {"reader": "rolls", "path": {"train": "rolls.json", "val": "rolls.json"}}
    assert "rolls.json of val has the same contents as rolls.json of train" in manifest_notes(
        tmp_path, both, {"kind": "pianoroll"}
    )


@pytest.mark.slow
def test_lines_of_a_text_that_are_in_train_too_are_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("components.datasets.splits.MOST_LINES", 100)  # most of them are left out of the comparison
    lines = [f"the {n}th line is longer than that\n" for n in range(400)]
    (tmp_path / "train.txt").write_text("".join(lines))
    data = {"reader": "text", "path": {"train": "train.txt", "test": "test.txt"}}
    for other, told in (("".join(lines[100:300]), True), ("".join(lines)[::-1], False), ("a short line\n" * 40, False)):
        (tmp_path / "test.txt").write_text(other)
        found = manifest_notes(tmp_path, data, {"kind": "characters"})
        assert ("warning: 100% of the lines of test" in found) == told
