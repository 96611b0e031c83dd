"""Every task says what answers reach that ignore the input; splits with nothing in them are judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from components.bundle import make_task
from components.datasets.store import Examples, Sequences
from components.encodings.pair import Pair
from components.evaluation import report
from components.evaluation.baseline import baseline_metrics, judging, strongest
from components.evaluation.evaluator import Evaluator
from components.registry import names, resolve
from components.tasks.base import Table, Task
from components.tracking.promotion import decide, promotion_tags

SYMBOLS, LABELS, CHARACTERS, FRAMES = ({"kind": kind} for kind in ("symbols", "labels", "characters", "frames"))
ROW = np.eye(3)[[0, 1, 2, 1, 0, 2, 1, 0]]
# task: (options, input, target, training items, test items, its strongest baseline)
CASES: dict[str, tuple] = {
    "classification": ({}, SYMBOLS, LABELS, [("a", "x"), ("b", "x"), ("c", "y")], [("a", "x"), ("b", "y")], 0.5),
    "tagging": ({}, SYMBOLS, LABELS, [("a b", "x y"), ("a", "x")], [("a b", "x x"), ("b", "y")], 2 / 3),
    "tagging iob": ({"scheme": "iob"}, SYMBOLS, LABELS, [("a b", "O B-p")], [("b a", "B-p O")], 1.0),
    "regression": ({}, FRAMES, FRAMES, [(ROW, [1.0]), (ROW, [3.0])], [(ROW, [4.0])], 4.0),
    "translation": (
        {},
        CHARACTERS,
        CHARACTERS,
        [("a b c d e", "a b c d e"), ("b", "e d"), ("a", "e d")],
        [("a b c d e", "a b c d e")],
        100.0,
    ),
    "translation exact": ({"primary": "exact"}, CHARACTERS, CHARACTERS, [("a", "z")], [("a", "z"), ("b", "a")], 0.5),
    "translation nats": ({"primary": "nats_per_token"}, CHARACTERS, CHARACTERS, [("a", "a")], [("a", "a")], 0.91629),
    "transcription": ({}, FRAMES, CHARACTERS, [(ROW, "ab"), (ROW, "ab")], [(ROW, "ab"), (ROW, "cc")], 0.5),
}


def side(section: dict, value: Any) -> Any:
    words = isinstance(value, str) and " " in value and section is LABELS
    return value.split() if words or (section is SYMBOLS and isinstance(value, str)) else value


def pairs(case: str) -> tuple[Task, list, list]:
    options, one, other, train, test, _ = CASES[case]
    tags = case.startswith("tagging")
    made = [[(side(one, a), b.split() if tags else side(other, b)) for a, b in items] for items in (train, test)]
    encoding = Pair(input=one, target=other)
    encoding.fit(made[0])
    return make_task({"kind": case.split()[0], **options}, encoding, "sequences"), *made


def split(encoding: Pair, items: Sequence[Any]) -> Examples:
    rows = [encoding.encode(item) for item in items]
    fields = {}
    for name, field in encoding.fields.items():
        arrays = [row[name] for row in rows]
        empty = np.zeros((0, field.width)) if field.width else np.zeros(0, dtype=np.int64)
        offsets = np.cumsum([0, *map(len, arrays)])
        steps = np.concatenate([empty, *arrays]).astype(np.float32 if field.frames else np.uint16)
        fields[name] = Sequences(steps, offsets)
    return Examples(fields)


@pytest.mark.parametrize("case", CASES)
def test_a_baseline_in_the_tasks_own_figure(case: str) -> None:
    task, train, test = pairs(case)
    found = task.baselines(split(task.encoding, train), split(task.encoding, test))
    assert all(re.fullmatch(r"[\w.\- :]+", name) for name in found), "names of figures in MLflow"
    best = (min if task.lower_is_better else max)(found.values())
    assert best == pytest.approx(CASES[case][-1], rel=1e-4)
    assert task.baselines(split(task.encoding, train), split(task.encoding, [])) in ({}, pytest.approx({}))


def test_a_task_without_baselines_is_none() -> None:
    tasks = [resolve("task", kind) for kind in names("task")]
    assert len(tasks) >= 7
    for task in tasks:
        assert "baselines" not in task.__abstractmethods__, task
    assert "baselines" in Task.__abstractmethods__


class _Store:
    manifest: ClassVar[dict] = {}

    def __init__(self, **splits: Examples) -> None:
        self.splits = splits

    def split(self, name: str) -> Examples:
        return self.splits[name]


def test_the_strongest_is_what_a_model_is_beside() -> None:
    task, train, test = pairs("classification")
    store = _Store(train=split(task.encoding, train), test=split(task.encoding, test), val=split(task.encoding, []))
    metrics = {"val/accuracy": 0.9, "test/accuracy": 0.25}
    metrics |= baseline_metrics(task, store, metrics)  # type: ignore[arg-type]
    assert metrics["baseline/test/commonest label"] == 0.5
    baseline = strongest(metrics, task.lower_is_better)
    assert (baseline.split, baseline.value) == ("test", 0.5)
    assert baseline.verdict(0.25, lower=False) == "worse than the baseline “commonest label” (0.5000)"
    assert baseline.verdict(0.5, lower=False).startswith("no better than")
    assert baseline.verdict(0.51, lower=False) == ""
    assert baseline.verdict(0.51, lower=True).startswith("worse")
    assert judging({"val/accuracy": 1.0}, "accuracy") == "val"
    assert judging({"val/other": 1.0}, "accuracy") == ""
    assert strongest({"test/accuracy": 1.0}, lower=False) is None


@pytest.mark.parametrize(
    ("value", "higher", "role"),
    [
        (0.4, True, "challenger"),
        (0.5, True, "challenger"),
        (0.6, True, "champion"),
        (0.4, False, "champion"),
        (0.5, False, "challenger"),
        (0.6, False, "challenger"),
    ],
)
def test_what_is_no_better_than_its_baseline_is_no_champion(value: float, higher: bool, role: str) -> None:
    tags = promotion_tags("test/f", value, "d", ("always x", 0.5))
    for champion in (None, promotion_tags("test/f", 0.0 if higher else 9.0, "d")):
        found, why = decide(tags, champion, higher_is_better=higher)
        assert found == role
        said = f"{'no better' if value == 0.5 else 'worse'} than the baseline “always x” (0.5)"
        assert (said in why) == (role == "challenger")


EMPTY = {
    "classification": [("a", "x")],
    "tagging": [("a", "x")],
    "tagging iob": [("a a", "O O")],
    "regression": [(ROW, [1.0])],
    "translation": [("ab", ""), ("", "ab")],
    "transcription": [(ROW, "")],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EMPTY)
def test_a_split_with_next_to_nothing_in_it_is_judged_and_drawn(case: str, tmp_path: Path) -> None:
    task, _, _ = pairs(case)
    items = [(side(CASES[case][1], a), b.split() if case.startswith("tagging") else b) for a, b in EMPTY[case]]
    if case == "translation":
        items = items[:1]
    held_out, kind = split(task.encoding, items), "gru"
    from components.options import check_options

    problems: list[str] = []
    options = check_options("model", {"hidden_size": 4}, task.model_kinds()[kind], problems)
    assert not problems
    model = task.build_model({**options, "kind": kind}).eval()
    metrics = Evaluator(task).evaluate(model, held_out)
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    assert np.isfinite(list(task.final_metrics(model, held_out).values())).all()
    for finding in task.findings(model, held_out):
        if isinstance(finding, Table):
            assert len({len(column) for column in finding.columns.values()}) == 1
        else:
            report.draw(finding, task.encoding, tmp_path / f"{finding.name}.png")


def test_spans_where_there_are_none() -> None:
    from components.tasks.tagging import types_table

    table = types_table([(["O", "O"], ["O", "O"])])
    assert table.columns == {"type": [], "precision": [], "recall": [], "f1": [], "right": [], "said": [], "there": []}
