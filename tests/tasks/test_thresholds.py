"""Two classes: average precision and ROC AUC against known values and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.bundle import make_task
from components.datasets.store import Examples, Sequences
from components.encodings.pair import Pair
from components.evaluation.report import draw
from components.tasks.base import Thresholds
from components.tasks.thresholds import average_precision, precision_recall, roc, roc_auc


def test_known_values() -> None:
    scores, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])  # scikit-learn's example
    assert average_precision(scores, positive) == pytest.approx(0.8333333333)
    assert roc_auc(scores, positive) == pytest.approx(0.75)
    precision, recall = precision_recall(scores, positive)
    assert precision.tolist() == pytest.approx([1, 0.5, 2 / 3, 0.5])
    assert recall.tolist() == [0.5, 0.5, 1, 1]
    assert [each.tolist() for each in roc(scores, positive)] == [[0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1]]
    same = np.zeros(4)
    assert (average_precision(same, positive), roc_auc(same, positive)) == (0.5, 0.5), "one score is no knowledge"


SCORED = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)


@given(SCORED)
def test_roc_auc_is_the_chance_that_a_positive_is_above_a_negative(rows) -> None:
    scores, positive = np.array([score for score, _ in rows], float), np.array([is_one for _, is_one in rows])
    if positive.all() or not positive.any():
        assert math.isnan(roc_auc(scores, positive))
        return
    above = [np.sign(a - b) / 2 + 0.5 for a in scores[positive] for b in scores[~positive]]
    assert roc_auc(scores, positive) == pytest.approx(np.mean(above))
    expected, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        said = scores >= threshold
        recall = (said & positive).sum() / positive.sum()
        expected += (recall - before) * (said & positive).sum() / said.sum()
        before = recall
    assert average_precision(scores, positive) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [["no", "yes"], ["a", "b", "c"]])
def test_a_model_of_two_classes_has_threshold_metrics_and_a_picture(labels, tmp_path) -> None:
    items = [(word * 3, labels[n % len(labels)]) for n, word in enumerate("stuvwxyz")]
    encoding = Pair(input={"kind": "characters"}, target={"kind": "labels"})
    encoding.fit(items)
    task = make_task({"kind": "classification"}, encoding, "sequences")
    torch.manual_seed(0)
    model = task.build_model({"kind": "gru", "hidden_size": 4})
    arrays = [encoding.encode(item) for item in items]
    fields = {}
    for name in ("input", "target"):
        steps = [each[name] for each in arrays]
        fields[name] = Sequences(np.concatenate(steps), np.cumsum([0, *map(len, steps)]))
    split = Examples(fields)
    found = {one.name: one for one in task.findings(model, split)}
    metrics = task.final_metrics(model, split)
    if len(labels) > 2:
        assert not metrics
        assert "thresholds" not in found
        return
    thresholds = found["thresholds"]
    assert isinstance(thresholds, Thresholds)
    assert thresholds.positive == "yes"
    answers = task.predict(model, [text for text, _ in items])
    sure = np.array([p["probability"] if p["label"] == "yes" else 1 - p["probability"] for p in answers])
    positive = np.array([label == "yes" for _, label in items])
    assert metrics == pytest.approx(
        {"average_precision": average_precision(sure, positive), "roc_auc": roc_auc(sure, positive)}
    )
    assert roc_auc(thresholds.scores, thresholds.is_positive) == pytest.approx(metrics["roc_auc"])
    draw(thresholds, encoding, tmp_path / "thresholds.png")
    assert Image.open(tmp_path / "thresholds.png").size[0] > 1000
    one_class = Examples(
        {name: Sequences(field.tokens[: field.offsets[1]], field.offsets[:2]) for name, field in fields.items()}
    )
    assert "roc_auc" not in task.final_metrics(model, one_class)
