"""data.join_val: val becomes part of train, and test stays what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.errors import UserError
from components.schema import check_together

TEXTS = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}}


def rows(numbers: range) -> str:
    return "\n".join(["text,label", *(f"{'x' * (n + 1)}{'y' * (n % 3)},{'ab'[n % 2]}" for n in numbers)])


def stored(folder: Path, data: dict[str, Any], encoding: dict[str, Any]) -> Store:
    return Store.open(ingest(data, encoding, root=folder, cache_dir=folder / "cache", seed=3).path)


def items(store: Store, *splits: str) -> list[str]:
    return sorted(str({name: ids.tolist() for name, ids in one.items()}) for of in splits for one in store.split(of))


@pytest.mark.parametrize("way", ["files", "fractions", "folds"])
def test_every_way_to_split(way: str, tmp_path: Path) -> None:
    parts = {"train": range(20), "val": range(20, 26), "test": range(26, 32)}
    for part, numbers in parts.items():
        (tmp_path / f"{part}.csv").write_text(rows(numbers))
    (tmp_path / "all.csv").write_text(rows(range(32)))
    data: dict[str, Any] = {"reader": "table", "path": str(tmp_path / "all.csv"), "split": [0.5, 0.25, 0.25]}
    if way == "files":
        data["path"] = {part: str(tmp_path / f"{part}.csv") for part in parts}
    elif way == "folds":
        data["fold"] = "2/4"
    apart, joined = stored(tmp_path, data, TEXTS), stored(tmp_path, {**data, "join_val": True}, TEXTS)
    assert len(apart.split("val")) > 0
    assert len(joined.split("val")) == 0
    assert len(joined.split("train")) == len(apart.split("train")) + len(apart.split("val"))
    assert items(joined, "test") == items(apart, "test")
    assert items(joined, "train") == items(apart, "train", "val")
    assert any("val is part of train" in note for note in joined.manifest["notes"])


def test_a_text_goes_on_where_val_began(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcdefghij" * 10)
    data = {"path": str(tmp_path / "text.txt"), "split": [0.6, 0.2, 0.2]}
    store = stored(tmp_path, {**data, "join_val": True}, {"kind": "characters"})
    decode = store.encoding().decode
    assert decode(store.split("train").tokens) == "abcdefghij" * 8
    assert decode(store.split("test").tokens) == "abcdefghij" * 2


@pytest.mark.parametrize("files", [False, True])
def test_no_step_of_a_series_is_twice_in_train(files: bool, tmp_path: Path) -> None:
    for name, days in {"all": range(1, 29), "train": range(1, 20), "val": range(20, 24), "test": range(24, 29)}.items():
        lines = "\n".join(f"2024-01-{day:02},{day % 5},{day % 3}" for day in days)
        (tmp_path / f"{name}.csv").write_text(f"date,a,b\n{lines}")
    path = {of: str(tmp_path / f"{of}.csv") for of in ("train", "val", "test")} if files else str(tmp_path / "all.csv")
    data = {"path": path, "reader": "series-table", "horizon": 2, "freq": "D"}
    apart, joined = (stored(tmp_path, {**data, "join_val": given}, {"kind": "series"}) for given in (False, True))
    assert len(apart.split("val")) == 2
    assert items(joined, "train") == items(apart, "val"), "val begins with the steps of train"
    assert items(joined, "test") == items(apart, "test")
    assert len(joined.encoding().series) == 2


def test_without_val_there_is_nothing_to_join(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text(rows(range(12)))
    data = {"path": str(tmp_path / "all.csv"), "reader": "table", "split": [0.5, 0.0, 0.5], "join_val": True}
    with pytest.raises(UserError, match="no val") as refused:
        stored(tmp_path, data, TEXTS)
    assert refused.value.where == "data.join_val"


def sections_of(**data: Any) -> dict[str, dict[str, Any]]:
    names = ("encoding", "task", "model", "generation", "training", "evaluation")
    own = {"dataset": None, "path": "mine.csv", "reader": "table", "split": (0.8, 0.1, 0.1), "join_val": False}
    return {**{name: {} for name in names}, "data": own | data}


NEEDING = {"patience": 2, "schedule": "plateau", "averaging": "triggered"}


def test_settings_that_need_val_are_refused() -> None:
    sections = sections_of(join_val=True) | {"training": {"patience": 0, "schedule": "cosine", "averaging": 0.99}}
    assert check_together(sections) == []
    sections |= {"training": NEEDING, "evaluation": {"cache": True}}
    told = [problem.partition(": ")[0] for problem in check_together(sections)]
    assert told == [*(f"training.{name}" for name in NEEDING), "evaluation.cache"]
    assert check_together({**sections, "data": {**sections["data"], "join_val": False}}) == []


def test_data_known_to_have_no_val_are_refused_before_they_are_read() -> None:
    none = {"path": None, "reader": "bases", "split": (0.8, 0.0, 0.2)}
    dna = sections_of(**none, dataset="uci-splice", join_val=True)
    assert "data.split has none" in "".join(check_together(dna))
    assert check_together(sections_of(**none, dataset="uci-splice")) == []
    for data in (none | {"dataset": "uci-splice"}, none | {"reader": "dates"}):
        told = check_together({**sections_of(**data), "training": NEEDING})
        assert [problem.partition(": ")[0] for problem in told] == [f"training.{name}" for name in NEEDING]
    for known in ({"dataset": "groove", "reader": "drums"}, {"dataset": None, "path": "mine.csv"}):
        assert check_together({**sections_of(**none | known), "training": NEEDING}) == []
