"""Evaluation of the best weights on held-out data, with plots."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from components.console import say
from components.evaluation import report
from components.evaluation.baseline import baseline_metrics, is_baseline, strongest
from components.evaluation.gradients import READINGS, read_readings, write_gradient_picture
from components.models.weights import read_tensors
from components.render.figures import figure
from components.runs.open_run import OpenRun
from components.tasks.base import Matrix, Table
from components.training.session import Session


def evaluate(run: OpenRun) -> dict[str, float]:
    """The final metrics of a run, "val/…" and "test/…"; logged without a step, with the plots."""
    record, tracked, folder, session = run.record, run.tracked, run.folder, run.session()
    session.load_best(folder)
    metrics = {
        f"{split}/{name}": value for split in ("val", "test") for name, value in session.final_metrics(split).items()
    }
    metrics |= baseline_metrics(session.task, session.store, metrics)
    tracked.tags({"primary.metric": session.task.primary})  # for ranking runs
    # val metrics of the best weights are logged under "best/", separate from the training curve
    tracked.metrics({re.sub("^val/", "best/", name): value for name, value in metrics.items()})
    tracked.file(_learning_curve(session, folder, metrics), "figures")
    if readings := read_readings(folder / READINGS):
        picture = folder / "gradient_probe.png"
        write_gradient_picture(picture, readings, title=record.recipe.name, unit=session.task.measured_in)
        tracked.file(picture, "figures")
    test = session.store.split("test")
    for finding in session.task.findings(session.model, test):
        if isinstance(finding, Table):
            tracked.table(finding.columns, f"{finding.name}/test.json")
        else:
            picture = folder / f"{finding.name}.png"
            report.draw(replace(finding, title=f"{record.recipe.name}: {finding.title}"), session.encoding, picture)
            tracked.file(picture, "figures")
        if isinstance(finding, Matrix) and finding.counts is not None:
            table = report.cell_counts(finding)
            (folder / f"{finding.name}.json").write_text(json.dumps(table), encoding="utf-8")  # summed over folds
            tracked.table(table, f"{finding.name}/test.json")
    shown = "  ".join(
        f"{name.removeprefix('test/')} {figure(v)}" for name, v in metrics.items() if name.startswith("test/")
    )
    say(f"test    {shown or 'no metrics: there is no test data'}")
    task = session.task
    if baseline := strongest(metrics, task.lower_is_better):
        verdict = baseline.verdict(metrics[f"{baseline.split}/{task.primary}"], task.lower_is_better)
        say(f"        {f'warning: the model is {verdict}' if verdict else f'better than {baseline}'}")
    return metrics


def _learning_curve(session: Session, folder: Path, metrics: dict[str, float]) -> Path:
    task = session.task
    _, facts = read_tensors(folder / "checkpoint.safetensors")
    path = folder / "learning_curve.png"
    report.write_learning_curve(
        path,
        facts["progress"]["history"],
        metric=task.primary,
        baselines={key.split("/", 2)[2]: value for key, value in metrics.items() if is_baseline(key)},
        test=metrics.get(f"test/{task.primary}"),
        title=f"{session.recipe.name}: {task.primary.replace('_', ' ')}",
        loss_unit=task.loss_unit,
        counted=task.counted,
    )
    return path
