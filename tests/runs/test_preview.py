"""`reprise validate` looks into a person's own files: are they there, and do reader, encoding and task fit?"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import UserError
from components.recipe import Recipe
from components.runs.preview import preview

LABELS = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}}


def recipe(path: object, reader: str, encoding: dict, task: str, **data) -> Recipe:
    values = {"data": {"path": path, "reader": reader, **data}, "encoding": encoding, "task": {"kind": task}}
    return Recipe.from_dict("mine", {**values, "model": {"kind": "gru", "hidden_size": 4}})


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.csv"
    path.write_text("t,l\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(40)))
    return str(path)


@pytest.mark.slow
def test_what_fits_is_said_to(rows: str) -> None:
    assert preview(recipe(rows, "table", LABELS, "classification")).startswith("1 file of your own")
    assert preview(recipe(rows, "text", {"kind": "characters"}, "language_model"))
    assert preview(Recipe.from_dict("x", {**recipe(rows, "text", {"kind": "characters"}, "language_model").as_dict(),
                                          "data": {"dataset": "names"}})) == ""  # fmt: skip


@pytest.mark.parametrize("splits", [{"train": "no", "val": "such"}, {"train": "rows.csv", "test": "no"}])
def test_a_file_that_is_missing(rows: str, splits: dict[str, str]) -> None:
    paths = {split: str(Path(rows).with_name(name)) for split, name in splits.items()}
    with pytest.raises(UserError, match="no such file"):
        preview(recipe(paths, "table", LABELS, "classification"))


@pytest.mark.parametrize(("content", "said"), [(None, "no such file"), ("words\n", "no numbers after the word")])
def test_word_vectors_that_are_none(rows: str, tmp_path: Path, content: str | None, said: str) -> None:
    vectors = tmp_path / "vectors.txt"
    if content:
        vectors.write_text(content)
    words = {**LABELS, "input": {"kind": "words"}}
    values = recipe(rows, "table", words, "classification").as_dict()
    values["model"] |= {"vectors": str(vectors), "embedding_size": 2}
    with pytest.raises(UserError, match=said):
        preview(Recipe.from_dict("mine", values))
    vectors.write_text("text 0.1 0.2\n")
    assert preview(Recipe.from_dict("mine", values))


def test_a_reader_that_gives_another_kind_of_item(rows: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the reader gives texts, which the encoding pianoroll can't read"):
        preview(recipe(rows, "lines", {"kind": "pianoroll"}, "frame_model"))
    frames = {"kind": "pair", "input": {"kind": "frames"}, "target": {"kind": "labels"}}
    with pytest.raises(UserError):
        preview(recipe(rows, "table", frames, "classification"))


@pytest.mark.slow
def test_a_file_that_the_reader_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(b"no music at all")
    with pytest.raises(UserError):
        preview(recipe(str(path), "music", {"kind": "events"}, "language_model"))


def test_phrases_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "trees.txt").write_text("(4 (2 a) (4 film))\n" * 9)
    asked = recipe(str(tmp_path / "trees.txt"), "trees", LABELS, "classification", phrases=True)
    with pytest.raises(UserError, match=r"data\.phrases: phrases of one sentence would be in several splits"):
        preview(asked)


def test_a_task_that_reads_other_targets(rows: str) -> None:
    with pytest.raises(UserError, match=r"encoding\.target"):
        preview(recipe(rows, "table", LABELS, "regression"))


def test_a_reader_that_makes_its_data_is_given_no_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="moving-shapes makes its own data; video reads files"):
        recipe(str(tmp_path), "moving-shapes", LABELS, "classification")
