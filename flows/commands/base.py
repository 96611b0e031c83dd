"""Shared by all commands: the program, its groups, common options, and the checks before anything starts."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter, validators

from components.errors import UserError

if TYPE_CHECKING:
    from components.runs.outcome import Outcome


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("reprise")
    except PackageNotFoundError:
        return "not installed: run from its folder"


app = App(
    name="reprise",
    version=_version,
    help="Train, compare and use recurrent neural networks on sequences.",
    version_flags=["--version"],
    help_format="markdown",
    default_parameter=Parameter(negative=""),  # no --no-OPTION
    suppress_keyboard_interrupt=False,  # flows/cli.py says what is saved and how to continue
)
START, LOOK, USE = Group.create_ordered("Train"), Group.create_ordered("Look"), Group.create_ordered("Use")
KEEP, OPERATE = Group.create_ordered("Keep"), Group.create_ordered("Operate")

# each takes a second or two to import, and every training needs both
MOST_PROCESSES = 256
SLOW = ("mlflow.pyfunc", "matplotlib.backends.backend_agg")

Set = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        help="Override a setting: KEY=VALUE, e.g. training.steps=500. KEY=null removes it. Repeatable; of two "
        "values for one setting the last applies.",
    ),
]
Name = Annotated[
    str | None,
    Parameter(help="Name of the experiment and the model (default: the recipe's name, plus that of your own data)."),
]
Device = Annotated[str, Parameter(help="Device to use: auto, cpu, cuda or cuda:N.")]
OwnThreads = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=1024))]  # described by the command
Threads = Annotated[OwnThreads, Parameter(help="Number of CPU threads; 0 = one per core.")]
Cluster = Annotated[
    str,
    Parameter(
        help="Address of a Dask scheduler, e.g. tcp://host:8786, or of Ray, e.g. ray://host:10001: runs go to its "
        "workers, not to this machine."
    ),
]


def offline_recipe(recipe: str) -> str:
    """The recipe that replaces this one without a network. Prints what that recipe is."""
    from components.runs.places import RECIPES, recipe_names

    known = recipe_names()
    if f"{recipe}-offline" not in known:
        having = [name for name in known if f"{name}-offline" in known]
        raise UserError(
            f"{recipe} has no offline recipe", where="--offline", hint=f"recipes that have one: {', '.join(having)}"
        )
    comment = (RECIPES / f"{recipe}-offline.yaml").read_text(encoding="utf-8").partition("\n")[0]
    print(comment.removeprefix("#").strip())
    return f"{recipe}-offline"


def checked_recipe(recipe: str, overrides: list[str] | None, device: str, name: str | None = None) -> Any:
    """Read and check the recipe before anything is started."""
    from components.runs.asked import ask

    checked = ask(recipe, overrides, name).recipe()
    check_models(checked)
    if device != "auto":
        from components.training.device import choose_device

        choose_device(device)
    return checked


def check_models(checked: Any) -> None:
    """Check that the models and the file of weights that a recipe names exist."""
    if checked.training["start"] or checked.model.get("letter_models"):
        from components.runs.start import check_start

        check_start(checked)


def run_recipe(
    recipe: str, overrides: list[str], device: str, threads: int, name: str | None, processes: int = 1
) -> Outcome:
    """Run a recipe in this process. Starts the Prefect server if needed."""
    if not 1 <= processes <= MOST_PROCESSES:
        raise UserError(f"takes 1 to {MOST_PROCESSES}, not {processes}", where="--processes")
    begin = start_server(lambda: checked_recipe(recipe, overrides, device, name), trains=True)
    from flows.pipeline import pipeline

    begin()
    return pipeline(recipe, overrides, device, threads, name, processes)


def server_address() -> str | None:
    """Address of Prefect's UI; None if our server doesn't answer."""
    from components.runs.places import places
    from flows.server import Server

    return Server(places().prefect).url()


def start_server(check: Callable[[], object] | None = None, *, trains: bool = False) -> Callable[[], None]:
    """Start the Prefect server if none answers.

    Returns a function that waits for the server. With `trains`, it also opens the tracking store and imports slow
    libraries in the meantime. `check` is called while the server starts; if it raises, a server started here is
    stopped.
    """
    from components.runs.places import places
    from components.tracking.mlflow_client import open_client
    from flows.server import Server

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    server = Server(places().prefect)
    started = server.begin()
    try:
        if check:
            check()
    except BaseException:
        if started:
            server.stop()
        raise

    def wait() -> None:
        if trains:
            open_client(places().settings)
            for name in SLOW:
                if not server.url():
                    importlib.import_module(name)
        if server.wait() is None and "PREFECT_API_URL" not in os.environ:
            print(f"note: the Prefect server did not start ({server.log}); using a temporary one", file=sys.stderr)

    return wait
