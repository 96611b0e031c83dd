"""Commands that manage registered models."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from components.paths import output_file
from flows.commands.base import KEEP, app

Json = Annotated[bool, Parameter(help="Print JSON to standard output.")]


def _print(value: object) -> None:
    print(json_module.dumps(value, ensure_ascii=False, indent=1))


def _tell(moved: Any, json: bool) -> None:
    if json:
        _print(asdict(moved))
    else:
        print("\n".join(moved.lines()))


@app.command(group=KEEP)
def models(name: str | None = None, /, *, json: Json = False) -> None:
    """List the registered models. With NAME, list its versions and its history of champions.

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
def promote(model: str, /, *, force: bool = False, json: Json = False) -> None:
    """Make a version the champion.

    MODEL is NAME@3, NAME@challenger, or run:ID for the model of a run that wasn't registered.

    Example: `reprise promote chorales@3`

    Args:
        force: Promote even if the recipe's accept bounds fail. The reason is recorded.
    """
    from components.runs import models as registry

    _tell(registry.promote(model, force=force), json)


@app.command(group=KEEP)
def rollback(name: str, /, *, json: Json = False) -> None:
    """Restore the previous champion. Repeat to go further back.

    Example: `reprise rollback chorales`
    """
    from components.runs import models as registry

    _tell(registry.rollback(name), json)


@app.command(group=KEEP)
def diff(one: str, other: str, /, *, seed: int = 0, json: Json = False) -> None:
    """Compare two versions: recipe, data, metrics, and samples or predictions.

    Example: `reprise diff chorales@champion chorales@challenger`

    Args:
        seed: Seed of the samples from both versions.
    """
    from components.runs import differences

    found = differences.between(one, other, seed=seed)
    if json:
        _print(found)
    else:
        differences.show(found)


@app.command(group=KEEP)
def export(model: str, /, *, onnx: bool = False, safetensors: bool = False, out: Path | None = None) -> None:
    """Copy a version, with the code that serves it, into a new folder. Every file is verified by its digest.

    Use the copy with `mlflow.pyfunc.load_model` and `mlflow models serve`: both run code from the model's folder. The
    other forms hold no code of Reprise.

    Example: `reprise export chorales@3 --out chorales-3` · `reprise export names --onnx`

    Args:
        onnx: Write one step of a language model as ONNX, to run without Python.
        safetensors: Write a folder in the form of the Hugging Face Hub, with a model card.
        out: The folder to create (default: NAME-vVERSION in the current folder).
    """
    from components.errors import UserError
    from components.runs import models as registry

    if onnx and safetensors:
        raise UserError("--onnx and --safetensors can't be used together", hint="give one of them")
    print(registry.export(model, out, "onnx" if onnx else "safetensors" if safetensors else ""))


@app.command(group=KEEP)
def report(recipe: str, /, *, run: str | None = None, out: Path | None = None) -> None:
    """Write a report on a recipe's runs as one HTML file: metrics, curves, settings, pictures, samples, sound.

    The file is self-contained: it needs no network and no server.

    Example: `reprise report chorales --out chorales.html`

    Args:
        run: The run to show in full, by the start of its id (default: the best run).
        out: The HTML file to write (default: RECIPE-report.html in the current folder).
    """
    from components.runs.report import write

    print(write(recipe, run, output_file(out or f"{Path(recipe).stem}-report.html", where="--out")))
