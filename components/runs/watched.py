"""A trial of a search in its own process: trained like any run, but the study can prune it."""

from __future__ import annotations

from pathlib import Path

import optuna
from filelock import FileLock

from components.console import say
from components.render.figures import figure
from components.runs.open_run import OpenRun
from components.runs.places import places
from components.runs.trial_file import TrialFile
from components.tracking.mlflow_backend import MlflowRun

PRUNE_AFTER_TRIALS, PRUNE_AFTER_SHARE = 5, 0.2  # share of the updates: after warm-up, since early ranks may change


class Pruned(Exception):
    """The trial was pruned."""


def storage(home: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage in a state folder. Created by one process at a time."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "optuna.lock"):
        # processes wait for each other's writes instead of failing
        return optuna.storages.RDBStorage(
            f"sqlite:///{home / 'optuna.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
        )


def train_watched(trial: TrialFile, run: OpenRun) -> None:
    """Train or resume a trial. If the study's pruner decides so, it ends early, KILLED. The best value on val is
    written to `trial`. If the study is in a file of another machine, nothing is pruned."""
    tracked, session = run.tracked, run.session()
    trial.parameters, metric = session.parameter_count, trial.search["metric"]
    tracked.params({"parameters": session.parameter_count})
    tracked.tags({"primary.metric": metric})
    warm_up = max(session.evaluator.every, round(PRUNE_AFTER_SHARE * run.record.recipe.training["steps"]))
    home = trial.search.get("home", str(places().home))  # missing in searches of earlier versions
    watcher = _Watcher(tracked, _told(trial, home, warm_up) if home else None, metric)
    try:
        progress = session.train(run.folder, watcher)
    except Pruned:
        trial.pruned = watcher.last_step
        tracked.tags({"pruned": f"after {trial.pruned} updates, by the median rule"})
        tracked.finish("KILLED")
        return
    trial.metrics = {f"val/{metric}": progress.best}
    tracked.metrics({f"best/{metric}": progress.best})
    tracked.metrics({"train/seconds": progress.seconds, "train/best_step": float(progress.best_step)})


def _told(trial: TrialFile, home: str, warm_up: int) -> optuna.trial.Trial:
    """The trial in the study, for reporting values."""
    pruner = optuna.pruners.MedianPruner(PRUNE_AFTER_TRIALS, warm_up, n_min_trials=3)
    # the sampler isn't used: the settings are in the file
    sampler, name = optuna.samplers.RandomSampler(seed=0), trial.search["study"]
    study = optuna.load_study(study_name=name, storage=storage(Path(home)), sampler=sampler, pruner=pruner)
    return optuna.trial.Trial(study, trial.search["trial"])


class _Watcher:
    """Passes a trial's events on to MLflow, and its evaluations to the study."""

    def __init__(self, run: MlflowRun, trial: optuna.trial.Trial | None, metric: str) -> None:
        self.run, self.trial, self.metric = run, trial, metric
        self.last_step, self.doomed = 0, False

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.run.metrics(values, step)

    def progress(self, step: int, steps: int, values: dict[str, float]) -> None:
        if self.doomed:  # one update after the evaluation, when its metrics and checkpoint are saved
            raise Pruned

    def evaluated(self, values: dict[str, float], step: int, improved: bool) -> None:
        self.last_step = step
        if self.trial:
            self.trial.report(values[self.metric], step)
            self.doomed = self.trial.should_prune()
        cut = "  (pruned)" if self.doomed else "  (best so far)" if improved else ""
        say(f"        update {step:>6,}: val {self.metric} {figure(values[self.metric])}{cut}")
