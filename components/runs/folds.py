"""The result of K-fold cross-validation: test metrics over the folds, and one confusion matrix of all folds."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.console import out, table
from components.evaluation import report
from components.evaluation.baseline import is_baseline
from components.evaluation.compare import Row, plus_minus
from components.render.figures import figure, markdown_table
from components.runs.places import places
from components.tasks.base import Matrix
from components.tasks.classification import UNSEEN, confusion_matrix
from components.tracking.mlflow_backend import MlflowRun

MOST_SHOWN = 8  # labels of a confusion matrix in the terminal


def over_folds(row: Row) -> dict[str, list[float]]:
    """The test metrics of a setting, by name without "test/": the values of its finished folds, in order."""
    names = dict.fromkeys(name for result in row.finished for name in result.metrics if name.startswith("test/"))
    return {
        name.removeprefix("test/"): [result.metrics.get(name, math.nan) for result in row.finished]
        for name in names
        if not is_baseline(name)
    }


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n − 1) of the finite values; NaN if there are too few."""
    there = [value for value in values if math.isfinite(value)]
    mean = statistics.fmean(there) if there else math.nan
    return mean, statistics.stdev(there) if len(there) > 1 else math.nan


def pooled(row: Row) -> Matrix | None:
    """The sum of the confusion matrices of a setting's finished folds; None if the task has none."""
    files = [places().run_folder(result.run_id) / "confusion.json" for result in row.finished]
    return add_up([file for file in files if file.exists()])


def add_up(files: Sequence[Path]) -> Matrix | None:
    """The sum of confusion matrices in files, by label names: a rare label may be missing in some of them."""
    counts: Counter[tuple[str, str]] = Counter()
    for file in files:
        cells = json.loads(file.read_text(encoding="utf-8"))
        for label, predicted, count in zip(cells["label"], cells["predicted"], cells["count"], strict=True):
            counts[label, predicted] += count
    if not counts:
        return None
    found = sorted({name for pair in counts for name in pair} - {UNSEEN})
    labels = [*found, UNSEEN] if any(label == UNSEEN for label, _ in counts) else found
    numbers = np.array([[counts[label, predicted] for predicted in found] for label in labels], dtype=float)
    return confusion_matrix(numbers, labels, found)


def publish_folds(name: str, folds: int, parent: MlflowRun, folder: Path, rows: Sequence[Row]) -> str:
    """Write the metrics over the folds and the confusion matrices to the parent run; returns them as Markdown."""
    parent.table(_columns(rows, folds), "folds.json")
    words = []
    for rank, row in enumerate(rows, 1):
        figures = {metric: mean_sd(values) for metric, values in over_folds(row).items()}
        if rank == 1:
            parts = {"test": [mean for mean, _ in figures.values()], "test_sd": [sd for _, sd in figures.values()]}
            told = {
                f"{part}/{metric}": v for part, each in parts.items() for metric, v in zip(figures, each, strict=True)
            }
            parent.metrics({key: value for key, value in told.items() if math.isfinite(value)})
        words += [f"**{row.label}**, test, {_how_many(row)}:", markdown_table(*_cells(row))]
        if matrix := pooled(row):
            place = f"confusion-{rank}" if len(rows) > 1 else "confusion"
            title = f"{name}{f', {row.label}' if len(rows) > 1 else ''}: {matrix.title}, {_how_many(row)} together"
            picture = folder / f"{place}.png"
            report.write_matrix(picture, Matrix(**{**vars(matrix), "title": title}))
            parent.file(picture, "figures")
            parent.table(report.cell_counts(matrix), f"{place}.json")
            words.append(f"Confusion matrix of all folds: `figures/{place}.png`, `{place}.json`.")
    return "\n\n".join(words)


def show_folds(rows: Sequence[Row]) -> None:
    """Print the test metrics over the folds, and the confusion matrices of few labels."""
    for row in rows:
        if not row.finished:
            continue
        out.print()
        table(f"{row.label}: test, {_how_many(row)}", *_cells(row))
        matrix = pooled(row)
        if matrix and len(matrix.columns) <= MOST_SHOWN:
            out.print()
            title = f"{row.label}: rows are labels, columns predictions, {_how_many(row)} together"
            lines = zip(matrix.rows, matrix.counts.astype(int).tolist(), strict=True)
            counts = [[label, *(f"{count:,}" for count in line)] for label, line in lines]
            table(title, ["", *matrix.columns], counts)


def _how_many(row: Row) -> str:
    some = f"{len(row.finished)} of " if len(row.finished) < len(row.results) else ""
    return f"{some}{len(row.results)} folds"


def _cells(row: Row) -> tuple[list[str], list[list[str]]]:
    shown = []
    for metric, values in over_folds(row).items():
        there = [value for value in values if math.isfinite(value)] or [math.nan]
        some = f" ({len(there)} folds)" if len(there) < len(values) else ""  # ROC AUC is undefined for one label
        shown.append([metric + some, plus_minus(*mean_sd(values)), figure(min(there)), figure(max(there))])
    return ["metric", "mean ± sd", "least", "greatest"], shown


def _columns(rows: Sequence[Row], folds: int) -> dict[str, list[object]]:
    """A line for each setting and metric."""
    lines = [(row, metric, values) for row in rows for metric, values in over_folds(row).items()]
    columns: dict[str, list[object]] = {
        "setting": [row.label for row, _, _ in lines],
        "metric": [metric for _, metric, _ in lines],
        "mean": [mean_sd(values)[0] for _, _, values in lines],
        "sd": [mean_sd(values)[1] for _, _, values in lines],
    }
    for number in range(1, folds + 1):
        own = [{r.fold: r.metrics for r in row.results}.get(f"{number}/{folds}", {}) for row, _, _ in lines]
        columns[f"fold {number}"] = [of.get(f"test/{m}", math.nan) for of, (_, m, _) in zip(own, lines, strict=True)]
    return columns
