"""Commands that show what there is."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows.commands.base import LOOK, Name, Set, app, checked_recipe


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

    checked = checked_recipe(recipe, set, "auto")
    print(f"# {checked.name}, digest {checked.digest[:12]}")
    print(yaml.safe_dump(json.loads(json.dumps(checked.as_dict())), sort_keys=False, allow_unicode=True), end="")


@app.command(group=LOOK)
def validate(recipe: str, /, *, set: Set = None, name: Name = None) -> None:
    """Check a recipe and name every problem in it; look into the files of your own that it reads.

    Example: `reprise validate my-recipe.yaml`
    """
    from flows.asked import ask, typed, words_of

    asked = ask(recipe, set, name)
    checked = asked.recipe()
    looked = ""
    if checked.data["path"]:
        from flows.preview import preview

        looked = preview(checked)
    for note in [*asked.notes, *([looked] if looked else [])]:
        print(f"note    {note}")
    print(f"{checked.name} is valid, digest {checked.digest[:12]}. next: {typed('run', words_of(recipe, set, name))}")


@app.command(group=LOOK)
def ui(
    *,
    port: Annotated[int | None, Parameter(help="Of MLflow's UI, else ui.port of mlflow.yaml.")] = None,
    playground: Annotated[int, Parameter(help="The playground's port.")] = 8000,
) -> None:
    """Serve MLflow's UI and the playground, and say where they and Prefect's UI are; Ctrl-C ends them.

    Example: `reprise ui --port 5001`
    """
    from flows.ui import serve

    serve(port, playground)


@app.command(group=LOOK)
def doctor() -> None:
    """Check the installation, the device and the stores.

    Example: `reprise doctor`
    """
    from flows.doctor import examine

    if not examine():
        raise SystemExit(1)


@app.command(group=LOOK)
def build() -> None:
    """Compile the native kernels and the decoding engine now, instead of when they are first needed.

    Example: `reprise build`
    """
    from components.generation.native.library import decoder
    from components.kernels.native.build import build as build_kernels

    built = build_kernels()
    print(
        f"kernels   {built.path} ({built.instruction_set}{f', {built.seconds:.0f} s' if built.seconds else ', there'})"
    )
    print(f"decoding  {decoder().contents.name.decode()}")
