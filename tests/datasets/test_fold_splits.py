"""K-fold cross-validation: every sequence is tested exactly once, folds are alike, groups stay together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.base import Reader
from components.datasets.folds import deal, fold_fractions, fold_split, parse_fold
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.encodings.pair import Pair
from components.errors import UserError


class Listed(Reader):
    """Items (text, label); what stands before the colon is the group."""

    framing, pairs = "sequences", True

    def __init__(self, rows: list[tuple[str, str]]) -> None:
        super().__init__([])
        self.rows = rows

    def items(self) -> Any:
        return iter(self.rows)

    def group(self, item: tuple[str, str]) -> str | None:
        return item[0].split(":")[0] if ":" in item[0] else None


def split(rows: list[tuple[str, str]], fold: tuple[int, int], val: float = 0.1, seed: int = 0) -> dict[str, list]:
    encoding = Pair(input={"kind": "symbols"}, target={"kind": "labels"})
    half = len(rows) // 2
    readers = {"train": Listed(rows[:half]), "test": Listed(rows[half:])}
    found: dict[str, list] = {"train": [], "val": [], "test": []}
    for part, item in fold_split(readers, encoding, fold_fractions([1 - val, val, 0.0], fold[1]), seed, fold)():
        found[part].append(item)
    return found


@given(st.lists(st.sampled_from("abc"), min_size=14, max_size=90), st.integers(2, 7), st.integers(0, 9))
def test_folds_partition_the_data_and_are_alike_in_size_and_labels(labels, folds, seed) -> None:
    rows = [(f"text {number}", label) for number, label in enumerate(labels)]
    parts = [split(rows, (fold, folds), seed=seed) for fold in range(1, folds + 1)]
    assert sorted(row for part in parts for row in part["test"]) == sorted(rows), "each is tested once"
    for part in parts:
        assert sorted(part["train"] + part["val"] + part["test"]) == sorted(rows), "each is in one split"
        assert part["train"]
        assert part["val"]
        assert abs(len(part["val"]) - 0.1 * (len(rows) - len(part["test"]))) <= 1
    counts = [Counter(label for _, label in part["test"]) for part in parts]
    for label in "abc":
        numbers = [count[label] for count in counts]
        assert max(numbers) - min(numbers) <= 1
    sizes = [len(part["test"]) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert split(rows, (1, folds), seed=seed) == parts[0], "the same seed gives the same folds"


@given(st.lists(st.tuples(st.integers(0, 11), st.sampled_from("ab")), min_size=30, max_size=60), st.integers(2, 4))
def test_a_group_is_on_one_side_even_across_the_files_of_a_given_split(rows, folds) -> None:
    named = [(f"{group}: {number}", label) for number, (group, label) in enumerate(rows)]
    groups = {row[0].split(":")[0] for row in named}
    if len(groups) < folds + 2:
        return
    tested = []
    for fold in range(1, folds + 1):
        part = split(named, (fold, folds))
        sides = [{text.split(":")[0] for text, _ in part[name]} for name in ("train", "val", "test")]
        assert sum(map(len, sides)) == len(groups) == len(set.union(*sides))
        assert all(sides)
        tested += part["test"]
    assert sorted(tested) == sorted(named)


def test_another_seed_gives_other_folds_and_large_groups_are_evened_out() -> None:
    rows = [(f"text {number}", "ab"[number % 2]) for number in range(40)]
    assert split(rows, (1, 5), seed=0)["test"] != split(rows, (1, 5), seed=1)["test"]
    sizes = np.array([10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    fold_of = deal(sizes, [""] * len(sizes), 2, np.random.default_rng(0))
    assert np.bincount(fold_of, sizes).tolist() == [10, 10]
    assert not split(rows, (1, 5), val=0.0)["val"], "a recipe without val has none in its folds"


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "3", "a/b", "1/5000", "-1/5", "1/5 "])
def test_what_is_no_fold_is_refused(text) -> None:
    with pytest.raises(UserError, match="isn't a fold"):
        parse_fold(text)


def test_too_few_sequences_and_data_in_an_order_of_their_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 different sequences can't be split into 4 folds"):
        split([("a", "x"), ("b", "x"), ("c", "y")], (1, 4))
    with pytest.raises(UserError, match="and val"):
        split([("a", "x"), ("b", "y")], (1, 2))
    (tmp_path / "text.txt").write_text("one two three " * 50)
    data = {"path": str(tmp_path / "text.txt"), "fold": "1/2"}
    with pytest.raises(UserError, match="which is split in order"):
        ingest(data, {"kind": "characters"}, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    (tmp_path / "sales.csv").write_text("day,sales\n" + "\n".join(f"{n},{n % 7}" for n in range(60)))
    data = {"path": str(tmp_path / "sales.csv"), "reader": "series-windows", "length": 3, "columns": "sales"}
    encoding = {"kind": "pair", "input": {"kind": "frames"}, "target": {"kind": "frames"}}
    with pytest.raises(UserError, match="split by time"):
        ingest({**data, "fold": "1/2"}, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)


def test_folds_are_over_all_the_files_of_a_given_split(tmp_path: Path) -> None:
    for part, numbers in (("train", range(20)), ("test", range(20, 30))):
        lines = [f"{'x' * (n + 1)},{'ab'[n % 2]}" for n in numbers]
        (tmp_path / f"{part}.csv").write_text("\n".join(["text,label", *lines]))
    data = {"path": {part: str(tmp_path / f"{part}.csv") for part in ("train", "test")}, "reader": "table"}
    encoding = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}}
    tests = []
    for fold in ("1/3", "2/3", "3/3"):
        about = {**data, "split": [0.8, 0.2, 0.0], "fold": fold}
        ref = ingest(about, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
        store = Store.open(ref.path)
        counts = {name: count["sequences"] for name, count in store.manifest["counts"].items()}
        assert counts == {"train": 16, "val": 4, "test": 10}
        assert store.manifest["labels"]["test"] == {"a": 5, "b": 5}
        note = f"fold {fold[0]} of 3 is test, the other folds are train and val"
        assert any(note in one and "isn't used" in one for one in store.manifest["notes"])
        decode = store.encoding().input.decode
        tests += [decode(one["input"]) for one in store.split("test")]
    assert sorted(tests) == ["x" * (n + 1) for n in range(30)]
