"""Commands that train models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import Parameter

from flows.commands.base import (
    START,
    Cluster,
    Device,
    Name,
    OwnThreads,
    Set,
    Threads,
    app,
    checked_recipe,
    offline_recipe,
    run_recipe,
    server_address,
    start_server,
)


@app.command(group=START)
def run(
    recipe: str,
    /,
    *,
    set: Set = None,
    device: Device = "auto",
    threads: Threads = 0,
    processes: int = 1,
    offline: bool = False,
    name: Name = None,
    start: Annotated[str | None, Parameter(name="--from")] = None,
) -> None:
    """Run a recipe: read the data, train, evaluate, register the model, and generate samples.

    RECIPE is a name from `reprise recipes` or the path of a YAML file.

    Example: `reprise run chorales` · `reprise run shakespeare-chars --set data.path=my.txt --from shakespeare-chars`

    Args:
        processes: Number of training processes; they share the threads or the GPUs.
        offline: Run the recipe RECIPE-offline, which needs no network.
        start: What to start from: a trained model (NAME, NAME@3 or run:ID), or a file with weights from torch or Keras
            (FILE or FILE#LAYER,LAYER).
    """
    from components.runs.processes import launched_as

    rank, launched = launched_as()
    if rank:  # under torchrun, rank 0 does everything except the other ranks' share of the training
        from components.runs.members import follow_launched

        follow_launched(device)
        return
    if offline:
        recipe = offline_recipe(recipe)
    if start:
        from components.runs.start import override

        set = [*(set or []), override(start)]
    outcome = run_recipe(recipe, set or [], device, threads, name, launched if launched > 1 else processes)
    from components.runs.asked import words_of
    from components.runs.summary import show

    show(outcome, words_of(recipe, set, name), prefect=server_address())


@app.command(group=START)
def resume(run: str = "latest", /, *, device: str = "") -> None:
    """Resume a run that was stopped or killed from its last checkpoint.

    RUN is a run's id (or its first letters), its name, or "latest". A run that another machine left in a shared store
    is fetched by its id or name. The result is bit-identical to an uninterrupted run on the same kind of device; on
    another kind, it differs by rounding.

    Example: `reprise resume latest`

    Args:
        device: Continue on another device (default: the device of the run).
    """
    from components.runs.record import moved_to
    from components.runs.travel import bring

    record = bring(run)
    run_id = moved_to(record, device).ref.run_id
    begin = start_server(trains=True)
    from flows.pipeline import resume as resume_flow

    begin()
    from components.runs.summary import show

    show(resume_flow(run_id), prefect=server_address())


@app.command(group=START)
def compare(
    recipe: str,
    /,
    *,
    vary: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    seeds: int | None = None,
    folds: int | None = None,
    budget: str | None = None,
    steps: int | None = None,
    workers: int = 1,
    fresh: bool = False,
    set: Set = None,
    device: Device = "auto",
    threads: OwnThreads = 0,
    name: Name = None,
    cluster: Cluster = "",
) -> None:
    """Compare settings: train every combination with several seeds under equal budgets, ranked by validation mean.

    Repeat the command to continue a stopped comparison; finished runs are reused. With a time budget, the learning
    rate schedule still spans `training.steps`; it is not shortened to fit the budget.

    Example: `reprise compare names --vary model.kind=rnn,gru,lstm model.num_layers=1,2 --seeds 3 --steps 2000` ·
    `reprise compare dna --folds 10`

    Args:
        vary: Settings to vary: KEY=VALUE,VALUE,... Repeatable.
        seeds: Runs per combination, with consecutive seeds from the recipe's seed (default: 3).
        folds: K-fold cross-validation instead of seeds: each fold of all the data is test data once.
        budget: Training time per run, evaluation included: 90s, 5m, 1.5h. A run also ends at `training.steps`.
        steps: Updates per run (default: those of the recipe).
        workers: Number of runs in parallel (with --cluster: on each worker).
        fresh: Start over instead of reusing runs of the same comparison.
        threads: CPU threads per run; 0 = the cores divided by the workers.
    """
    from components.runs.plan import make_plan

    plan = {"seeds": seeds, "budget": budget, "steps": steps, "overrides": set or []}
    plan |= {"workers": workers, "name": name, "folds": folds}
    make_plan(recipe, vary or [], **plan)
    with _study(recipe, set, device, name, cluster) as begin:
        from flows.study import compare as compare_settings

        begin()
        from components.runs.ranking import show

        where = {"device": device, "threads": threads, "cluster": cluster}
        show(compare_settings(recipe, vary or [], **plan, **where, fresh=fresh), prefect=server_address())


@app.command(group=START)
def tune(
    recipe: str,
    /,
    *,
    trials: int = 30,
    space: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    jobs: int = 1,
    budget: str | None = None,
    steps: int | None = None,
    fresh: bool = False,
    set: Set = None,
    device: Device = "auto",
    threads: OwnThreads = 0,
    name: Name = None,
    cluster: Cluster = "",
) -> None:
    """Search for good settings: propose trials from earlier validation results and stop poor trials early.

    Repeat the command to continue a stopped search; increase --trials to extend it. The test data is not used. Prints
    the command that runs the recipe with the best settings.

    Example: `reprise tune names --trials 20 --steps 1000 --space training.learning_rate=log:1e-4..1e-2`

    Args:
        trials: Total number of trials, earlier ones of the same search included.
        space: Search space: KEY=64,128 or KEY=0.0..0.5 or KEY=log:1e-4..1e-2. Repeatable. Default: around the recipe's
            learning rate, size, depth and dropout.
        jobs: Number of trials in parallel (with --cluster: on each worker).
        budget: Training time per trial, evaluation included: 90s, 5m, 1.5h.
        steps: Updates per trial (default: those of the recipe).
        fresh: Start over instead of continuing an earlier search.
        threads: CPU threads per trial; 0 = the cores divided by the jobs.
    """
    from components.runs.space import make_search

    asked = (recipe, space or [])
    make_search(*asked, set or [], budget, steps, trials, jobs, name)
    with _study(recipe, set, device, name, cluster) as begin:
        from flows.study import tune as search

        begin()
        from components.runs.search import show

        about = {"device": device, "threads": threads, "jobs": jobs, "fresh": fresh, "name": name, "cluster": cluster}
        show(search(*asked, trials, budget, steps, set, **about))


@contextmanager
def _study(recipe: str, set: Set, device: str, name: str | None, cluster: str) -> Iterator[Callable[[], None]]:
    """Check where the runs of a study go, and start the server; gives the function that waits for it. Ctrl-C ends the
    study, which can be continued."""
    if cluster:
        from flows.cluster import check_cluster

        check_cluster(cluster)
    elif device != "auto":
        checked_recipe(recipe, set, device, name)
    begin = start_server(trains=True)
    try:
        yield begin
    except KeyboardInterrupt:
        print("stopped. Repeat the command to continue", file=sys.stderr)
        raise SystemExit(130) from None


@app.command(group=START)
def ingest(recipe: str, /, *, set: Set = None, report: bool = False) -> None:
    """Download, read and encode a recipe's data, and report what was kept and left out.

    Example: `reprise ingest names` · `reprise ingest lead-sheets --set data.path=songs --report`

    Args:
        report: Show the result for each file.
    """
    from components.runs.asked import ask

    ask(recipe, set).recipe()
    begin = start_server()
    from components.runs.ingest import show_report
    from flows.pipeline import ingest_flow

    begin()
    ref = ingest_flow(recipe, set or [])
    if report:
        show_report(ref)
    print(ref.path)
