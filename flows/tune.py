"""Searching for settings: trials proposed by TPE, cut short by the median rule, ranked by val. Test is never read.

Every trial is an MLflow run beneath one parent run and trains in a process of its own (components/runs/trial.py), which
reports each evaluation to the study and is told there whether to stop. The study lies in `optuna.db` beside the store
and not in MLflow's own database: both keep their schema's version in a table of the same name, and Optuna 5.0 refuses
to work there ("no longer compatible with the table schema").
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from prefect import flow
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from components.console import bar, say
from components.datasets.store import DatasetRef, Store
from components.errors import UserError
from components.evaluation.tuning import Found, Tried
from components.models.weights import read_tensors
from components.provenance import digest_json
from components.render.figures import figure
from components.runs.ingest import settled
from components.runs.open_run import ending
from components.runs.places import places
from components.runs.processes import Processes
from components.runs.search import Answer, publish
from components.runs.space import Dimension, Search, make_search
from components.runs.train import as_yaml
from components.runs.trial_file import TrialFile
from components.runs.watched import storage
from components.tracking.mlflow_backend import MlflowRun, MlflowTracker
from components.training.device import choose_device, choose_threads
from components.training.session import Session
from flows.compare import alone, trial_task
from flows.parameters import Device, ModelName, Override, RecipeName, Threads
from flows.pipeline import flow_run_tags, ingest_task
from flows.reaper import claimed, ended, failed, foreground, stopped_by_person, tidy

RANDOM_TRIALS = 10  # before TPE has enough to go by (Bergstra et al. 2011)


def tune(*arguments: Any, jobs: int = 1, **named: Any) -> Answer:
    """`tune_flow` in this process, with a task runner of so many workers."""
    runner = ThreadPoolTaskRunner(max_workers=jobs)
    with foreground():
        return tune_flow.with_options(task_runner=runner)(*arguments, jobs=jobs, **named)


@flow(name="tune", flow_run_name="{recipe}", on_failure=[failed], on_crashed=[ended], on_cancellation=[ended])
def tune_flow(
    recipe: RecipeName,
    space: list[str],
    trials: int = 30,
    budget: str | None = None,
    steps: int | None = None,
    overrides: list[Override] | None = None,
    device: Device = "auto",
    threads: Threads = 0,
    jobs: int = 1,
    fresh: bool = False,
    name: ModelName = None,
) -> Answer:
    """Search the space for the settings with the best primary metric on val, with `trials` trials in all.

    The same recipe and space again go on with the same study: finished trials count, cut-off ones go on.

    Raises:
        UserError: a setting is wrong, there is nothing to rank by, or no trial finished.
    """
    with claimed():
        search = make_search(recipe, space, overrides or [], budget, steps, trials, jobs, name)
        tidy()
        return _tune(search, trials, device, threads, jobs, fresh, budget or steps)


def _tune(
    search: Search,
    trials: int,
    device: str,
    threads: int,
    jobs: int,
    fresh: bool,
    limited: object,
) -> Answer:
    device, threads = choose_device(device), threads or max(1, choose_threads(0) // jobs)
    tracker = MlflowTracker(places().settings)
    dataset = ingest_task(search.recipe, search.asked)
    search = replace(search, recipe=settled(search.recipe, dataset, search.asked))
    metric, lower = _primary(search, dataset)
    asked = [search.recipe.digest, dataset.digest, [str(dimension) for dimension in search.dimensions]]
    name = f"{search.name}-{digest_json(asked)[:16]}"
    folder = places().home / "searches" / name
    with alone(folder, fresh):
        study = _open_study(name, search, lower, fresh)
        parent = _open_parent(search, tracker, folder, name, {"device": device, "threads": threads, "jobs": jobs})
        work = _Work(search, study, folder, parent, dataset, device, threads, metric, lower)
        with ending(parent, stopped_by_person):
            try:
                _run(work, trials, jobs)
            finally:
                tracker.send_leftovers()  # closes the runs of processes that were killed
                found = work.found()
                answer = publish(search, parent, folder, found, limited)
            if found.best is None:
                why = next((tried.failed for tried in found.tried if tried.failed), "none was run")
                raise UserError(f"no trial finished; the first: {why}", where=search.name)
    return answer


@dataclass(frozen=True)
class _Work:
    """One search under way."""

    search: Search
    study: optuna.Study
    folder: Path
    parent: MlflowRun
    dataset: DatasetRef
    device: str
    threads: int
    metric: str
    lower: bool

    def file(self, number: int) -> Path:
        return self.folder / f"{number:04d}.json"

    def trials(self) -> list[FrozenTrial]:
        return [t for t in self.study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]

    def ask(self) -> Path | None:
        """The next trial's file; None when its settings don't go together, which counts as a trial that failed."""
        # a sampler of its own for each trial: a search that was stopped proposes what it would have proposed
        count = len(self.trials())
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.search.recipe.seed * 10_007 + count, n_startup_trials=RANDOM_TRIALS
        )
        trial = self.study.ask({dimension.key: _distribution(dimension) for dimension in self.search.dimensions})
        settings = self.settings(trial.params)
        try:
            recipe = self.search.trial(settings)
        except UserError as error:
            trial.set_user_attr("failed", str(error))
            self.study.tell(trial.number, state=TrialState.FAIL)
            return None
        path = self.file(trial.number)
        label = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())
        TrialFile(
            name=f"trial {trial.number}: {label}",
            label=label,
            settings=settings,
            recipe={"name": recipe.name, **recipe.as_dict()},
            dataset=asdict(self.dataset),
            device=self.device,
            threads=self.threads,
            parameters=0,
            parent=self.parent.ref.run_id,
            tags={"tune": self.parent.ref.run_id, "tune.trial": str(trial.number)},
            search={"study": self.study.study_name, "trial": trial._trial_id, "metric": self.metric},
        ).save(path)
        return path

    def settings(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        return {d.key: d.value(drawn[d.key]) for d in self.search.dimensions if d.key in drawn}

    def tell(self, number: int) -> Tried:
        """Tell the study what came of a trial."""
        trial = TrialFile.load(self.file(number))
        value = (trial.metrics or {}).get(f"val/{self.metric}", math.nan)
        if trial.pruned:
            self.study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
        elif math.isfinite(value):
            self.study.tell(number, value, skip_if_finished=True)
        else:
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        return self.tried(self.study.get_trials(deepcopy=False)[number])

    def tried(self, trial: FrozenTrial) -> Tried:
        names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        about: dict[str, Any] = {"failed": trial.user_attrs.get("failed", "")}
        if self.file(trial.number).exists():
            file = TrialFile.load(self.file(trial.number))
            about = {"run_id": file.run_id, "parameters": file.parameters, "failed": file.failed.partition("\n")[0]}
            with contextlib.suppress(UserError, OSError, KeyError):
                _, facts = read_tensors(places().run_folder(file.run_id) / "checkpoint.safetensors")
                about |= {"updates": facts["progress"]["global_step"], "seconds": facts["progress"]["seconds"]}
        reported = [v for v in trial.intermediate_values.values() if math.isfinite(v)]
        value = trial.values[0] if trial.values else (min if self.lower else max)(reported, default=math.nan)
        return Tried(trial.number, self.settings(trial.params), names.get(trial.state, "running"), value, **about)

    def found(self) -> Found:
        importance: dict[str, float] = {}
        # it needs two different values, and a setting that varied; of few trials it warns
        with contextlib.suppress(ValueError, RuntimeError, ZeroDivisionError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(self.study)
            importance = {key: float(share) for key, share in found.items()}
        return Found(self.metric, self.lower, [self.tried(trial) for trial in self.trials()], importance)


def _run(work: _Work, trials: int, jobs: int) -> None:
    """Finish what was cut off, then ask for new trials, `jobs` at a time, until there are so many."""
    waiting = []
    for trial in work.trials():
        if trial.state == TrialState.RUNNING:
            if work.file(trial.number).exists():
                waiting.append(work.file(trial.number))
            else:  # stopped between the question and its file
                work.study.tell(trial.number, state=TrialState.FAIL)
    done = len(work.trials()) - len(waiting)
    say(f"tune    {trials} trials ({max(0, trials - done)} to do), each {work.search.budget}, {jobs} at a time")
    with Processes() as processes, bar("tune", trials, "trials") as advance:
        futures: dict[Any, Path] = {}
        while True:
            while len(futures) < jobs and (waiting or len(work.trials()) < trials):
                path = waiting.pop(0) if waiting else work.ask()
                if path is not None:
                    futures[trial_task.submit(str(path), TrialFile.load(path).name, processes)] = path
            if not futures:
                return
            with contextlib.closing(as_completed(list(futures))) as first:
                future = next(first)
            future.wait()
            tried = work.tell(int(futures.pop(future).stem))
            what = f"FAILED: {tried.failed}" if tried.state == "failed" else f"val {work.metric} {figure(tried.value)}"
            cut = f", pruned after {tried.updates:,} updates" if tried.state == "pruned" else ""
            label = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in tried.settings.items())
            say(f"        trial {tried.number} ({label}): {what}{cut}")
            advance(len(work.trials()) - len(futures), "")
            work.parent.metrics({"search/value": tried.value} if math.isfinite(tried.value) else {}, tried.number)


def _primary(search: Search, dataset: DatasetRef) -> tuple[str, bool]:
    store = Store.open(dataset.path)
    if not len(store.split("val")):
        hint = "for example --set data.split=[0.8,0.1,0.1]"
        raise UserError("keeps no validation data, which trials are ranked by", where="data.split", hint=hint)
    task = Session(search.recipe, store, "cpu", 1).task
    return task.primary, task.lower_is_better


def _open_study(name: str, search: Search, lower: bool, fresh: bool) -> optuna.Study:
    studies = storage()
    if fresh:
        with contextlib.suppress(KeyError):
            optuna.delete_study(study_name=name, storage=studies)
    direction = "minimize" if lower else "maximize"
    study = optuna.create_study(storage=studies, study_name=name, direction=direction, load_if_exists=True)
    own = search.own_settings()
    if own and not study.get_trials(deepcopy=False):
        study.enqueue_trial(own)  # the recipe as it stands is the first trial: the best is never worse than it
    return study


def _open_parent(
    search: Search, tracker: MlflowTracker, folder: Path, study: str, about: Mapping[str, Any]
) -> MlflowRun:
    """The parent run: the one of an earlier try, or a new one."""
    file = folder / "parent"
    if file.exists():
        parent = tracker.resume(file.read_text(encoding="utf-8"))
        say(f"tune    going on with {parent.ref.run_id[:8]}: finished trials count")
    else:
        keys = " × ".join(dimension.key.rpartition(".")[2] for dimension in search.dimensions)
        tags = {"recipe": search.name, "tune.study": study}
        parent = tracker.start(search.name, f"tune {keys}", tags=tags)
        parent.params({f"space.{d.key}": str(d).partition("=")[2] for d in search.dimensions})
        parent.params({"budget": search.budget, "sampler": "TPE", "pruner": "median", **about})
        parent.text(as_yaml(search.recipe), "recipe.yaml")
        file.write_text(parent.ref.run_id, encoding="utf-8")
    parent.tags(flow_run_tags())
    return parent


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
