"""Commands that make models."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from flows.commands.base import (
    START,
    Device,
    Name,
    Set,
    Threads,
    app,
    checked_recipe,
    launched_as,
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
    processes: Annotated[int, Parameter(help="Processes that share the training, and its threads or the GPUs.")] = 1,
    offline: Annotated[bool, Parameter(negative="", help="Run NAME-offline, which needs no network.")] = False,
    name: Name = None,
    start: Annotated[
        str | None, Parameter(name="--from", help="A trained model to start from: NAME, NAME@3 or run:ID.")
    ] = None,
) -> None:
    """Run a recipe from its data to a registered model and what it writes.

    RECIPE is a name from `reprise recipes` or a YAML file of your own.

    Example: `reprise run chorales` · `reprise run shakespeare-chars --set data.path=my.txt --from shakespeare-chars`
    """
    rank, launched = launched_as()
    if rank:  # torchrun started several of us: the first one does all but its share of the training
        from components.runs.members import follow_launched

        follow_launched(device)
        return
    if offline:
        recipe = offline_recipe(recipe)
    if start:
        from components.runs.generate import exactly

        set = [*(set or []), f"training.start={exactly(start)}"]
    outcome = run_recipe(recipe, set or [], device, threads, name, max(processes, launched))
    from components.runs.asked import words_of
    from components.runs.summary import show

    show(outcome, words_of(recipe, set, name), prefect=server_address())


@app.command(group=START)
def resume(
    run: str = "latest", /, *, device: Annotated[str, Parameter(help="Another one than it began on.")] = ""
) -> None:
    """Go on with a run that was stopped or killed, from its last checkpoint, bit for bit.

    RUN is a run's id (or its first letters), its name, or "latest". On another kind of device it goes on with other
    last bits.

    Example: `reprise resume latest`
    """
    from components.runs.places import places
    from components.runs.record import find_run, moved_to

    record = find_run(run, places())
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
    vary: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative="", help="Settings to vary: KEY=VALUE,VALUE and more. Repeatable."),
    ] = None,
    seeds: Annotated[int, Parameter(help="Runs of each combination, with the recipe's seed and those after it.")] = 3,
    budget: Annotated[
        str | None,
        Parameter(
            help="Training time of each run, evaluation included: 90s, 5m, 1.5h. `training.steps` still ends it."
        ),
    ] = None,
    steps: Annotated[int | None, Parameter(help="Updates of each run; else the recipe's.")] = None,
    workers: Annotated[int, Parameter(help="Runs at a time; they divide the CPU threads.")] = 1,
    fresh: Annotated[bool, Parameter(negative="", help="Reuse no run of an earlier, equal comparison.")] = False,
    set: Set = None,
    device: Device = "auto",
    threads: Annotated[int, Parameter(help="CPU threads of each run; 0 = the cores divided by the workers.")] = 0,
    name: Name = None,
) -> None:
    """Compare settings: every combination × seeds under equal budgets, ranked by the mean on val.

    The same command goes on where a stopped one left off, and reuses what was finished. Under a time budget the
    learning rate still follows its schedule over `training.steps`: it isn't compressed into the time.

    Example: `reprise compare names --vary model.kind=rnn,gru,lstm model.num_layers=1,2 --seeds 3 --steps 2000`
    """
    from components.runs.plan import make_plan

    asked = (recipe, vary or [], seeds, budget, steps, set or [])
    make_plan(*asked, workers, name)
    if device != "auto":
        checked_recipe(recipe, set, device, name)
    begin = start_server(trains=True)
    from flows.study import compare as compare_settings

    begin()
    from components.runs.ranking import show

    try:
        about = {"device": device, "threads": threads, "workers": workers, "fresh": fresh, "name": name}
        show(compare_settings(*asked, **about), prefect=server_address())
    except KeyboardInterrupt:
        print("stopped. The same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None


@app.command(group=START)
def tune(
    recipe: str,
    /,
    *,
    trials: Annotated[int, Parameter(help="Trials in all; those of an earlier, equal search count.")] = 30,
    space: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="What to search: KEY=64,128 or KEY=0.0..0.5 or KEY=log:1e-4..1e-2. Repeatable. "
            "Else around the recipe's learning rate, size, depth and dropout.",
        ),
    ] = None,
    jobs: Annotated[int, Parameter(help="Trials at a time; they divide the CPU threads.")] = 1,
    budget: Annotated[
        str | None, Parameter(help="Training time of each trial, evaluation included: 90s, 5m, 1.5h.")
    ] = None,
    steps: Annotated[int | None, Parameter(help="Updates of each trial; else the recipe's.")] = None,
    fresh: Annotated[bool, Parameter(negative="", help="Forget an earlier, equal search.")] = False,
    set: Set = None,
    device: Device = "auto",
    threads: Annotated[int, Parameter(help="CPU threads of each trial; 0 = the cores divided by the jobs.")] = 0,
    name: Name = None,
) -> None:
    """Search for settings: trials proposed by what earlier ones reached on val, poor ones stopped early.

    The same command goes on where a stopped one left off; a greater --trials adds to it. Test is never read. Ends with
    the command that runs the recipe with the best settings.

    Example: `reprise tune names --trials 20 --steps 1000 --space training.learning_rate=log:1e-4..1e-2`
    """
    from components.runs.space import make_search

    asked = (recipe, space or [])
    make_search(*asked, set or [], budget, steps, trials, jobs, name)
    if device != "auto":
        checked_recipe(recipe, set, device, name)
    begin = start_server(trains=True)
    from flows.study import tune as search

    begin()
    from components.runs.search import show

    try:
        about = {"device": device, "threads": threads, "jobs": jobs, "fresh": fresh, "name": name}
        show(search(*asked, trials, budget, steps, set, **about))
    except KeyboardInterrupt:
        print("stopped. The same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None


@app.command(group=START)
def ingest(
    recipe: str,
    /,
    *,
    set: Set = None,
    report: Annotated[bool, Parameter(negative="", help="List what was made of each file.")] = False,
) -> None:
    """Fetch, read and encode a recipe's data, and say what was kept and dropped.

    Example: `reprise ingest names` · `reprise ingest lead-sheets --set data.path=songs --report`
    """
    checked_recipe(recipe, set, "auto")
    begin = start_server()
    from components.runs.ingest import show_report
    from flows.pipeline import ingest_flow

    begin()
    ref = ingest_flow(recipe, set or [])
    if report:
        show_report(ref)
    print(ref.path)
