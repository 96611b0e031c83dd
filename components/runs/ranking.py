"""The result of a comparison, for MLflow's pages and the terminal."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.console import out, table
from components.evaluation.baseline import strongest
from components.evaluation.compare import Result, Row, cells, columns, leaderboard, markdown, write_curves
from components.runs.folds import publish_folds, show_folds
from components.runs.plan import Plan
from components.tracking.mlflow_backend import MlflowRun

FOLDS_RANKED = "settings are ranked on **val**, a held-out part of each fold's training data"
RANKED = "ranked by the mean over seeds on **val** (best weights of each run); test isn't used for ranking"


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison: `rows` from best to worst by `metric` on val; `runs_url` shows its runs as charts."""

    run_id: str
    url: str
    runs_url: str
    metric: str
    rows: list[Row]
    notes: list[str]
    folds: int = 0  # of cross-validation


def publish(
    plan: Plan,
    parent: MlflowRun,
    folder: Path,
    results: Sequence[Result],
    *,
    metric: str,
    lower: bool,
    notes: list[str],
    charts: str,
) -> Comparison:
    """Write the leaderboard, the plot and the final metrics to the parent run. `charts` is the address of the page of
    its runs."""
    rows = leaderboard(results, metric, lower=lower)
    parent.table(columns(rows, metric), "leaderboard.json")
    parent.table(_runs(results, metric), "runs.json")
    has_val = any(math.isfinite(row.val) for row in rows)
    if has_val or not plan.folds:
        curves = folder / "compare.png"
        write_curves(curves, rows, metric=metric, lower=lower, title=f"{plan.name}: {metric.replace('_', ' ')}")
        parent.file(curves, "figures")
    # final metrics with the same names as those of single runs, so that charts show the parent with its runs
    figures = {f"best/{metric}": rows[0].val, f"test/{metric}": rows[0].test}
    for row in rows:
        name = " ".join(re.findall(r"[\w.-]+", row.label))[:100]
        figures |= {f"val_mean/{name}": row.val, f"val_sd/{name}": row.val_sd}
    parent.metrics({key: value for key, value in figures.items() if math.isfinite(value)})
    best = None if plan.folds else best_run(rows[0], metric, lower)  # folds have different test data
    if best:
        parent.tags({"compare.best_setting": rows[0].label, "compare.best_run": best.run_id})
    how = RANKED
    if plan.folds:
        how = f"mean over {plan.folds} folds (K-fold cross-validation)" + f"; {FOLDS_RANKED}" * bool(plan.vary)
    words = [f"**{plan.name}**: {len(results)} runs, each {plan.budget}. {metric}, {how}.", markdown(rows)]
    words += [publish_folds(plan.name, plan.folds, parent, folder, rows)] if plan.folds else []
    words += [f"Best run: `{best.run_id}` ({best.label}, seed {best.seed})."] if best else []
    picture = "Picture: `figures/compare.png`. " if has_val or not plan.folds else ""
    words += [f"[Its runs as charts]({charts}). {picture}Tables: `leaderboard.json`, `runs.json`.", *notes]
    parent.describe("\n\n".join(words) + "\n")
    return Comparison(parent.ref.run_id, parent.ref.url, charts, metric, rows, notes, plan.folds)


def notes(plan: Plan, results: Sequence[Result], lower: bool, threads: int, workers: int, cores: int) -> list[str]:
    """Notes for interpreting the results."""
    found = [f"{r.label}, {r.which} failed: {r.failed}" for r in results if r.failed]
    good = [result for result in results if not result.failed]
    if plan.budget.seconds:
        early = sum(result.seconds < 0.95 * plan.budget.seconds for result in good)
        if early:
            found.append(
                f"{early} of {len(good)} runs ended before their {plan.budget.seconds:g} s were over "
                f"({next(r.stopped for r in good if r.seconds < 0.95 * plan.budget.seconds)}), so budgets were not "
                "equal; increase training.steps to let the time decide"
            )
        if workers > 1:
            found.append(
                f"{workers} runs at a time shared the machine's memory and caches: each took longer than it would alone"
            )
    if good and (baseline := strongest(_means(good) if plan.folds else good[0].metrics, lower)):
        found.append(f"{baseline} on {baseline.split}: settings that don't beat it have learned nothing useful")
    if workers * threads > cores:
        found.append(f"{workers} runs × {threads} threads are more than the {cores} cores: times are unreliable")
    if plan.folds:
        every = ": every sequence was in test once" if len(good) == len(results) else ""
        found.append(f"K-fold cross-validation, K = {plan.folds}, over all data (train, val and test together){every}")
    elif plan.seeds == 1:
        found.append("one seed: differences may be due to chance; use --seeds 3")
    return found


def show(comparison: Comparison, *, prefect: str | None = None) -> None:
    """Print the leaderboard and where to look next; `prefect` is the address of Prefect's UI."""
    headings, rows = cells(comparison.rows)
    some_failed = any(len(row.finished) < len(row.results) for row in comparison.rows)
    left_out = {"tokens/s"} if some_failed else {"tokens/s", "runs"}  # to fit into 80 columns
    over = f"{comparison.folds} folds (K-fold cross-validation)" if comparison.folds else "seeds"
    ranked = "; ranked by val, not by test"
    if comparison.folds and len(rows) == 1:
        ranked = ""
        left_out |= {""} if math.isfinite(comparison.rows[0].val) else {"", "val (ranks)"}
    keep = [place for place, heading in enumerate(headings) if heading not in left_out]
    out.print()
    title = f"{comparison.metric}, mean ± sd over {over}{ranked}"
    table(title, [headings[place] for place in keep], [[row[place] for place in keep] for row in rows])
    if comparison.folds:
        show_folds(comparison.rows)
    out.print()
    for note in comparison.notes:
        out.print(f"note    {note}")
    out.print(f"mlflow  {comparison.url}\ncurves  {comparison.runs_url}")
    if prefect:
        out.print(f"prefect {prefect}  (`reprise down` stops it)")
    out.print("next    reprise ui    (then open the links above)")


def best_run(row: Row, metric: str, lower: bool) -> Result | None:
    """The best run of a row by val; None if no run has a figure on val."""
    name = f"val/{metric}"
    measured = [result for result in row.finished if math.isfinite(result.metrics.get(name, math.nan))]
    return (min if lower else max)(measured, key=lambda result: result.metrics[name], default=None)


def _means(results: Sequence[Result]) -> dict[str, float]:
    """The metrics that all results have, averaged."""
    shared = set.intersection(*(set(result.metrics) for result in results))
    return {name: statistics.fmean(result.metrics[name] for result in results) for name in sorted(shared)}


def _runs(results: Sequence[Result], metric: str) -> dict[str, list[object]]:
    return {
        "setting": [r.label for r in results],
        "seed": [r.seed for r in results],
        **({"fold": [r.fold for r in results]} if any(r.fold for r in results) else {}),
        f"val {metric}": [r.metrics.get(f"val/{metric}", math.nan) for r in results],
        f"test {metric}": [r.metrics.get(f"test/{metric}", math.nan) for r in results],
        "parameters": [r.parameters for r in results],
        "tokens": [r.tokens for r in results],
        "seconds": [r.seconds for r in results],
        "stopped": [r.stopped for r in results],
        "failed": [r.failed for r in results],
        "run id": [r.run_id for r in results],
    }
