"""Baselines: a model's primary metric compared with predictors that ignore the input."""

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
    """The strongest of a task's baselines. `split` is test, or val if there is no test data."""

    name: str
    value: float
    split: str

    def verdict(self, value: float, lower: bool) -> str:
        """A sentence if a model with this value isn't better than the baseline, else ""."""
        if value == self.value:
            return f"no better than {self}"
        return f"worse than {self}" if (value > self.value) == lower else ""

    def __str__(self) -> str:
        return f"the baseline “{self.name}” ({figure(self.value)})"


def judging(metrics: Mapping[str, float], primary: str) -> str:
    """The split that decides: test if measured, else val; "" if neither was."""
    return next((split for split in ("test", "val") if f"{split}/{primary}" in metrics), "")


def baseline_metrics(task: Task, store: Store, metrics: Mapping[str, float]) -> dict[str, float]:
    """The task's baselines on the deciding split, named "baseline/test/unigram"."""
    split = judging(metrics, task.primary)
    if not split:
        return {}
    found = task.baselines(store.split("train"), store.split(split))
    if columns := store.manifest.get("continues"):
        found |= task.persistence(store.split(split), columns)
    return {f"{PREFIX}{split}/{name}": value for name, value in found.items() if math.isfinite(value)}


def strongest(metrics: Mapping[str, float], lower: bool) -> Baseline | None:
    """The strongest baseline among a run's final metrics."""
    found = [Baseline(key.split("/", 2)[2], v, key.split("/")[1]) for key, v in metrics.items() if is_baseline(key)]
    return (min if lower else max)(found, key=lambda one: one.value, default=None)


def is_baseline(key: str) -> bool:
    """Whether the metric belongs to a baseline."""
    return key.startswith(PREFIX)
