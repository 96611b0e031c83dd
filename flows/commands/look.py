"""Commands that show recipes, runs and the installation."""

from __future__ import annotations

from flows.commands.base import LOOK, Name, Set, app, check_models


@app.command(group=LOOK)
def recipes(recipe: str | None = None, /) -> None:
    """List the recipes. With RECIPE, describe it and show how to run it.

    Example: `reprise recipes` · `reprise recipes names`
    """
    from components.console import lines
    from components.runs.about import following, read_about
    from components.runs.places import recipe_names, recipe_path

    if recipe is not None:
        about, after = read_about(recipe_path(recipe)), following(recipe)
        print("\n".join(about.comment))
        cells = zip(("in → out", "data", "on test", "time"), about.row[1:], strict=True)
        print("\n".join(f"{column:<8}  {cell}" for column, cell in cells if cell))
        print(f"next: {'; '.join(after)}")
        return
    rows = [read_about(recipe_path(name)).row for name in recipe_names()]
    lines(["recipe", "in → out", "data", "on test", "time"], rows)
    print("time: training time on one or two cores of a shared server. *: needs no network; others download once.")
    print("next: reprise recipes NAME; reprise run NAME")


@app.command(group=LOOK)
def show(recipe: str, /, *, set: Set = None) -> None:
    """Print a recipe as YAML with every setting, defaults included. The output is a valid recipe.

    Example: `reprise show chorales --set model.kind=gru`
    """
    from components.runs.asked import ask

    checked = ask(recipe, set).recipe()
    print(f"# {checked.name}, digest {checked.digest[:12]}")
    print(checked.as_yaml(), end="")


@app.command(group=LOOK)
def validate(recipe: str, /, *, set: Set = None, name: Name = None) -> None:
    """Check a recipe and list every problem in it. Also checks the data files at `data.path`.

    Example: `reprise validate my-recipe.yaml`
    """
    from components.idle import idle
    from components.runs.asked import ask, typed, words_of

    asked = ask(recipe, set, name)
    checked = asked.recipe()
    looked = ""
    check_models(checked)
    if checked.data["path"]:
        from components.runs.preview import preview

        looked = preview(checked)
    for note in [*asked.notes, *([looked] if looked else [])]:
        print(f"note    {note}")
    for line in idle(checked.as_dict()):
        print(f"warning {line}")
    print(f"{checked.name} is valid, digest {checked.digest[:12]}. next: {typed('run', words_of(recipe, set, name))}")


@app.command(group=LOOK)
def schema() -> None:
    """Print the JSON Schema of recipes, for completion and checking in an editor.

    Example: `reprise schema > recipe.schema.json`
    """
    import json

    from components.recipe_schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=1, ensure_ascii=False))


@app.command(group=LOOK)
def ui(*, port: int | None = None, playground: int = 8000) -> None:
    """Serve MLflow's UI and the playground, and print their addresses and that of Prefect's UI. Ctrl-C stops them.

    Example: `reprise ui --port 5001`

    Args:
        port: Port of MLflow's UI (default: ui.port in mlflow.yaml).
        playground: Port of the playground.
    """
    from flows.ui import serve

    serve(port, playground)


@app.command(group=LOOK)
def doctor() -> None:
    """Check the installation, the device, and the tracking and artifact stores.

    Example: `reprise doctor`
    """
    from flows.doctor import examine

    if not examine():
        raise SystemExit(1)


@app.command(group=LOOK)
def build() -> None:
    """Compile the native kernels and the decoding engine now instead of on first use.

    Example: `reprise build`
    """
    from components.generation.native.decode import decoder
    from components.kernels.native.build import build as build_kernels

    built = build_kernels()
    print(f"kernels   {built.path} ({built.instruction_set}{f', {built.seconds:.0f} s' if built.seconds else ''})")
    print(f"decoding  {decoder().contents.name.decode()}")
