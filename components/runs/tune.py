"""Hyperparameter search: TPE proposes trials, the median rule prunes them, val ranks them. Test is not used.

A trial reports each evaluation to the study (components/runs/watched.py), which decides whether to stop it. The study
is stored in `optuna.db` next to MLflow's store, not in its database: both keep their schema version in a table of the
same name, and Optuna 5.0 refuses to work there ("no longer compatible with the table schema").
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from components.console import say
from components.datasets.store import DatasetRef
from components.errors import UserError
from components.evaluation.tuning import Found, Tried
from components.provenance import digest_json
from components.recipe import Recipe
from components.render.figures import figure
from components.runs.asked import Asked
from components.runs.away import Crew
from components.runs.ingest import settled
from components.runs.places import places
from components.runs.search import Answer, publish
from components.runs.space import Dimension, Search
from components.runs.study import Beginning, Study
from components.runs.trial_file import TrialFile
from components.runs.watched import storage

RANDOM_TRIALS = 10  # before TPE is used (Bergstra et al. 2011)


class Proposals(Study):
    """`trials` proposals in total. A search of the same recipe and space continues the same study: finished trials
    count, interrupted ones are resumed."""

    verb, things = "tune", "trials"
    study: optuna.Study

    def __init__(
        self, search: Search, trials: int, device: str, threads: int, workers: int, crew: Crew | None = None
    ) -> None:
        super().__init__(search.name, search.budget, trials, device, threads, workers, crew)
        self.search = search
        self.waiting: list[Path] = []  # interrupted trials

    def prepare(self, ingest: Callable[[Recipe, Asked | None], DatasetRef]) -> Path:
        search = self.search
        self.dataset = ingest(search.recipe, search.asked)
        self.search = search = replace(search, recipe=settled(search.recipe, self.dataset, search.asked))
        task = self.built(search.recipe, self.dataset).task
        self.metric, self.lower = task.primary, task.lower_is_better
        asked = [search.recipe.digest, self.dataset.digest, [str(dimension) for dimension in search.dimensions]]
        return places().home / "searches" / f"{search.name}-{digest_json(asked)[:16]}"

    def beginning(self) -> Beginning:
        dimensions = self.search.dimensions
        params = {f"space.{d.key}": str(d).partition("=")[2] for d in dimensions}
        params |= {"budget": self.budget, "sampler": "TPE", "pruner": "median"}
        params |= {"device": self.device, "threads": self.threads, "jobs": self.workers}
        tags = {"tune.study": self.folder.name}
        return Beginning([d.key for d in dimensions], tags, params, self.search.recipe, "recipe.yaml")

    def begin(self, fresh: bool) -> None:
        """Open the study, and find interrupted trials of an earlier attempt."""
        if self.crew and self.crew.elsewhere:
            say("note    poor trials aren't stopped early: workers on other machines can't reach optuna.db")
        studies, name = storage(places().home), self.folder.name
        if fresh:
            with contextlib.suppress(KeyError):
                optuna.delete_study(study_name=name, storage=studies)
        direction = "minimize" if self.lower else "maximize"
        self.study = optuna.create_study(storage=studies, study_name=name, direction=direction, load_if_exists=True)
        own = self.search.own_settings()
        if own and not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(own)  # the unchanged recipe is the first trial: the best is never worse
        for trial in self._trials():
            if trial.state == TrialState.RUNNING:
                if self._file(trial.number).exists():
                    self.waiting.append(self._file(trial.number))
                else:  # stopped before its file was written
                    self.study.tell(trial.number, state=TrialState.FAIL)

    def left(self) -> int:
        return max(0, self.total - len(self._trials())) + len(self.waiting)

    def propose(self) -> Path | None:
        if self.waiting:
            return self.waiting.pop(0)
        while len(self._trials()) < self.total:
            if path := self._ask():
                return path
        return None

    def told(self, path: Path) -> str:
        """As in Study, and tell Optuna's study the result."""
        number = int(path.stem)
        trial = TrialFile.load(path)
        value = (trial.metrics or {}).get(f"val/{self.metric}", math.nan)
        if trial.pruned:
            self.study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
        elif math.isfinite(value):
            self.study.tell(number, value, skip_if_finished=True)
        else:
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        tried = self._tried(self.study.get_trials(deepcopy=False)[number])
        self.parent.metrics({"search/value": tried.value} if math.isfinite(tried.value) else {}, number)
        what = f"FAILED: {tried.failed}" if tried.state == "failed" else f"val {self.metric} {figure(tried.value)}"
        cut = f", pruned after {tried.updates:,} updates" if tried.state == "pruned" else ""
        label = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in tried.settings.items())
        return f"trial {number} ({label}): {what}{cut}"

    def publish(self) -> Answer:
        return publish(self.search, self.parent, self.folder, self._found(), self.runs_url)

    def failure(self) -> str:
        found = self._found()
        if found.best:
            return ""
        why = next((tried.failed for tried in found.tried if tried.failed), "none was started")
        return f"no trial finished; the first: {why}"

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:04d}.json"

    def _trials(self) -> list[FrozenTrial]:
        return [t for t in self.study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]

    def _ask(self) -> Path | None:
        """The next trial's file; None if its settings don't go together, which counts as a failed trial."""
        # a separate sampler for each trial, so that a resumed search makes the same proposals
        count = len(self._trials())
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.search.recipe.seed * 10_007 + count, n_startup_trials=RANDOM_TRIALS
        )
        trial = self.study.ask({dimension.key: _distribution(dimension) for dimension in self.search.dimensions})
        settings = self._settings(trial.params)
        try:
            recipe = self.search.trial(settings)
        except UserError as error:
            trial.set_user_attr("failed", str(error))
            self.study.tell(trial.number, state=TrialState.FAIL)
            return None
        path = self._file(trial.number)
        label = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())
        about = {"name": f"trial {trial.number}: {label}", "label": label, "settings": settings, "parameters": 0}
        told = {"study": self.study.study_name, "trial": trial._trial_id, "metric": self.metric}
        told["home"] = "" if self.crew and self.crew.elsewhere else str(places().home)
        self.write_trial(path, recipe, self.dataset, tags={"tune.trial": str(trial.number)}, search=told, **about)
        return path

    def _settings(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        return {d.key: d.value(drawn[d.key]) for d in self.search.dimensions if d.key in drawn}

    def _tried(self, trial: FrozenTrial) -> Tried:
        names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        about: dict[str, Any] = {"failed": trial.user_attrs.get("failed", "")}
        if self._file(trial.number).exists():
            file = TrialFile.load(self._file(trial.number))
            about = {"run_id": file.run_id, "parameters": file.parameters, "failed": file.failed.partition("\n")[0]}
            if at := file.progress:
                about |= {"updates": at["global_step"], "seconds": at["seconds"]}
        reported = [v for v in trial.intermediate_values.values() if math.isfinite(v)]
        value = trial.values[0] if trial.values else (min if self.lower else max)(reported, default=math.nan)
        return Tried(trial.number, self._settings(trial.params), names.get(trial.state, "running"), value, **about)

    def _found(self) -> Found:
        importance: dict[str, float] = {}
        # needs two different values and a setting that varied; warns about few trials
        with contextlib.suppress(ValueError, RuntimeError, ZeroDivisionError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(self.study)
            importance = {key: float(share) for key, share in found.items()}
        return Found(self.metric, self.lower, [self._tried(trial) for trial in self._trials()], importance)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
