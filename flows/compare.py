"""Comparing settings: every combination × seeds under equal budgets, as MLflow runs beneath one parent run."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect import flow, runtime
from prefect import task as prefect_task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from components.console import bar, say
from components.datasets.store import DatasetRef, Store
from components.errors import UserError
from components.evaluation.compare import Result, columns, leaderboard, markdown
from components.models.weights import read_tensors
from components.provenance import digest_json, digest_tree, library_versions
from components.render.figures import figure
from components.runs.ingest import settled
from components.runs.open_run import ending
from components.runs.places import ROOT, places
from components.runs.plan import Plan, make_plan
from components.runs.processes import Processes
from components.runs.ranking import Comparison, notes, publish
from components.runs.train import as_yaml, flat
from components.runs.trial_file import TrialFile
from components.tracking.mlflow_backend import MlflowRun, MlflowTracker
from components.training.device import choose_device, choose_threads
from components.training.session import Session
from flows.parameters import Device, ModelName, Override, RecipeName, Threads
from flows.pipeline import flow_run_tags, ingest_task
from flows.reaper import claimed, ended, failed, foreground, stopped_by_person, tidy
from flows.retry import worth_retrying


@dataclass(frozen=True)
class _Subject:
    """What is known of the data and models before any training."""

    datasets: list[DatasetRef]  # of each combination
    parameters: list[int]
    metric: str
    lower: bool


@prefect_task(name="trial", task_run_name="{name}", retries=1, retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
def trial_task(file: str, name: str, processes: Processes) -> None:
    """One run, in a process of its own; tried again after a crash it goes on from its checkpoint."""
    path = Path(file)
    command = [sys.executable, "-m", "components.runs.trial", file]
    code, last = processes.run(command, log=path.with_suffix(".log"), cwd=ROOT)
    if code == 0:
        return
    trial = TrialFile.load(path)
    trial.failed = trial.failed or last or f"the process ended with code {code}"
    trial.save(path)  # it may have ended before it could say why
    if code == 2:
        raise UserError(trial.failed, where=name)
    raise RuntimeError(trial.failed)


def compare(*arguments: Any, workers: int = 1, **named: Any) -> Comparison:
    """`compare_flow` in this process, with a task runner of so many workers."""
    runner = ThreadPoolTaskRunner(max_workers=workers)
    with foreground():
        return compare_flow.with_options(task_runner=runner)(*arguments, workers=workers, **named)


@flow(name="compare", flow_run_name="{recipe}", on_failure=[failed], on_crashed=[ended], on_cancellation=[ended])
def compare_flow(
    recipe: RecipeName,
    vary: list[str],
    seeds: int = 3,
    budget: str | None = None,
    steps: int | None = None,
    overrides: list[Override] | None = None,
    device: Device = "auto",
    threads: Threads = 0,
    workers: int = 1,
    fresh: bool = False,
    name: ModelName = None,
) -> Comparison:
    """Train every combination of the varied settings with several seeds, and rank them by val.

    `workers` runs go on at a time, each with `threads` CPU threads (0 = the cores divided by the workers). What an
    earlier comparison of the very same runs finished is reused unless `fresh`; what it left unfinished goes on.

    Raises:
        UserError: a setting is wrong, nothing can rank the runs, or all of them failed.
    """
    with claimed():
        plan = make_plan(recipe, vary, seeds, budget, steps, overrides or [], workers, name)
        return _compare(plan, device, threads, workers, fresh)


def _compare(plan: Plan, device: str, threads: int, workers: int, fresh: bool) -> Comparison:
    where = places()
    device, threads = choose_device(device), threads or max(1, choose_threads(0) // workers)
    tidy()
    tracker = MlflowTracker(where.settings)
    plan, subject = _prepare(plan)
    code = [path for kind in ("py", "cpp", "h") for path in ROOT.glob(f"components/**/*.{kind}")]
    digest = digest_json(
        {
            "recipes": [trial.recipe.as_dict() for trial in plan.trials],
            "data": [ref.digest for ref in subject.datasets],
            "machine": [device, threads, workers],
            "code": [library_versions(), digest_tree(code)],
        }
    )
    folder = where.home / "comparisons" / digest[:16]
    with alone(folder, fresh):
        parent = _open_parent(plan, tracker, folder, digest, device, threads, workers)
        run_id = parent.ref.run_id
        with ending(parent, stopped_by_person):
            files = _write_trials(plan, subject, folder, run_id, device, threads)
            try:
                _run_trials(plan, subject, parent, files, workers)
            finally:
                tracker.send_leftovers()  # closes the runs of processes that were killed
                results = [_result(path) for path in files]
                said = notes(plan, results, subject.lower, threads, workers, choose_threads(0))
                charts = tracker.experiment_url(plan.name, run_id, (f"best/{subject.metric}", subject.lower))
                about = {"metric": subject.metric, "lower": subject.lower, "notes": said, "charts": charts}
                rows = publish(plan, parent, folder, results, **about)
            if all(result.failed for result in results):
                raise UserError(f"every run failed; the first: {results[0].failed}", where=plan.name)
    if runtime.flow_run.id:
        text = f"{markdown(rows)}\n\n[the comparison in MLflow]({parent.ref.url}) · [its runs]({charts})"
        create_markdown_artifact(text, key="leaderboard", description="settings from best to worst by val")
    return Comparison(run_id, parent.ref.url, charts, subject.metric, rows, said)


def _prepare(plan: Plan) -> tuple[Plan, _Subject]:
    """Ingest what the combinations read and build each model once, so that mistakes are found before any training;
    the plan's generation settings are settled with the data."""
    known: dict[str, DatasetRef] = {}
    datasets, parameters, found = [], [], set()
    for trial in plan.combinations:
        key = digest_json([trial.recipe.as_dict()[section] for section in ("data", "encoding")])
        if key not in known:
            known[key] = ingest_task(trial.recipe, None if known else plan.asked)
        store = Store.open(known[key].path)
        session = Session(trial.recipe, store, "cpu", 1)
        if not len(store.split("val")):
            raise UserError(
                "keeps no validation data, which is what runs are ranked by",
                where=f"{plan.name}: data.split",
                hint="for example --set data.split=[0.8,0.1,0.1]",
            )
        datasets.append(known[key])
        parameters.append(session.parameter_count)
        found.add((session.task.primary, session.task.lower_is_better))
    if len(found) > 1:
        names = " and ".join(sorted(metric for metric, _ in found))
        raise UserError(f"{names} can't be ranked together", where="--vary", hint="vary what keeps the primary metric")
    (metric, lower), *_ = found
    trials = [
        replace(trial, recipe=settled(trial.recipe, datasets[number % len(datasets)], plan.asked))
        for number, trial in enumerate(plan.trials)
    ]
    return replace(plan, trials=trials), _Subject(datasets, parameters, metric, lower)


