"""The steps as Prefect tasks, and the whole chain as one flow: ingest → train → evaluate → register → generate."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from components.bundle import make_task
from components.datasets.store import DatasetRef, Store
from components.datasets.targets import unseen
from components.evaluation.baseline import strongest
from components.recipe import Recipe
from components.redaction import shown_address
from components.render.figures import figure
from components.tracking.base import ModelRef
from components.tracking.mlflow_backend import MlflowTracker
from components.tracking.process import machine_name
from flows.asked import Asked, ask, typed
from flows.console import say
from flows.evaluate import evaluate
from flows.ingest import ingest_recipe, settled
from flows.parameters import Device, ModelName, Override, RecipeName, RunId, Threads
from flows.places import places
from flows.reaper import TRAINING, claimed, ended, failed, foreground, tidy
from flows.register import register
from flows.retry import worth_retrying
from flows.runs import RunRecord, closing, open_run
from flows.samples import write_samples
from flows.train import begin_run, train

RETRIED = {"retry_condition_fn": worth_retrying}
ingest_task = task(ingest_recipe, name="ingest", retries=1, retry_delay_seconds=2, **RETRIED)
begin_task = task(begin_run, name="open run")
train_task = task(train, name="train", retries=2, retry_delay_seconds=[1, 10], **RETRIED)
evaluate_task = task(evaluate, name="evaluate", retries=1, **RETRIED)
register_task = task(register, name="register", retries=1, **RETRIED)
samples_task = task(write_samples, name="samples")


@dataclass(frozen=True)
class Outcome:
    """What a pipeline reached."""

    run_id: str
    run_name: str
    url: str
    metrics: dict[str, float]
    model: ModelRef | None
    files: list[str]
    remarks: list[str]  # on the figures: the baseline, labels that training never saw
    selector: str  # of the model, for the commands that use one
    asked: list[str]  # behind `reprise run`


def pipeline(
    recipe: str,
    overrides: list[str] | None = None,
    device: str = "auto",
    threads: int = 0,
    name: str | None = None,
) -> Outcome:
    """Run a recipe in this process, see `pipeline_flow`."""
    with foreground():
        return pipeline_flow(recipe, overrides or [], device, threads, name)


def resume(run_id: str) -> Outcome:
    """Go on with a run in this process, see `resume_flow`."""
    with foreground():
        return resume_flow(run_id)


@flow(name="pipeline", flow_run_name="{recipe}", on_failure=[failed], on_crashed=[ended], on_cancellation=[ended])
def pipeline_flow(
    recipe: RecipeName,
    overrides: list[Override] = [],  # noqa: B006 - nobody changes it, and forms show it
    device: Device = "auto",
    threads: Threads = 0,
    name: ModelName = None,
) -> Outcome:
    """Run a recipe from its data to a registered model and what it writes.

    Args:
        recipe: One of our recipes, or the path of a YAML file of your own.
        overrides: Settings that differ from the recipe's: KEY=VALUE, for example training.steps=500.
        device: auto takes a GPU when there is one.
        threads: CPU threads; 0 = one for each core.
        name: Of the experiment and the model; else the recipe's, with that of the data where they are your own.
    """
    with claimed():
        asked = ask(recipe, overrides, name)
        asked.recipe()
        tidy()
        recipe, dataset = prepared(asked)
        return finish(begin_task(recipe, dataset, device, threads, asked=asked.words, tags=flow_run_tags()))


@flow(name="ingest", flow_run_name="{recipe}")
def ingest_flow(recipe: RecipeName, overrides: list[Override] | None = None) -> DatasetRef:
    """Ingest the data of a recipe (a name or a YAML file)."""
    asked = ask(recipe, overrides)
    return ingest_task(asked.recipe(), asked)


@flow(name="resume", flow_run_name="resume {run_id}", on_failure=[failed], on_crashed=[ended], on_cancellation=[ended])
def resume_flow(run_id: RunId) -> Outcome:
    """Go on with a run that was cut off, from its last checkpoint to the end of the pipeline.

    Args:
        run_id: The MLflow run, on the machine that it was started on.
    """
    with claimed():
        tidy()
        return finish(run_id)


def prepared(asked: Asked) -> tuple[Recipe, DatasetRef]:
    """The recipe that was asked for, with settings that go with its data, and these."""
    recipe = asked.recipe()
    dataset = ingest_task(recipe, asked)
    return settled(recipe, dataset, asked), dataset


def flow_run_tags() -> dict[str, str]:
    """What a tracked run says of the flow run that it belongs to."""
    if not runtime.flow_run.id:
        return {}
    url = shown_address(runtime.flow_run.ui_url or "")
    return {"prefect.flow_run_id": str(runtime.flow_run.id), "prefect.url": url}


def training_tags(device: str) -> set[str]:
    """The tag of trainings on this machine's device. Prefect lets as many go on at once as its limit on the tag says:
    one on a GPU unless it was changed, any number on the CPU unless a limit was made (then there is no tag: asking
    for a slot takes Prefect most of a second)."""
    tag = f"{TRAINING}{device}-{machine_name()}"
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_concurrency_limit_by_tag(tag)
        except ObjectNotFound:
            if device == "cpu":
                return set()
            client.create_concurrency_limit(tag, 1)
            return {tag}
    if len(limit.active_slots) >= limit.concurrency_limit:
        say(f"train   waits for its turn: {len(limit.active_slots)} of {limit.concurrency_limit} at work ({tag})")
    return {tag}


def finish(run_id: str) -> Outcome:
    """The steps after a run was opened; each can be done again."""
    record = RunRecord.load(places().run_folder(run_id))
    with closing(run_id):
        _link(record)
        train_task.with_options(tags=training_tags(record.device))(run_id)
        metrics = evaluate_task(run_id)
        model = register_task(run_id, metrics)
        made_by = f"{model.name}@{model.version}" if model else f"run:{run_id}"
        files = samples_task(run_id, made_by, record.recipe.seed)
        remarks = _remarks(record, metrics)
        open_run(run_id).describe(description(record, metrics, model, files, remarks))
    chosen = selector(model, record)
    return Outcome(run_id, record.run_name, record.ref.url, metrics, model, files, remarks, chosen, record.asked)


def _link(record: RunRecord) -> None:
    """From the Prefect run's page to MLflow's; the MLflow run has the flow run's address in its tags."""
    if runtime.flow_run.id:
        text = f"[{record.run_name} in MLflow]({record.ref.url}) · run `{record.ref.run_id}`"
        create_markdown_artifact(text, key="mlflow-run", description="the tracked run of this flow")
        open_run(record.ref.run_id).tags(flow_run_tags())


