"""The steps as Prefect tasks, and the whole chain as one flow: ingest → train → evaluate → register → generate."""

from __future__ import annotations

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from components.console import say
from components.datasets.store import DatasetRef
from components.redaction import shown_address
from components.runs.asked import ask
from components.runs.evaluate import evaluate
from components.runs.ingest import ingest_recipe, settled
from components.runs.open_run import OpenRun, opened
from components.runs.outcome import Outcome, conclude
from components.runs.register import register
from components.runs.samples import write_samples
from components.runs.train import begin_run, train
from components.runs.travel import bring
from components.tracking.process import machine_name
from flows.parameters import Device, ModelName, Override, Processes, RecipeName, RunId, Threads
from flows.reaper import TRAINING, claimed, ended, failed, foreground, stopped_by_person, tidy
from flows.retry import worth_retrying

# no caching and no stored results, because an open run can't be hashed or serialised
STEP = {"cache_policy": NO_CACHE, "persist_result": False}
RETRIED = {**STEP, "retry_condition_fn": worth_retrying}
ingest_task = task(ingest_recipe, name="ingest", retries=1, retry_delay_seconds=2, **RETRIED)
begin_task = task(begin_run, name="open run", **STEP)
train_task = task(train, name="train", retries=2, retry_delay_seconds=[1, 10], **RETRIED)
evaluate_task = task(evaluate, name="evaluate", retries=1, **RETRIED)
register_task = task(register, name="register", retries=1, **RETRIED)
samples_task = task(write_samples, name="samples", **STEP)


@flow(name="pipeline", flow_run_name="{recipe}", on_failure=[failed], on_crashed=[ended], on_cancellation=[ended])
def pipeline_flow(
    recipe: RecipeName,
    overrides: list[Override] = [],  # noqa: B006 - nobody changes it, and forms show it
    device: Device = "auto",
    threads: Threads = 0,
    name: ModelName = None,
    processes: Processes = 1,
) -> Outcome:
    """Run a recipe from its data to a registered model and generated samples.

    Args:
        recipe: The name of a built-in recipe, or the path of a YAML file.
        overrides: Settings that replace the recipe's: KEY=VALUE, for example training.steps=500.
        device: auto, cpu, cuda or cuda:N; auto uses a GPU if there is one.
        threads: Number of CPU threads; 0 is one per core.
        name: Name of the experiment and the model. Default: the recipe's name, plus that of your own data.
        processes: Number of training processes; they share the threads or the GPUs.
    """
    with claimed():
        asked = ask(recipe, overrides, name)
        checked = asked.recipe()
        tidy()
        dataset = ingest_task(checked, asked)
        ready = settled(checked, dataset, asked)
        begun = begin_task(ready, dataset, device, threads, processes, asked=asked.words, tags=flow_run_tags())
        return finish(begun)


@flow(name="ingest", flow_run_name="{recipe}")
def ingest_flow(recipe: RecipeName, overrides: list[Override] | None = None) -> DatasetRef:
    """Ingest the data of a recipe (a name or a YAML file)."""
    asked = ask(recipe, overrides)
    return ingest_task(asked.recipe(), asked)


@flow(name="resume", flow_run_name="resume {run_id}", on_failure=[failed], on_crashed=[ended], on_cancellation=[ended])
def resume_flow(run_id: RunId) -> Outcome:
    """Resume an interrupted run from its last checkpoint to the end of the pipeline.

    Args:
        run_id: Id of the MLflow run: of this machine, or one that another machine left in the shared store.
    """
    with claimed():
        tidy()
        return finish(bring(run_id).ref.run_id)


def flow_run_tags() -> dict[str, str]:
    """The tags of a tracked run that identify its flow run."""
    if not runtime.flow_run.id:
        return {}
    url = shown_address(runtime.flow_run.ui_url or "")
    return {"prefect.flow_run_id": str(runtime.flow_run.id), "prefect.url": url}


def training_tags(device: str) -> set[str]:
    """The tag of trainings on this machine's device, for Prefect's concurrency limit: by default one on a GPU, any
    number on the CPU. Without a limit there is no tag, because acquiring a slot takes Prefect most of a second."""
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
        say(f"train   waiting: {len(limit.active_slots)} of {limit.concurrency_limit} slots in use ({tag})")
    return {tag}


def finish(run: OpenRun | str) -> Outcome:
    """The steps after the beginning of a run, or of the run with this id; each can be repeated."""
    with opened(run, stopped_by_person) as run:
        _link(run)
        train_task.with_options(tags=training_tags(run.record.device))(run)
        metrics = evaluate_task(run)
        model = register_task(run, metrics)
        return conclude(run, metrics, model, samples_task(run, model))


def _link(run: OpenRun) -> None:
    """Add a link to MLflow's run on the page of the Prefect run; the MLflow run has the opposite link in its tags."""
    if runtime.flow_run.id:
        text = f"[{run.record.run_name} in MLflow]({run.record.ref.url}) · run `{run.id}`"
        create_markdown_artifact(text, key="mlflow-run", description="this flow's run in MLflow")
        run.tracked.tags(flow_run_tags())


# in this process
pipeline, resume = foreground()(pipeline_flow), foreground()(resume_flow)
