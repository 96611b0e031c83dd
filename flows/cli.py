"""The command line. Heavy libraries are imported inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from components.errors import UserError

app = App(
    name="reprise",
    help="Train, compare and use recurrent neural networks on sequences.",
    version_flags=["--version"],
    help_format="markdown",
)
START, LOOK, USE = Group.create_ordered("Train"), Group.create_ordered("Look"), Group.create_ordered("Use")

Set = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="Override a setting: KEY=VALUE, e.g. training.steps=500. Repeatable."),
]
Device = Annotated[str, Parameter(help="auto, cpu or cuda.")]
Threads = Annotated[int, Parameter(help="CPU threads; 0 = one for each core.")]


@app.command(group=START)
def run(recipe: str, /, *, set: Set = None, device: Device = "auto", threads: Threads = 0) -> None:
    """Run a recipe from its data to a registered model and what it writes.

    RECIPE is a name from `reprise recipes` or a YAML file of your own.

    Example: `reprise run chorales` · `reprise run shakespeare-chars --set data.path=my.txt`
    """
    _checked(recipe, set, device)
    begin = _server()
    from flows.pipeline import pipeline

    begin()
    from flows.summary import show

    show(pipeline(recipe, set or [], device, threads))


@app.command(group=START)
def resume(run: str = "latest", /) -> None:
    """Go on with a run that was stopped or killed, from its last checkpoint, bit for bit.

    RUN is a run's id (or its first letters), its name, or "latest".

    Example: `reprise resume latest`
    """
    from flows.places import places
    from flows.runs import find_run

    run_id = find_run(run, places()).ref.run_id
    begin = _server()
    from flows.pipeline import resume as resume_flow

    begin()
    from flows.summary import show

    show(resume_flow(run_id))


@app.command(group=START)
def ingest(recipe: str, /, *, set: Set = None) -> None:
    """Fetch, read and encode a recipe's data, and say what was kept and dropped.

    Example: `reprise ingest names`
    """
    _checked(recipe, set, "auto")
    begin = _server()
    from flows.ingest import ingest_flow

    begin()
    print(ingest_flow(recipe, set or []).path)


@app.command(group=LOOK)
def recipes() -> None:
    """List the recipes.

    Example: `reprise recipes`
    """
    from flows.console import table
    from flows.places import RECIPES, recipe_names

    rows = []
    for name in recipe_names():
        lines = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        comment = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
        rows.append([name, comment.removeprefix(f"{name}:").strip()])
    table("recipes", ["name", "what to expect"], rows)
    print("next: reprise run NAME")


@app.command(group=LOOK)
def show(recipe: str, /, *, set: Set = None) -> None:
    """Show a recipe with every setting resolved, defaults included, as YAML that can be run.

    Example: `reprise show chorales --set model.kind=gru`
    """
    import json

    import yaml

    checked = _checked(recipe, set, "auto")
    print(f"# {checked.name}, digest {checked.digest[:12]}")
    print(yaml.safe_dump(json.loads(json.dumps(checked.as_dict())), sort_keys=False, allow_unicode=True), end="")


@app.command(group=LOOK)
def validate(recipe: str, /, *, set: Set = None) -> None:
    """Check a recipe and name every problem in it.

    Example: `reprise validate my-recipe.yaml`
    """
    checked = _checked(recipe, set, "auto")
    print(f"{checked.name} is valid, digest {checked.digest[:12]}. next: reprise run {recipe}")


@app.command(group=USE)
def generate(
    model: str,
    /,
    *,
    count: Annotated[int | None, Parameter(help="How many sequences.")] = None,
    seed: Annotated[int, Parameter(help="Same seed, same sequences.")] = 0,
    temperature: Annotated[
        float | None, Parameter(help="Below 1 safer, above 1 wilder, 0 always the likeliest.")
    ] = None,
    top_p: Annotated[float | None, Parameter(help="Sample from the fewest tokens that hold this probability.")] = None,
    top_k: Annotated[int | None, Parameter(help="Sample from the k likeliest tokens; 0 = all.")] = None,
    prompt: Annotated[str | None, Parameter(help='What to go on from; a metre such as "3/4" for chorales.')] = None,
    max_length: Annotated[int | None, Parameter(help="At most so many tokens.")] = None,
    out: Annotated[Path | None, Parameter(help="Folder for the files; else one under generated/.")] = None,
) -> None:
    """Generate with a registered model: NAME (its champion), NAME@champion, NAME@3 or NAME@latest.

    The same seed gives the same output; every file says how it was made (`reprise replay FILE`).

    Example: `reprise generate chorales@champion --count 4 --seed 7 --temperature 0.9 --top-p 0.95`
    """
    given = {
        "count": count,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "prompt": prompt,
        "max_length": max_length,
    }
    begin = _server()
    from flows.generate import generate_flow

    begin()
    overrides = {name: value for name, value in given.items() if value is not None}
    paths = generate_flow(model, overrides, seed, str(out) if out else None)
    for path in paths:
        print(path)
    for path in paths:
        if path.endswith(".txt"):
            from components.render.record import without_record

            print(without_record(Path(path).read_text(encoding="utf-8")), end="")


@app.command(group=USE)
def replay(
    file: Path,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="Folder for what is made again; else replayed/ beside the file.")
    ] = None,
) -> None:
    """Make a generated file again from the record inside it, and say whether it is the same, byte for byte.

    Example: `reprise replay generated/chorales-v1-seed0-3fa4c1/chorales-1.mid`
    """
    from flows.generate import replay as again

    paths, same = again(file, out)
    for path in paths:
        print(path)
    print(f"{file.name} is {'identical, byte for byte' if same else 'DIFFERENT from what was made now'}")
    if not same:
        raise SystemExit(1)


@app.command(group=LOOK)
def ui() -> None:
    """Start the MLflow UI and say where it and the Prefect UI are; Ctrl-C ends it.

    Example: `reprise ui`
    """
    from flows.ui import serve

    serve()


@app.command(group=LOOK)
def doctor() -> None:
    """Check the installation, the device and the stores.

    Example: `reprise doctor`
    """
    from flows.doctor import examine

    if not examine():
        raise SystemExit(1)


@app.command(group=USE)
def down() -> None:
    """Stop the Prefect server that Reprise keeps running between commands.

    Example: `reprise down`
    """
    from flows.places import places
    from flows.server import Server

    print("stopped the Prefect server" if Server(places().prefect).stop() else "no Prefect server of ours is running")


def _checked(recipe: str, overrides: list[str] | None, device: str) -> Any:
    """Read the recipe before anything is started, so that mistakes are told at once."""
    from components.recipe import read_recipe
    from flows.places import recipe_path

    checked = read_recipe(recipe_path(recipe), overrides or [])
    if device != "auto":
        from components.training.device import choose_device

        choose_device(device)
    return checked


def _server() -> Any:
    """Start the Prefect server if none answers; the function that it gives waits for it."""
    from flows.places import places
    from flows.server import Server

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    server = Server(places().prefect)
    server.begin()

    def wait() -> None:
        if server.wait() is None and "PREFECT_API_URL" not in os.environ:
            print(f"note: no Prefect server came up ({server.log}); using a temporary one", file=sys.stderr)

    return wait


def main() -> None:
    """The console command. A user's mistake is one message and exit code 2; Ctrl-C is 130; a failure is 1."""
    # read when torch is loaded: threads that spin at barriers make training several times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(result_action="return_value")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped. What was trained is kept: reprise resume latest", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if os.environ.get("REPRISE_DEBUG"):
            raise
        print(f"failed: {type(error).__name__}: {error}\n(REPRISE_DEBUG=1 shows where)", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
