"""The outcome of a run, and the description at the top of its page."""

from __future__ import annotations

from dataclasses import dataclass

from components.bundle import make_task
from components.datasets.targets import unseen
from components.evaluation.baseline import strongest
from components.render.figures import figure
from components.runs.about import using
from components.runs.asked import typed
from components.runs.open_run import OpenRun
from components.runs.places import places
from components.runs.record import RunRecord
from components.tracking.base import ModelRef
from components.tracking.mlflow_backend import MlflowTracker


@dataclass(frozen=True)
class Outcome:
    """The outcome of a pipeline."""

    run_id: str
    run_name: str
    url: str
    metrics: dict[str, float]
    model: ModelRef | None
    files: list[str]
    remarks: list[str]  # on the metrics: the baseline, labels that training never saw
    use: str  # the command that uses the model
    asked: list[str]  # the words after `reprise run`


def conclude(run: OpenRun, metrics: dict[str, float], model: ModelRef | None, files: list[str]) -> Outcome:
    """Describe the run on its page, and return its outcome."""
    record, remarks = run.record, _remarks(run, metrics)
    run.tracked.describe(_description(record, metrics, model, files, remarks))
    use = using(record.recipe, _selector(model, record))
    return Outcome(run.id, record.run_name, record.ref.url, metrics, model, files, remarks, use, record.asked)


def _next(record: RunRecord, model: ModelRef | None, files: list[str]) -> str:
    """The commands to repeat the run and to generate more."""
    again = f"Again: `{typed('run', record.asked)}`" if record.asked else ""
    more = f"More: `{using(record.recipe, _selector(model, record))}`" if files else ""
    return " · ".join(part for part in (again, more) if part)


def _selector(model: ModelRef | None, record: RunRecord) -> str:
    """The selector of the model for commands: its name alone if that selects it."""
    if model is None:
        return f"run:{record.ref.run_id[:8]}"
    return model.name if model.alias == "champion" else f"{model.name}@{model.version}"


def _remarks(run: OpenRun, metrics: dict[str, float]) -> list[str]:
    store = run.store
    task = make_task(run.record.recipe.task, store.encoding(), store.manifest["framing"])
    baseline, new = strongest(metrics, task.lower_is_better), unseen(store.manifest.get("labels", {}), "test")
    verdict = baseline.verdict(metrics[f"{baseline.split}/{task.primary}"], task.lower_is_better) if baseline else ""
    found = [f"the model is {verdict}"] if verdict else []
    return [*found, f"labels in test that don't occur in training: {new}"] if new else found


def _description(
    record: RunRecord, metrics: dict[str, float], model: ModelRef | None, files: list[str], remarks: list[str]
) -> str:
    """The description in Markdown."""
    recipe = record.recipe
    order = sorted(metrics, key=lambda name: not name.startswith("test/"))
    rows = "\n".join(f"| {name} | {figure(metrics[name])} |" for name in order)
    first = f"{order[0]} **{figure(metrics[order[0]])}**; " if order else ""
    said = "".join(f"- {line}\n" for line in remarks) + "\n" * bool(remarks)
    charts = MlflowTracker(places().settings).experiment_url(recipe.name)
    m = recipe.model
    names = "\n".join(f"- `samples/{path.rpartition('/')[2]}`" for path in files[:20])
    depth = " × ".join(str(m[key]) for key in ("num_layers", "hidden_size") if key in m)
    status = f"registered as **{model}** ({model.alias})" if model else "not registered (its tag `registered` says why)"
    return (
        f"**{recipe.name}**: {first}{m['kind']} {depth}, seed {recipe.seed}; {status}. "
        f"[Compare with the other runs]({charts}).\n\n| figure | value |\n|---|---|\n{rows}\n\n{said}"
        f"Pictures are in `figures/`.{f' Samples:{chr(10)}{names}' if files else ''}\n\n"
        f"{_next(record, model, files)}\n"
    )
