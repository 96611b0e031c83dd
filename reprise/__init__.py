"""Reprise in Python: use a trained model, or train one.

    import reprise

    names = reprise.load("names@champion")
    print(names.generate(count=5, seed=7))

Invalid input raises `reprise.UserError`, which says what is wrong, where, and how to fix it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from reprise.model import Model

if TYPE_CHECKING:
    from components.runs.outcome import Outcome

__all__ = ["Model", "UserError", "load", "run"]


def load(model: str, *, language_model: str | None = None, device: str = "cpu") -> Model:
    """Load a trained model.

    Args:
        model: A registered model: NAME (its champion), NAME@champion, NAME@3 or NAME@latest. Or "run:ID", the model of
            a run on this machine, registered or not.
        language_model: A character model, named in the same way. It improves the spelling of a speech model.
        device: auto, cpu, cuda or cuda:N. A GPU is faster for many examples. With the same seed, its generated output
            may differ from the CPU's.

    Raises:
        UserError: There is no such model, version or run; its files have changed since they were saved; or the two
            models don't fit together.
        TypeError: A name isn't a string.
    """
    for name, given in (("model", model), ("language_model", language_model)):
        if not isinstance(given, str) and not (name == "language_model" and given is None):
            hint = "a registered model, as NAME, NAME@3 or NAME@latest, or the model of a run, run:ID"
            raise TypeError(f"{name} is a string, not {type(given).__name__}: {hint}")
    _before_torch()
    from components.runs.generate import open_model
    from components.use.lines import with_language_model

    opened = open_model(model, device)
    if language_model:
        with_language_model(opened.bundle, open_model(language_model, device).bundle)
    return Model(opened)


def run(
    recipe: str | os.PathLike[str],
    *,
    name: str | None = None,
    device: str = "auto",
    threads: int = 0,
    processes: int = 1,
    **settings: Any,
) -> Outcome:
    """Run a recipe: read the data, train, evaluate, register the model, and generate samples.

    Starts a Prefect server if none answers. It keeps running; `reprise down` stops it.

    Args:
        recipe: The name of a recipe from `reprise recipes`, or the path of a YAML file.
        name: Name of the experiment and the model. Default: the recipe's name, plus that of your own data.
        device: auto, cpu, cuda or cuda:N.
        threads: Number of CPU threads; 0 is one per core.
        processes: Number of training processes; they share the threads or the GPUs.
        settings: Settings that replace the recipe's, by section: training={"steps": 500}, seed=3. Use dots for nested
            settings: encoding={"input.grid": 2}. None removes a setting.

    Returns:
        The outcome: `metrics` (by name, e.g. "test/accuracy"), `model` (the registered version, or None if the
        recipe's `accept` bounds refused it), `files`, `run_id` and `url`. `reprise.load(outcome.selector)` loads the
        model.

    Raises:
        UserError: There is no such recipe, or a setting doesn't exist or is invalid. Nothing has been started then.
    """
    overrides = _overrides(settings)
    _before_torch()
    from flows.commands.base import run_recipe

    return run_recipe(os.fspath(recipe), overrides, device, threads, name, processes)


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    """Convert settings by section to the `KEY=VALUE` form of the command line."""
    flat: dict[str, Any] = {}
    for section, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{section}.{key}": one for key, one in value.items()}
        else:
            flat[section] = value
    try:
        write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=os.fspath).encode
        return [f"{key}={write(value)}" for key, value in flat.items()]
    except (TypeError, ValueError) as error:
        raise UserError(f"a setting can't be written as YAML: {error}", where="settings") from None


def _before_torch() -> None:
    """Stop OpenMP threads from spinning: it is several times slower on a busy machine. torch reads this once."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
