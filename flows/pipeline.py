"""The whole chain as one flow: ingest → train → evaluate → register → generate."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact

from components.recipe import Recipe, read_recipe
from components.tracking.base import ModelRef
from components.tracking.mlflow_backend import MlflowTracker
from flows.evaluate import evaluate_task
from flows.generate import samples_task
from flows.ingest import ingest_task
from flows.places import places, recipe_path
from flows.register import register_task
from flows.runs import RunRecord, closing, open_run
from flows.train import open_run_task, train_task


@dataclass(frozen=True)
class Outcome:
    """What a pipeline reached."""

    run_id: str
    run_name: str
    url: str
    metrics: dict[str, float]
    model: ModelRef | None
    files: list[str]


@flow(name="pipeline", flow_run_name="{recipe}")
def pipeline(recipe: str, overrides: list[str] | None = None, device: str = "auto", threads: int = 0) -> Outcome:
    """Run a recipe (a name or a YAML file) from its data to a registered model and what it writes."""
    checked = read_recipe(recipe_path(recipe), overrides or [])
    MlflowTracker(places().settings).send_leftovers()
    run_id = open_run_task(checked, ingest_task(checked), device, threads)
    return finish(run_id)


@flow(name="resume", flow_run_name="resume {run_id}")
def resume(run_id: str) -> Outcome:
    """Go on with a run that was cut off, from its last checkpoint to the end of the pipeline."""
    return finish(run_id)


def finish(run_id: str) -> Outcome:
    """The steps after a run was opened; each can be done again."""
    record = RunRecord.load(places().run_folder(run_id))
    with closing(run_id):
        _link(record)
        train_task(run_id)
        metrics = evaluate_task(run_id)
        model = register_task(run_id, metrics)
        selector = f"{model.name}@{model.version}" if model else f"run:{run_id}"
        files = samples_task(run_id, selector, record.recipe.seed)
        open_run(run_id).describe(description(record.recipe, record, metrics, model, files))
    return Outcome(run_id, record.run_name, record.ref.url, metrics, model, files)


def _link(record: RunRecord) -> None:
    """From the Prefect run's page to MLflow's; the MLflow run has the flow run's address in its tags."""
    if runtime.flow_run.id:
        text = f"[{record.run_name} in MLflow]({record.ref.url}) · run `{record.ref.run_id}`"
        create_markdown_artifact(text, key="mlflow-run", description="the tracked run of this flow")
        open_run(record.ref.run_id).tags({"prefect.flow_run_id": str(runtime.flow_run.id)})


def description(
    recipe: Recipe, record: RunRecord, metrics: dict[str, float], model: ModelRef | None, files: list[str]
) -> str:
    """What a person reads first on the run's page."""
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics.items())
    m = recipe.model
    names = "\n".join(f"- `samples/{path.rpartition('/')[2]}`" for path in files[:20])
    depth = " × ".join(str(m[key]) for key in ("num_layers", "hidden_size") if key in m)
    status = f"registered as **{model}** ({model.alias})" if model else "not registered: `accept` refused it"
    return (
        f"**{recipe.name}**: {m['kind']} {depth}, seed {recipe.seed}; "
        f"{status}.\n\n| figure | value |\n|---|---|\n{rows}\n\n"
        f"Pictures are in `figures/`.{f' Samples:{chr(10)}{names}' if files else ''}\n\n"
        f"Again: `reprise run {recipe.name}`{f' · more: `reprise generate {recipe.name} --seed 1`' if files else ''}\n"
    )