@contextmanager
def alone(folder: Path, fresh: bool) -> Iterator[None]:
    """One process at a time works in the folder, which begins empty when it is `fresh`. Raises UserError else."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_suffix(".lock"), timeout=0):
            if fresh:
                shutil.rmtree(folder)
                folder.mkdir()
            yield
    except Timeout:
        raise UserError("this very one is running already", where=str(folder)) from None


def _open_parent(
    plan: Plan, tracker: MlflowTracker, folder: Path, digest: str, device: str, threads: int, workers: int
) -> MlflowRun:
    """The parent run: the one of an earlier try, or a new one with what the comparison starts with."""
    file = folder / "parent"
    if file.exists():
        parent = tracker.resume(file.read_text(encoding="utf-8"))
        say(f"compare going on with {parent.ref.run_id[:8]}: finished runs are reused")
    else:
        keys = " × ".join(key.rpartition(".")[2] for key in plan.vary) or "seeds"
        about = {"recipe": plan.name, "compare.digest": digest, "device": device}
        parent = tracker.start(plan.name, f"compare {keys}", tags=about)
        parent.params({f"vary.{key}": values for key, values in plan.vary.items()})
        common = {key: v for key, v in flat(plan.trials[0].recipe.as_dict()).items() if key not in plan.vary}
        parent.params(common | {"seeds": plan.seeds, "budget": plan.budget, "threads": threads, "workers": workers})
        parent.text(as_yaml(plan.trials[0].recipe), "first_recipe.yaml")
        file.write_text(parent.ref.run_id, encoding="utf-8")
    parent.tags(flow_run_tags())
    return parent


def _write_trials(plan: Plan, subject: _Subject, folder: Path, parent: str, device: str, threads: int) -> list[Path]:
    """A file for each run, for its process to read; those of an earlier try stay as they are."""
    files = []
    for number, trial in enumerate(plan.trials):
        path = folder / f"{number:03d}.json"
        files.append(path)
        if path.exists():
            continue
        which = number % len(plan.combinations)
        TrialFile(
            name=trial.name,
            label=trial.label,
            settings=dict(trial.settings),
            recipe={"name": trial.recipe.name, **trial.recipe.as_dict()},
            dataset=asdict(subject.datasets[which]),
            device=device,
            threads=threads,
            parameters=subject.parameters[which],
            parent=parent,
            tags={"compare": parent, "compare.setting": trial.label},
        ).save(path)
    return files


def _run_trials(plan: Plan, subject: _Subject, parent: MlflowRun, files: Sequence[Path], workers: int) -> None:
    """Run what isn't finished, `workers` at a time; the leaderboard grows with each."""
    waiting = [path for path in files if TrialFile.load(path).metrics is None]
    say(f"compare {len(files)} runs ({len(waiting)} to do), each {plan.budget}, {workers} at a time")
    with Processes() as processes, bar("compare", len(files), "runs") as advance:
        names = {path: TrialFile.load(path).name for path in waiting}
        futures = {trial_task.submit(str(path), names[path], processes): path for path in waiting}
        for done, future in enumerate(as_completed(list(futures)), len(files) - len(waiting) + 1):
            future.wait()
            result = _result(futures[future])
            value = f"val {subject.metric} {figure(result.metrics.get(f'val/{subject.metric}', math.nan))}"
            what = f"FAILED: {result.failed}" if result.failed else f"{value}, {result.seconds:.0f} s, {result.stopped}"
            say(f"        {names[futures[future]]}: {what}")
            advance(done, "")
            rows = leaderboard([_result(path) for path in files], subject.metric, lower=subject.lower)
            parent.table(columns(rows, subject.metric), "leaderboard.json")


def _result(path: Path) -> Result:
    """What is known of a run: its figures, or why there are none."""
    trial = TrialFile.load(path)
    about = {"label": trial.label, "settings": trial.settings, "seed": trial.recipe["seed"], "run_id": trial.run_id}
    if trial.metrics is None:
        return Result(**about, parameters=trial.parameters, failed=trial.failed.partition("\n")[0] or "not finished")
    _, facts = read_tensors(places().run_folder(trial.run_id) / "checkpoint.safetensors")
    at = facts["progress"]
    spent = {name: at[name] for name in ("seconds", "tokens", "stopped", "history")}
    return Result(**about, parameters=trial.parameters, metrics=trial.metrics, **spent)
