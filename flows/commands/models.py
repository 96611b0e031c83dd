"""Commands that look after registered models."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from components.paths import output_file
from flows.commands.base import KEEP, app

Json = Annotated[bool, Parameter(negative="", help="As JSON on standard output, for programs.")]


def _print(value: object) -> None:
    print(json_module.dumps(value, ensure_ascii=False, indent=1))


def _tell(moved: Any, json: bool) -> None:
    if json:
        _print(asdict(moved))
    else:
        print("\n".join(moved.lines()))


@app.command(group=KEEP)
def models(name: str | None = None, /, *, json: Json = False) -> None:
    """List the registered models; with NAME its versions, and who was champion when.

    Example: `reprise models` · `reprise models chorales --json`
    """
    from components.runs import models as registry

    if json:
        _print(registry.listing() if name is None else [registry.facts(v) for v in registry.store().versions(name)])
    elif name is None:
        registry.show_models()
    else:
        registry.show_versions(name)


@app.command(group=KEEP)
def promote(
    model: str,
    /,
    *,
    force: Annotated[
        bool, Parameter(negative="", help="Also a model that its recipe's accept refuses; the reason is recorded.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a version champion: NAME@3, NAME@challenger, or run:ID for a run's model that wasn't registered.

    Example: `reprise promote chorales@3`
    """
    from components.runs import models as registry

    _tell(registry.promote(model, force=force), json)


@app.command(group=KEEP)
def rollback(name: str, /, *, json: Json = False) -> None:
    """Make the former champion champion again; a second time, the one before it.

    Example: `reprise rollback chorales`
    """
    from components.runs import models as registry

    _tell(registry.rollback(name), json)


@app.command(group=KEEP)
def diff(
    one: str,
    other: str,
    /,
    *,
    seed: Annotated[int, Parameter(help="Of the samples that both write.")] = 0,
    json: Json = False,
) -> None:
    """Compare two versions: recipe, data, figures, and what both write or answer.

    Example: `reprise diff chorales@champion chorales@challenger`
    """
    from components.runs import differences

    found = differences.between(one, other, seed=seed)
    if json:
        _print(found)
    else:
        differences.show(found)


@app.command(group=KEEP)
def export(
    model: str,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="The new folder; else NAME-vVERSION here.")] = None,
) -> None:
    """Copy a version into a folder of its own, with the code that serves it: every file verified, and no other.

    `mlflow.pyfunc.load_model` and `mlflow models serve` run the code in a model's folder: give them this one.

    Example: `reprise export chorales@3 --out chorales-3`
    """
    from components.runs import models as registry

    print(registry.export(model, out))


@app.command(group=KEEP)
def report(
    recipe: str,
    /,
    *,
    run: Annotated[
        str | None, Parameter(help="The run to show whole (the beginning of its id); else the best.")
    ] = None,
    out: Annotated[Path | None, Parameter(help="The HTML file to write; else RECIPE-report.html here.")] = None,
) -> None:
    """Write a recipe's runs as one HTML file: figures, curves, what varied, pictures, samples, sound.

    The file needs no network and no server: it opens wherever it is sent.

    Example: `reprise report chorales --out chorales.html`
    """
    from components.runs.report import write

    print(write(recipe, run, output_file(out or f"{Path(recipe).stem}-report.html", where="--out")))
