"""Training: open a tracked run and train it, or resume an interrupted one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from components.console import bar, say
from components.datasets.store import DatasetRef, Store
from components.errors import UserError
from components.paths import CODE
from components.provenance import code_version, machine, package_versions
from components.recipe import Recipe
from components.render.figures import figure
from components.runs.members import together
from components.runs.open_run import OpenRun
from components.runs.places import places
from components.runs.record import RunRecord
from components.runs.samples import WithSamples
from components.runs.start import begin, begin_letter_models
from components.tracking.mlflow_backend import MlflowRun, MlflowTracker
from components.training.device import choose_device, choose_threads, gpu_versions


def begin_run(
    recipe: Recipe,
    dataset: DatasetRef,
    device: str,
    threads: int,
    processes: int = 1,
    *,
    parent: str = "",
    asked: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    moves: bool = False,
) -> OpenRun:
    """Start the tracked run, a child of `parent` if given, and write its record. `asked`: the words after
    `reprise run` that request it. `tags`: additional tags. `moves`: another machine may resume it although it has a
    parent."""
    where = places()
    device, threads = choose_device(device), choose_threads(threads)
    run_name = name_of(recipe)
    version = code_version(CODE)
    about = {
        "recipe": recipe.name,
        "recipe.digest": recipe.digest,
        "data.digest": dataset.digest,
        "code.commit": str(version.get("commit")),
        "code.dirty": str(version.get("dirty")),
        "device": device,
        "start": recipe.training["start"] or "",
        **{f"version.{library}": v for library, v in (package_versions() | gpu_versions(device)).items()},
        **(tags or {}),
    }
    run = MlflowTracker(where.settings).start(recipe.name, run_name, tags=about)
    manifest = Store.open(dataset.path).manifest
    run.params(flat(recipe.as_dict()) | {"device": device, "threads": threads, "processes": processes})
    for context in ("train", "val", "test"):
        counts = manifest["counts"][context]
        run.dataset(manifest["name"], manifest["digests"]["splits"][context], manifest["name"], counts, context)
    run.text(recipe.as_yaml(), "recipe.yaml")
    if report := manifest.get("report"):
        run.table({name: [row[name] for row in report] for name in report[0]}, "ingestion/files.json")
    run.table({"item": list(machine()), "value": [str(v) for v in machine().values()]}, "environment/machine.json")
    # last, because from now on the run can be resumed, and resuming doesn't repeat the above
    record = RunRecord(recipe, dataset, run.ref, run_name, device, threads, parent, list(asked), processes, moves)
    record.save(where.run_folder(run.ref.run_id))
    return OpenRun(record, run)


def train(run: OpenRun) -> str:
    """Train the run to its end, from its checkpoint if there is one. Returns why it ended."""
    record, tracked, session = run.record, run.tracked, run.session()
    threads = f"{record.threads} threads" if record.device == "cpu" else "GPU"
    shared = f" in {record.processes} processes" if record.processes > 1 else ""
    size = f"{session.parameter_count:,} parameters"
    say(f"train   {record.run_name}: {size}, {record.device} ({threads}{shared}), run {run.id[:8]}")
    for note in session.notes:
        say(f"        {note}")
    tracked.params({"parameters": session.parameter_count})
    start = record.recipe.training["start"]
    if not (run.folder / "checkpoint.safetensors").exists():
        for line in [*(begin(start, session, tracked) if start else ()), *begin_letter_models(session)]:
            say(f"start   {line}")
    steps = record.recipe.training["steps"]
    with bar("train", steps, "updates") as advance, together(run) as ranks:
        events = WithSamples(_Listener(tracked, advance), session, tracked, run.folder)
        progress = session.train(run.folder, events, ranks)
    tracked.metrics({"train/seconds": progress.seconds, "train/best_step": progress.best_step})
    kept = f"best at update {progress.best_step:,}" if math.isfinite(progress.best) else "the last weights are used"
    say(f"        {progress.stopped}; {progress.seconds:.0f} s, {kept}")
    return progress.stopped


class _Listener:
    """Passes a training run's events on to MLflow, the progress bar and the log."""

    def __init__(self, run: MlflowRun, advance: Callable[[int, str], None]) -> None:
        self.run, self.advance = run, advance

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.run.metrics(values, step)
        if share := values.get("train/tokens_with_vectors"):
            say(f"        {share:.1%} of the vocabulary has a vector in model.vectors; the rest starts at random")

    def progress(self, step: int, steps: int, values: dict[str, float]) -> None:
        if self.run.taken_over:
            hint = "nothing is lost: the run continues there"
            raise UserError(f"the run was resumed on {self.run.taken_over}, so it ends here", hint=hint)
        self.advance(step, f"loss {values['loss']:.3f}")

    def evaluated(self, values: dict[str, float], step: int, improved: bool) -> None:
        if not values:  # no val metrics
            return
        shown = "  ".join(f"{name} {figure(value)}" for name, value in values.items())
        say(f"        update {step:>6,}: val {shown}{'  (best so far)' if improved else ''}")


def name_of(recipe: Recipe) -> str:
    """The display name of a run, to distinguish runs of a recipe."""
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
