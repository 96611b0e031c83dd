"""What is to be predicted: labels are told by split, and what can't be learned or measured is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from components.datasets.giveaways import Giveaways
from components.datasets.ingest import ingest
from components.datasets.stand_ins import StandIns
from components.datasets.store import Store
from components.datasets.targets import Targets, told, unseen
from components.encodings.series import Series
from components.errors import UserError

LABELS = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}}
NUMBERS = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "frames"}}


def made(folder: Path, data: dict, encoding: dict = LABELS) -> dict:
    """The manifest."""
    ref = ingest(data, encoding, root=folder, cache_dir=folder / "cache", seed=0)
    return Store.open(ref.path).manifest


def table(folder: Path, name: str, rows: list[tuple[str, str]]) -> str:
    (folder / name).write_text("text,what\n" + "".join(f"{text},{what}\n" for text, what in rows), encoding="utf-8")
    return name


def test_labels_are_counted_by_split(tmp_path: Path) -> None:
    paths = {
        "train": table(tmp_path, "a.csv", [(f"x{n}", "wet" if n % 3 else "dry") for n in range(30)]),
        "test": table(tmp_path, "b.csv", [(f"y{n}", "wet" if n else "icy") for n in range(4)]),
    }
    manifest = made(tmp_path, {"path": paths, "reader": "table", "split": [1.0, 0.0, 0.0]})
    assert manifest["labels"] == {"train": {"wet": 20, "dry": 10}, "val": {}, "test": {"wet": 3, "icy": 1}}
    lines = told(manifest["labels"])
    assert lines[0] == "3 labels (train/test): wet 20/3 · dry 10/0 · icy 0/1"
    assert lines[1:] == [
        "warning: labels in test that don't occur in training: 1 of 2, 1 of 4 targets: icy",
        "1 of the 2 labels of train aren't in test: dry",
    ]
    assert unseen(manifest["labels"], "test") == "1 of 2, 1 of 4 targets: icy"
    assert unseen(manifest["labels"], "val") == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (lambda n, own: f"[{own}] x{n}", True),
        (lambda n, own: f"x{n}", False),
        (lambda n, own: f"wet or dry, x{n}", False),
        (lambda n, own: f"{own if n % 4 else ''} x{n}", False),
    ],
)
def test_texts_that_contain_their_own_label_are_told(text, told: bool) -> None:
    found = Giveaways()
    for n in range(40):
        own = ("Wet", "dry")[n % 3 == 0]
        found.add(text(n, own), own)
    notes = list(found.notes())
    assert ["40 of 40 texts of train contain their own label, as '[dry] x0'" in note for note in notes] == [True] * told


def test_labels_that_look_the_same_are_told(tmp_path: Path) -> None:
    names = ["wet", "Wet", "caf\u00e9", "cafe\u0301", "dry"]  # an accent within its letter, and behind it
    path = table(tmp_path, "a.csv", [(f"x{n}", names[n % 5]) for n in range(50)])
    (said,) = made(tmp_path, {"path": path, "reader": "table"})["notes"]
    assert said.startswith("warning: labels that differ only in case, blanks or signs are treated as different: ")
    assert "'Wet' and 'wet'" in said
    assert "'cafe\u0301' and 'caf\u00e9'" in said


def test_many_labels_are_told_in_a_line() -> None:
    labels = {"train": {f"l{n}": 100 - n for n in range(60)}, "val": {}, "test": {"l0": 3}}
    (line, *_) = told(labels)
    assert line.startswith("60 labels (train/test): l0 100/3 · l1 99/0")
    assert line.endswith(" · 50 more, the rarest l59 41")


@pytest.mark.parametrize("train_only", [False, True])
def test_one_class_is_refused_by_the_file_that_gave_it(tmp_path: Path, train_only: bool) -> None:
    path: object = table(tmp_path, "a.csv", [(f"x{n}", "same") for n in range(30)])
    if train_only:
        path = {"train": path, "test": table(tmp_path, "b.csv", [("u", "same"), ("v", "new")])}
    with pytest.raises(UserError, match=r"only one class.*'same'") as refused:
        made(tmp_path, {"path": path, "reader": "table"})
    assert "a.csv gave 'same'" in refused.value.what
    assert ("1 other label" in refused.value.what) == train_only
    assert "data.target" in refused.value.hint


def test_a_target_that_never_varies_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv", [(f"x{n}", "2.5") for n in range(30)])
    with pytest.raises(UserError, match=r"the target is 2\.5 in every item of train"):
        made(tmp_path, {"path": path, "reader": "table", "numbers": True}, NUMBERS)


def test_one_number_of_several_that_never_varies_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,a,b\n" + "".join(f"x{n},{n},7\n" for n in range(30)))
    data = {"path": "a.csv", "reader": "table", "numbers": True, "input": "t", "target": ["a", "b"]}
    assert any("1 of the 2 numbers to predict never vary" in note for note in made(tmp_path, data, NUMBERS)["notes"])


def test_tags_that_are_all_alike_are_told_and_go_on(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("\n\n".join(f"some O\nword{n} O" for n in range(20)))
    encoding = {"kind": "pair", "input": {"kind": "symbols"}, "target": {"kind": "labels"}}
    manifest = made(tmp_path, {"path": "a.conll", "reader": "conll"}, encoding)
    assert "every step of train has the same label, 'O'" in manifest["notes"]


@pytest.mark.parametrize("text", ["abcdefghijklmn", "abcdefghij"])
def test_a_stream_of_one_token_is_nothing_to_measure(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match="nothing is left to measure of val"):
        made(tmp_path, {"path": "a.txt", "reader": "text"}, {"kind": "characters"})
    made(tmp_path, {"path": "a.txt", "reader": "text", "split": [1.0, 0.0, 0.0]}, {"kind": "characters"})


def test_the_end_of_a_sequence_is_something_to_measure(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\nb\nc\n")
    assert made(tmp_path, {"path": "a.txt", "reader": "lines"}, {"kind": "characters"})["counts"]["val"]


def test_unseen_labels_are_none_of_an_unlabelled_dataset() -> None:
    assert told({}) == []
    assert unseen({}, "test") == ""


def test_labels_that_differ_in_case_alone_are_told() -> None:
    from types import SimpleNamespace

    targets = Targets(SimpleNamespace(form="labels"), stream=False)
    targets.whole = True
    targets.labels["train"].update(["Pos", "pos", "neg"])
    targets.measured = dict.fromkeys(targets.measured, 1)
    (note,) = targets.check(dict.fromkeys(targets.measured, True), {})
    assert "'Pos' and 'pos'" in note


def test_labels_that_differ_in_signs_that_are_not_seen_are_told() -> None:
    targets = Targets(SimpleNamespace(labels_of=lambda item: [item], form="labels"), stream=False)
    for label in ("wet", "wet\u200b", "\ufeffdry", "dry"):
        targets.labels["train"][label] += 1
    targets.whole = True
    assert "'wet' and 'wet\\u200b'" in targets._alike()[0]
    assert "'dry' and '\\ufeffdry'" in targets._alike()[0]


def test_numbers_that_stand_for_missing_values_are_told() -> None:
    found, other = StandIns(), StandIns()
    for step in range(6):
        window = np.array([[step, 400.0], [step + 1, -999.0 if step % 2 else 700.0]])
        found.add((window, [-999.0 if step == 3 else 1.5]))  # once is none
        other.add((np.abs(window), "up"))
    (note,) = found.notes()  # 3 of 6 windows
    assert note.startswith("warning: -999 occurs 3 times among the inputs in column 2; others range from 400 to 700")
    assert not other.notes(), "999 lies as near to 700 as 400 does"
    series = StandIns()
    series.add(Series("a", np.arange(4), np.array([1.0, 9999.0, 2.0, 9999.0]), np.zeros((4, 0)), "D", 7, 1))
    assert "9999 occurs 2 times among the values" in series.notes()[0]


def test_one_value_far_from_all_others_is_told() -> None:
    found, even = StandIns(), StandIns()
    for step in range(9):
        window = np.array([[step, 400.0], [step + 1, 1e12 if step == 4 else 401.5]])
        found.add((window, [-3e7 if step == 7 else step]))
        even.add((window[:, :1], [1e12 if step == 4 else 1.0]))  # all others alike: they have no range
    assert found.notes() == [
        "warning: one of the inputs in column 2 is 1e+12; the others range from 400 to 401.5",
        "warning: one of the targets is -3e+07; the others range from 0 to 8",
    ]
    assert not even.notes()


def test_inputs_that_are_their_own_targets_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("de,en\n" + "".join(f"w{n},w{n}\n" for n in range(20)), encoding="utf-8")
    encoding = {"kind": "pair", "input": {"kind": "words"}, "target": {"kind": "words"}}
    manifest = made(tmp_path, {"path": "a.csv", "reader": "table"}, encoding)
    assert "warning: 16 of 16 inputs of train are the same as their targets" in manifest["notes"]


def test_texts_with_several_labels_are_told(tmp_path: Path) -> None:
    rows = [(f"x{n % 20}", ["wet", "dry"][n // 20 if n % 2 else 0]) for n in range(40)]
    (said,) = made(tmp_path, {"path": table(tmp_path, "a.csv", rows), "reader": "table"})["notes"]
    assert said == "warning: 7 of the 17 texts of train have several labels"
    rows = [(f"x{n}", ["wet", "dry"][n % 2]) for n in range(40)]
    data = {"path": table(tmp_path, "b.csv", [*rows, ("x0", "dry")]), "reader": "table", "split": [0.9, 0.05, 0.05]}
    (said,) = made(tmp_path, data)["notes"]
    assert said == "1 of the 36 texts of train has several labels"
