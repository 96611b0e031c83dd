"""What a model is worth: its primary figure beside that of answers which don't look at the input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from components.datasets.store import Store
from components.render.figures import figure
from components.tasks.base import Task

PREFIX = "baseline/"


@dataclass(frozen=True)
class Baseline:
    """The strongest of a task's baselines on the split that judges: `split` is test, or val where there is no test."""

    name: str
    value: float
    split: str

    def verdict(self, value: float, lower: bool) -> str:
        """In words, where a model with this figure isn't better; else ""."""
        if value == self.value:
            return f"no better than {self}"
        return f"worse than {self}" if (value > self.value) == lower else ""

    def __str__(self) -> str:
        return f"the baseline “{self.name}” ({figure(self.value)})"


def judging(metrics: Mapping[str, float], primary: str) -> str:
    """The split whose figure judges a model: test where it was measured, else val; "" of neither."""
    return next((split for split in ("test", "val") if f"{split}/{primary}" in metrics), "")


def baseline_metrics(task: Task, store: Store, metrics: Mapping[str, float]) -> dict[str, float]:
    """The task's baselines on the split that judges, "baseline/test/unigram"."""
    split = judging(metrics, task.primary)
    if not split:
        return {}
    found = task.baselines(store.split("train"), store.split(split))
    if columns := store.manifest.get("continues"):
        found |= task.persistence(store.split(split), columns)
    return {f"{PREFIX}{split}/{name}": value for name, value in found.items() if math.isfinite(value)}


def strongest(metrics: Mapping[str, float], lower: bool) -> Baseline | None:
    """Of the metrics that a run ended with."""
    found = [Baseline(key.split("/", 2)[2], v, key.split("/")[1]) for key, v in metrics.items() if is_baseline(key)]
    return (min if lower else max)(found, key=lambda one: one.value, default=None)


def is_baseline(key: str) -> bool:
    """Is the metric a baseline's, not the model's?"""
    return key.startswith(PREFIX)
