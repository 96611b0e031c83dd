"""Commands for unattended runs: schedules, and the process that starts scheduled runs."""

from __future__ import annotations

import sys

from components.errors import UserError
from flows.commands.base import OPERATE, Device, Set, Threads, app, checked_recipe, start_server


@app.command(group=OPERATE)
def serve(*, at_once: int = 1, resume: bool = False) -> None:
    """Serve the pipelines: start scheduled runs and runs requested in Prefect's UI. Ctrl-C stops it.

    Each run is a process of its own. Runs whose process was killed are closed in MLflow and in Prefect.

    Example: `reprise serve --resume`

    Args:
        at_once: Maximum number of runs at the same time; others wait.
        resume: Resume interrupted runs automatically.
    """
    if at_once < 1:
        raise UserError(f"must be 1 or more, not {at_once}", where="--at-once")
    begin = start_server()
    from flows.deploy import serve as serve_flows

    begin()
    serve_flows(at_once, resume)


@app.command(group=OPERATE)
def schedule(
    recipe: str | None = None,
    /,
    *,
    cron: str | None = None,
    every: str | None = None,
    timezone: str | None = None,
    name: str | None = None,
    list: bool = False,
    remove: str | None = None,
    set: Set = None,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Run a recipe on a schedule. `reprise serve` has to be running to start the scheduled runs.

    Example: `reprise schedule chorales --cron "0 6 * * 1"` · `reprise schedule --list`

    Args:
        cron: Minute hour day month weekday; "0 6 * * 1": Mondays at 6:00.
        every: Interval instead of --cron: 30m, 6h, 1d, 2w.
        timezone: Time zone, e.g. Europe/Berlin (default: that of this machine).
        name: Name of the schedule (default: the recipe's name). Replaces a schedule of the same name.
        list: List the schedules.
        remove: Remove the schedule of this name.
    """
    asked = [bool(recipe), list, bool(remove)]
    if sum(asked) != 1 or (recipe and bool(cron) == bool(every)):
        raise UserError(
            "takes a recipe with --cron or --every, or --list, or --remove NAME",
            where="reprise schedule",
            hint='for example: reprise schedule chorales --cron "0 6 * * 1"',
        )
    only = {"--cron": cron, "--every": every, "--timezone": timezone, "--name": name, "--set": set}
    only |= {"--threads": threads, "--device": device != "auto"}
    if not recipe and (given := [option for option, value in only.items() if value]):
        raise UserError("only works with a recipe", where=given[0], hint="name the recipe, or leave the option out")
    from flows.timing import check_cron, check_timezone, parse_every

    parameters, when = {}, {}
    if recipe:
        when = {"cron": check_cron(cron)} if cron else {"every": parse_every(every or "")}
        when["timezone"] = check_timezone(timezone)
        parameters = _parameters(recipe, set or [], device, threads)
    begin = start_server()
    from components.console import table
    from flows.schedules import add_schedule, remove_schedule, schedules, set_aside

    begin()
    if remove:
        remove_schedule(remove)
        print(f"removed {remove}")
    elif recipe:
        name = name or str(checked_recipe(recipe, set, "auto").name)
        replaced, times = add_schedule(name, parameters, **when)
        shown = " and ".join(f"{time:%Y-%m-%d %H:%M}" for time in times)
        what = when.get("cron") or f"every {every}"
        print(f"{'replaced' if replaced else 'added'} {name}: {what}, {when['timezone']}; the next times: {shown}")
        print("next: reprise serve    (starts the scheduled runs; see also: reprise schedule --list)")
    for each in set_aside():
        print(f"warning: {each}; it is switched off because it would block all other schedules", file=sys.stderr)
    if list:
        table("schedules", ["name", "runs", "when", "next"], schedules())


@app.command(group=OPERATE)
def tidy() -> None:
    """Close runs left open by killed processes, in MLflow and in Prefect, and send their unsent metrics.

    Every run does this at its start, and `reprise serve` every 30 seconds.

    Example: `reprise tidy`
    """
    begin = start_server()
    from flows.reaper import tidy as close

    begin()
    closed = close()
    print(f"closed {len(closed.runs)} runs in MLflow and {len(closed.flow_runs)} in Prefect")
    for run_id in closed.runs:
        print(f"  reprise resume {run_id[:8]}")


def _parameters(recipe: str, overrides: list[str], device: str, threads: int) -> dict[str, object]:
    """Parameters of the scheduled flow. File paths are absolute, because it starts in another folder."""
    from components.runs.asked import ask

    checked_recipe(recipe, overrides, device)
    asked = ask(recipe, overrides)
    return {"recipe": asked.words[0], "overrides": asked.anywhere, "device": device, "threads": threads}
