"""Training: opens a tracked run, trains it, or goes on with one that was cut off."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import yaml
from prefect import flow, runtime
from prefect import task as prefect_task
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from components.datasets.store import DatasetRef, Store
from components.provenance import code_version, library_versions, machine
from components.recipe import Recipe
from components.redaction import shown_address
from components.render.figures import figure
from components.tracking.base import Run
from components.tracking.mlflow_backend import MlflowTracker
from components.tracking.process import machine_name
from components.training.device import choose_device, choose_threads
from components.training.session import Session
from flows.asked import ask
from flows.console import bar, say
from flows.ingest import prepared
from flows.places import ROOT, places
from flows.reaper import TRAINING
from flows.retry import worth_retrying
from flows.runs import RunRecord, closing, keep_open, open_run
from flows.samples import WithSamples


@prefect_task(name="open run")
def open_run_task(
    recipe: Recipe, dataset: DatasetRef, device: str, threads: int, parent: str = "", asked: Sequence[str] = ()
) -> str:
    """Start the tracked run, beneath `parent` where there is one, and write down all it starts with; gives its id.
    `asked` are the words behind `reprise run` that ask for it."""
    where = places()
    device, threads = choose_device(device), choose_threads(threads)
    run_name = name_of(recipe)
    version = code_version(ROOT)
    tags = {
        "recipe": recipe.name,
        "recipe.digest": recipe.digest,
        "data.digest": dataset.digest,
        "code.commit": str(version.get("commit")),
        "code.dirty": str(version.get("dirty")),
        "device": device,
        **{f"version.{library}": v for library, v in library_versions().items()},
    }
    if runtime.flow_run.id:
        tags |= {
            "prefect.flow_run_id": str(runtime.flow_run.id),
            "prefect.url": shown_address(runtime.flow_run.ui_url or ""),
        }
    run = MlflowTracker(where.settings).start(recipe.name, run_name, tags=tags)
    manifest = Store.open(dataset.path).manifest
    run.params(flat(recipe.as_dict()) | {"device": device, "threads": threads})
    for context in ("train", "val", "test"):
        counts = manifest["counts"][context]
        run.dataset(manifest["name"], manifest["digests"]["splits"][context], manifest["name"], counts, context)
    run.text(as_yaml(recipe), "recipe.yaml")
    if report := manifest.get("report"):
        run.table({name: [row[name] for row in report] for name in report[0]}, "ingestion/files.json")
    run.table({"item": list(machine()), "value": [str(v) for v in machine().values()]}, "environment/machine.json")
    # last: from now on the run can be resumed, and a resumed one writes nothing of the above
    record = RunRecord(recipe, dataset, run.ref, run_name, device, threads, parent, list(asked))
    record.save(where.run_folder(run.ref.run_id))
    keep_open(run)
    return run.ref.run_id


@prefect_task(name="train", retries=2, retry_delay_seconds=[1, 10], retry_condition_fn=worth_retrying)
def train_task(run_id: str) -> str:
    """Train the run to its end, from its checkpoint where there is one; gives why it ended."""
    where = places()
    folder = where.run_folder(run_id)
    record = RunRecord.load(folder)
    session = Session(record.recipe, Store.open(record.dataset.path), record.device, record.threads)
    threads = f"{record.threads} threads" if record.device == "cpu" else "GPU"
    size = f"{session.parameter_count:,} parameters"
    say(f"train   {record.run_name}: {size}, {record.device} ({threads}), run {run_id[:8]}")
    run = open_run(run_id)
    run.params({"parameters": session.parameter_count})
    steps = record.recipe.training["steps"]
    with bar("train", steps, "updates") as advance:
        progress = session.train(folder, WithSamples(_Listener(run, advance), session, run, folder))
    run.metrics({"train/seconds": progress.seconds, "train/best_step": progress.best_step})
    kept = f"best at update {progress.best_step:,}" if math.isfinite(progress.best) else "the last weights are kept"
    say(f"        {progress.stopped}; {progress.seconds:.0f} s, {kept}")
    return progress.stopped


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


class _Listener:
    """Passes a training run's events on to MLflow, the progress bar and the log."""

    def __init__(self, run: Run, advance: Callable[[int, str], None]) -> None:
        self.run, self.advance = run, advance

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.run.metrics(values, step)

    def progress(self, step: int, steps: int, values: dict[str, float]) -> None:
        self.advance(step, f"loss {values['loss']:.3f}")

    def evaluated(self, values: dict[str, float], step: int, improved: bool) -> None:
        if not values:  # nothing of val is measured
            return
        shown = "  ".join(f"{name} {figure(value)}" for name, value in values.items())
        say(f"        update {step:>6,}: val {shown}{'  (best so far)' if improved else ''}")


def name_of(recipe: Recipe) -> str:
    """What a person tells runs of one recipe apart by."""
    model, training = recipe.model, recipe.training
    size = f"-h{model['hidden_size']}" if "hidden_size" in model else ""
    depth = f"x{model['num_layers']}" if model.get("num_layers", 1) > 1 else ""
    return f"{model['kind']}{size}{depth}-lr{training['learning_rate']:g}-s{recipe.seed}"


def flat(values: dict, prefix: str = "") -> dict[str, object]:
    """Nested settings with dotted keys."""
    items: dict[str, object] = {}
    for key, value in values.items():
        items |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return items


def as_yaml(recipe: Recipe) -> str:
    """The fully resolved recipe as the YAML that would give this very run again."""
    return yaml.safe_dump(json.loads(json.dumps(recipe.as_dict())), sort_keys=False, allow_unicode=True)


@flow(name="train", flow_run_name="{recipe}")
def train_flow(recipe: str, overrides: list[str] | None = None, device: str = "auto", threads: int = 0) -> str:
    """Ingest and train a recipe (a name or a YAML file); gives the run's id."""
    asked = ask(recipe, overrides)
    run_id = open_run_task(*prepared(asked), device, threads, asked=asked.words)
    with closing(run_id):
        train_task(run_id)
    return run_id
