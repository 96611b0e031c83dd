"""Comparing settings: every combination with several seeds, under equal budgets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from components.datasets.store import DatasetRef
from components.errors import UserError
from components.evaluation.compare import Result, columns, leaderboard
from components.provenance import digest_json
from components.recipe import Recipe
from components.render.figures import figure
from components.runs.asked import Asked
from components.runs.away import Crew, code_here
from components.runs.ingest import settled
from components.runs.places import places
from components.runs.plan import Plan
from components.runs.ranking import Comparison, notes, publish
from components.runs.study import Beginning, Study
from components.runs.train import flat
from components.runs.trial_file import TrialFile
from components.training.device import choose_threads


class Combinations(Study):
    """The trials of a plan, in order. Finished runs of an earlier, identical comparison are reused."""

    verb, things = "compare", "runs"

    def __init__(self, plan: Plan, device: str, threads: int, workers: int, crew: Crew | None = None) -> None:
        super().__init__(plan.name, plan.budget, len(plan.trials), device, threads, workers, crew)
        self.plan, self.digest = plan, ""
        self.datasets: list[DatasetRef] = []  # of each combination
        self.parameters: list[int] = []

    def prepare(self, ingest: Callable[[Recipe, Asked | None], DatasetRef]) -> Path:
        """Ingest the data of the combinations, build each model once, and check the generation settings against the
        data."""
        known: dict[str, DatasetRef] = {}
        found = set()
        for trial in self.plan.combinations:
            key = digest_json([trial.recipe.as_dict()[section] for section in ("data", "encoding")])
            if key not in known:
                known[key] = ingest(trial.recipe, None if known else self.plan.asked)
            # folds of a single setting needn't be ranked
            session = self.built(trial.recipe, known[key], ranked=not self.plan.folds or bool(self.plan.vary))
            self.datasets.append(known[key])
            self.parameters.append(session.parameter_count)
            found.add((session.task.primary, session.task.lower_is_better))
        if len(found) > 1:
            names = " and ".join(sorted(metric for metric, _ in found))
            hint = "vary only settings that keep the task's primary metric the same"
            raise UserError(
                f"the combinations have different primary metrics, {names}, and can't be ranked together",
                where="--vary",
                hint=hint,
            )
        ((self.metric, self.lower),) = found
        trials = [
            replace(trial, recipe=settled(trial.recipe, self.datasets[number % len(self.datasets)], self.plan.asked))
            for number, trial in enumerate(self.plan.trials)
        ]
        self.plan = replace(self.plan, trials=trials)
        self.digest = digest_json(
            {
                "recipes": [trial.recipe.as_dict() for trial in trials],
                "data": [ref.digest for ref in self.datasets],
                "machine": [self.device, self.threads, self.workers],
                "code": code_here(),
            }
        )
        return places().home / "comparisons" / self.digest[:16]

    def beginning(self) -> Beginning:
        plan, recipe = self.plan, self.plan.trials[0].recipe
        spent = {"seeds": plan.seeds, "budget": plan.budget, "threads": self.threads, "workers": self.workers}
        params = {f"vary.{key}": values for key, values in plan.vary.items()}
        if plan.folds:
            spent = {"folds": plan.folds} | spent
        differing = {*plan.vary, *(["data.fold"] if plan.folds else [])}
        params |= {key: value for key, value in flat(recipe.as_dict()).items() if key not in differing} | spent
        tags = {"compare.digest": self.digest, "device": self.device}
        keys = [*plan.vary, *([f"{plan.folds} folds"] if plan.folds else [])]
        return Beginning(keys, tags, params, recipe, "first_recipe.yaml")

    def begin(self, fresh: bool) -> None:
        self.files = [self.folder / f"{number:03d}.json" for number in range(self.total)]
        done = [path.exists() and TrialFile.load(path).metrics is not None for path in self.files]
        self.waiting = [number for number in range(self.total) if not done[number]]

    def left(self) -> int:
        return len(self.waiting)

    def propose(self) -> Path | None:
        """The file of the next run; a file of an earlier attempt is kept."""
        if not self.waiting:
            return None
        number = self.waiting.pop(0)
        path, trial, which = self.files[number], self.plan.trials[number], number % len(self.datasets)
        if not path.exists():
            about = {"name": trial.name, "label": trial.label, "settings": dict(trial.settings)}
            about |= {"parameters": self.parameters[which], "tags": {"compare.setting": trial.label}}
            self.write_trial(path, trial.recipe, self.datasets[which], **about)
        return path

    def told(self, path: Path) -> str:
        """Update the leaderboard with the result of a run."""
        result = self._result(self.files.index(path))
        rows = leaderboard(self._results(), self.metric, lower=self.lower)
        self.parent.table(columns(rows, self.metric), "leaderboard.json")
        split = "val" if f"val/{self.metric}" in result.metrics else "test"
        value = f"{split} {self.metric} {figure(result.metrics.get(f'{split}/{self.metric}', math.nan))}"
        what = f"FAILED: {result.failed}" if result.failed else f"{value}, {result.seconds:.0f} s, {result.stopped}"
        return f"{TrialFile.load(path).name}: {what}"

    def publish(self) -> Comparison:
        results = self._results()
        said = notes(self.plan, results, self.lower, self.threads, self.workers, choose_threads(0))
        about = {"metric": self.metric, "lower": self.lower, "notes": said, "charts": self.runs_url}
        return publish(self.plan, self.parent, self.folder, results, **about)

    def failure(self) -> str:
        results = self._results()
        return f"every run failed; the first: {results[0].failed}" if all(each.failed for each in results) else ""

    def _results(self) -> list[Result]:
        return [self._result(number) for number in range(self.total)]

    def _result(self, number: int) -> Result:
        """The result of a run: its metrics, or why there are none."""
        planned, path = self.plan.trials[number], self.files[number]
        about = {"label": planned.label, "settings": planned.settings, "seed": planned.recipe.seed}
        about |= {"parameters": self.parameters[number % len(self.parameters)], "fold": planned.fold}
        trial = TrialFile.load(path) if path.exists() else None
        if trial is None or trial.metrics is None:
            run_id, failed = (trial.run_id, trial.failed.partition("\n")[0]) if trial else ("", "")
            return Result(**about, run_id=run_id, failed=failed or "not finished")
        spent = {name: trial.progress[name] for name in ("seconds", "tokens", "stopped", "history")}
        return Result(**about, run_id=trial.run_id, metrics=trial.metrics, **spent)
