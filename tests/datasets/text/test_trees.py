"""Trees in Penn brackets: every phrase and its sentiment, damaged lines, and phrases only where training is."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.ingest import ingest
from components.datasets.store import SPLITS, Store
from components.datasets.text.trees import DEEPEST, TreesReader, parse
from components.errors import UserError

FILM = "(4 (2 a) (4 (4 wonderful) (2 film)))"
DULL = "(1 (2 (2 A) (2 film)) (0 (2 so) (0 dull)))"
PLAIN = "(2 (2 A) (2 film))"
PAIR = {"kind": "pair", "input": {"kind": "tokens"}, "target": {"kind": "labels"}}


def read(path: Path, *trees: str, split: str | None = "train", **options) -> tuple[list, dict[str, int]]:
    path.write_text("".join(f"{tree}\n" for tree in trees), encoding="utf-8")
    reader = TreesReader([path], **options)
    reader.split = split
    items = list(reader.items())
    assert items == list(reader.items()), "it may be read again"
    return items, dict(reader.dropped)


def test_a_tree_is_its_sentence_and_its_sentiment(tmp_path) -> None:
    assert read(tmp_path / "t", FILM, DULL) == ([("a wonderful film", "5"), ("A film so dull", "2")], {})
    (tmp_path / "t.gz").write_bytes(gzip.compress(f"{FILM}\r\n\r\n{DULL}".encode()))
    reader = TreesReader([tmp_path / "t.gz"])
    assert [label for _, label in reader.items()] == ["5", "2"]
    assert reader.dropped == {"empty line": 1}


def test_every_node_of_training_is_an_example_and_a_repeated_phrase_isnt(tmp_path) -> None:
    items, dropped = read(tmp_path / "t", FILM, DULL, PLAIN, phrases=True)
    assert items == [
        ("a wonderful film", "5"), ("a", "3"), ("wonderful film", "5"), ("wonderful", "5"), ("film", "3"),
        ("A film so dull", "2"), ("A film", "3"), ("so dull", "1"), ("so", "3"), ("dull", "1"),
        ("A film", "3"),  # a sentence stays, though it is a phrase too
    ]  # fmt: skip
    assert dropped == {"repeated phrase": 4}
    for split in ("val", "test"):
        assert len(read(tmp_path / "t", FILM, DULL, PLAIN, phrases=True, split=split)[0]) == 3


def test_of_two_classes_what_is_neutral_is_left_out(tmp_path) -> None:
    assert read(tmp_path / "t", FILM, DULL, PLAIN, classes=2) == (
        [("a wonderful film", "positive"), ("A film so dull", "negative")],
        {"neutral": 1},
    )
    items, _ = read(tmp_path / "t", PLAIN, "(2 (3 nice) (1 try))", classes=2, phrases=True)
    assert items == [("nice", "positive"), ("try", "negative")], "of a neutral sentence, the phrases that aren't"


def test_signs_are_written_as_usual(tmp_path) -> None:
    tree = "(2 (2 ``) (2 (2 -LRB-) (2 (2 8\u00a01\\/2) (2 (2 -RRB-) (2 (2 d\\*\\*n) (2 ''))))))"
    assert read(tmp_path / "t", tree)[0] == [('" ( 8\u00a01/2 ) d**n "', "3")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a film", "character 1: isn't a tree"),
        ("(2 a", "1 brackets aren't closed"),
        ("(2 a))", "character 6: there is text after the end"),
        ("(2 a) (2 b)", "character 7: there is text after the end"),
        ("(5 a)", "must begin with a sentiment from 0 to 4"),
        ("(good a)", "must begin with a sentiment"),
        ("((2 a))", "must begin with a sentiment"),
        ("(", "must begin with a sentiment"),
        ("(2 )", "character 4: a node has no word"),
        ("(2 (3 ))", "a node has no word"),
        ("(2 a b)", "character 6: a node must have either one word"),
        ("(2 a (2 b))", "a word and another node"),
        ("(2 (2 b) a)", "a node must have either one word"),
        (")", "isn't a tree"),
        ("(2 " * (DEEPEST + 1), f"nodes are nested more than {DEEPEST:,} deep"),
        ("(2 " * 1_000_000, "more than"),
    ],
)
def test_a_line_that_is_no_tree_is_refused_with_its_place(tmp_path, line, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / "t", FILM, line)
    assert f"{tmp_path / 't'}: line 2, character " in str(caught.value)


def test_deep_and_long_trees_are_read_or_left_out(tmp_path) -> None:
    deep = "(2 " * (DEEPEST - 1) + "(3 a)" + ")" * (DEEPEST - 1)
    items, dropped = read(tmp_path / "t", deep, phrases=True)
    assert items == [("a", "3"), ("a", "4")]
    assert dropped == {"repeated phrase": DEEPEST - 2}
    assert read(tmp_path / "t", FILM, f"(2 {'(2 a)' * 4})", max_length=3)[1] == {"longer than 3 words": 1}


def nested(children):
    return st.tuples(st.sampled_from("01234"), st.lists(children, min_size=1, max_size=4))


WORDS = st.text(st.characters(codec="utf-8", exclude_characters=" \t\r\n()`'-\\/*"), min_size=1)
TREES = st.recursive(st.tuples(st.sampled_from("01234"), WORDS), nested, max_leaves=20)


def written(tree) -> str:
    sentiment, inside = tree
    return f"({sentiment} {inside if isinstance(inside, str) else ' '.join(map(written, inside))})"


def nodes(tree) -> list[tuple[int, list[str]]]:
    sentiment, inside = tree
    below = [] if isinstance(inside, str) else [nodes(child) for child in inside]
    words = [inside] if isinstance(inside, str) else [word for child in below for word in child[0][1]]
    return [(int(sentiment), words), *(node for child in below for node in child)]


@given(TREES)
def test_what_is_written_is_read_node_by_node(tree) -> None:
    words, found = parse(written(tree), "here")
    assert [(node.sentiment, words[node.start : node.end]) for node in found] == nodes(tree)


@given(st.text(alphabet="(() 0123a\t"))
def test_any_line_is_a_tree_or_refused(line) -> None:
    try:
        words, found = parse(line, "here")
    except UserError:
        return
    assert all(0 <= node.start < node.end <= len(words) for node in found)
    assert found[0].end == len(words)


def test_sentences_to_be_answered_are_plain_or_trees(tmp_path) -> None:
    (tmp_path / "new.txt").write_text(f"a film to remember\n(so they say)\n{FILM}\n\n", encoding="utf-8")
    rows = list(TreesReader([tmp_path / "new.txt"], phrases=True).inputs())
    assert [row.input for row in rows if not row.problem] == ["a film to remember", "(so they say)", "a wonderful film"]
    assert [row.problem for row in rows][-1] == "empty line"


def folder_of(root: Path, splits: tuple[str, ...] = SPLITS) -> dict[str, str]:
    for split in splits:
        (root / f"{split}.txt").write_text(f"{FILM}\n{DULL}\n{PLAIN}\n", encoding="utf-8")
    return {split: str(root / f"{split}.txt") for split in splits}


def test_phrases_are_of_training_alone(tmp_path) -> None:
    data = {"path": folder_of(tmp_path), "reader": "trees", "phrases": True}
    store = Store.open(ingest(data, PAIR, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path)
    assert [store.manifest["counts"][split]["sequences"] for split in SPLITS] == [11, 3, 3]


@pytest.mark.parametrize(
    "data",
    [
        {"path": "train.txt"},
        {"path": {"train": "train.txt", "test": "test.txt"}},
        {"path": {split: f"{split}.txt" for split in SPLITS}, "fold": "1/3"},
    ],
)
def test_phrases_of_a_sentence_are_never_dealt_out_to_several_splits(tmp_path, data) -> None:
    folder_of(tmp_path)
    with (tmp_path / "train.txt").open("a", encoding="utf-8") as file:
        file.writelines(f"({number % 5} {number})\n" for number in range(30))
    asked = {"reader": "trees", "phrases": True, **data}
    with pytest.raises(UserError, match=r"data\.phrases: phrases of one sentence would be in several splits"):
        ingest(asked, PAIR, root=tmp_path, cache_dir=tmp_path / "c", seed=0)
    ingest({**asked, "phrases": False}, PAIR, root=tmp_path, cache_dir=tmp_path / "c", seed=0)


def test_without_validation_data_phrases_may_be_trained_on(tmp_path) -> None:
    paths = folder_of(tmp_path, ("train", "test"))
    data = {"path": paths, "reader": "trees", "phrases": True, "split": [0.8, 0.0, 0.2]}
    store = Store.open(ingest(data, PAIR, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path)
    assert [store.manifest["counts"][split]["sequences"] for split in SPLITS] == [11, 0, 3]
