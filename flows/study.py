"""Comparisons and searches as flows: each trial is a task in a separate process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed

from components.evaluation.compare import markdown
from components.runs.away import Crew
from components.runs.compare import Combinations
from components.runs.plan import make_plan
from components.runs.ranking import Comparison
from components.runs.search import Answer
from components.runs.space import make_search
from components.runs.study import Hands, Study, run_process
from flows.cluster import joined, run_on_worker
from flows.parameters import Device, ModelName, Override, RecipeName, Threads
from flows.pipeline import flow_run_tags, ingest_task
from flows.reaper import claimed, ended, failed, foreground, stopped_by_person, tidy
from flows.retry import worth_retrying

TRIAL = {
    "name": "trial",
    "task_run_name": "{name}",
    "retries": 1,
    "retry_condition_fn": worth_retrying,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
trial_task = task(run_process, **TRIAL)
cluster_trial_task = task(run_on_worker, **TRIAL)


@flow(name="compare", flow_run_name="{recipe}", on_failure=[failed], on_crashed=[ended], on_cancellation=[ended])
def compare_flow(
    recipe: RecipeName,
    vary: list[str],
    seeds: int | None = None,
    budget: str | None = None,
    steps: int | None = None,
    overrides: list[Override] | None = None,
    device: Device = "auto",
    threads: Threads = 0,
    workers: int = 1,
    fresh: bool = False,
    name: ModelName = None,
    folds: int | None = None,
    cluster: str = "",
) -> Comparison:
    """Train every combination of the varied settings with several seeds (3 by default) or on `folds` folds of K-fold
    cross-validation, and rank them by val.

    `workers` runs are trained in parallel, each with `threads` CPU threads (0 = the cores divided by the workers).
    Finished runs of an earlier identical comparison are reused and interrupted ones resumed, unless `fresh`. `cluster`
    is the address of a Dask scheduler or of Ray: then each of its workers runs `workers` at a time.

    Raises:
        UserError: a setting is wrong, there is no metric to rank by, or all runs failed.
    """
    with claimed():
        plan = make_plan(recipe, vary, seeds, budget, steps, overrides or [], workers, name, folds)
        found = _conduct(cluster, workers, fresh, lambda crew: Combinations(plan, device, threads, workers, crew))
        if runtime.flow_run.id:
            text = f"{markdown(found.rows)}\n\n[the comparison in MLflow]({found.url}) · [its runs]({found.runs_url})"
            create_markdown_artifact(text, key="leaderboard", description="settings, best first, by validation metric")
        return found


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
    cluster: str = "",
) -> Answer:
    """Search the space for the settings with the best primary metric on val, with `trials` trials in total.

    A search of the same recipe and space continues the same study: finished trials count, interrupted ones are resumed.
    `cluster` is the address of a Dask scheduler or of Ray: then each of its workers runs `jobs` at a time.

    Raises:
        UserError: a setting is wrong, there is no metric to rank by, or no trial finished.
    """
    from components.runs.tune import Proposals  # imports Optuna, which is only needed here

    with claimed():
        search = make_search(recipe, space, overrides or [], budget, steps, trials, jobs, name)
        return _conduct(cluster, jobs, fresh, lambda crew: Proposals(search, trials, device, threads, jobs, crew))


def _conduct(cluster: str, each: int, fresh: bool, make: Callable[[Crew | None], Study]) -> Any:
    """Create the study and run it: `each` trials at a time on this machine, or on each worker of a cluster."""
    tidy()
    person, tags = stopped_by_person, flow_run_tags()
    if not cluster:
        return make(None).conduct(Hands(ingest_task, trial_task.submit, _first, person, tags), fresh=fresh)
    with joined(cluster, cluster_trial_task, each) as workers:

        def first(futures: list[PrefectFuture]) -> PrefectFuture:
            workers.take(future := _first(futures))
            return future

        return make(workers.crew).conduct(Hands(ingest_task, workers.start, first, person, tags), fresh=fresh)


def _first(futures: list[PrefectFuture]) -> PrefectFuture:
    """The first future to finish."""
    with contextlib.closing(as_completed(futures)) as done:
        future = next(done)
    future.wait()
    return future


# in this process
compare, tune = foreground()(compare_flow), foreground()(tune_flow)