def _next(record: RunRecord, model: ModelRef | None, files: list[str]) -> str:
    """The commands that run it again and have it write more."""
    again = f"Again: `{typed('run', record.asked)}`" if record.asked else ""
    more = f"More: `{typed('generate', [selector(model, record)], '--seed', '1')}`" if files else ""
    return " · ".join(part for part in (again, more) if part)


def selector(model: ModelRef | None, record: RunRecord) -> str:
    """What the commands that use a model call this one: by its name where that means it."""
    if model is None:
        return f"run:{record.ref.run_id[:8]}"
    return model.name if model.alias == "champion" else f"{model.name}@{model.version}"


def _remarks(record: RunRecord, metrics: dict[str, float]) -> list[str]:
    store = Store.open(record.dataset.path)
    task = make_task(record.recipe.task, store.encoding(), store.manifest["framing"])
    baseline, new = strongest(metrics, task.lower_is_better), unseen(store.manifest.get("labels", {}), "test")
    verdict = baseline.verdict(metrics[f"{baseline.split}/{task.primary}"], task.lower_is_better) if baseline else ""
    found = [f"the model is {verdict}"] if verdict else []
    return [*found, f"labels of test that were never in training: {new}"] if new else found


def description(
    record: RunRecord, metrics: dict[str, float], model: ModelRef | None, files: list[str], remarks: list[str]
) -> str:
    """What a person reads first on the run's page."""
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
        f"[Beside the other runs]({charts}).\n\n| figure | value |\n|---|---|\n{rows}\n\n{said}"
        f"Pictures are in `figures/`.{f' Samples:{chr(10)}{names}' if files else ''}\n\n"
        f"{_next(record, model, files)}\n"
    )
