"""Weights that a training takes over: initial weights from a model or from a file of another library, and language
models whose states are features."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from components.errors import UserError
from components.models.letter_models import WHERE
from components.recipe import Recipe
from components.runs.generate import exactly, open_model
from components.runs.places import recipe_names
from components.tracking.mlflow_backend import MlflowRun
from components.training.foreign import ENDINGS, named_file
from components.training.imported import check_fit, read_weights, take_file
from components.training.letter_models import described, take_letter_models
from components.training.session import Session


def override(given: str) -> str:
    """The setting for `--from`; a model is replaced by its exact version.

    Raises:
        UserError: there is neither such a model nor such a file of weights.
    """
    if named_file(given):
        return f"training.start={json.dumps(given, ensure_ascii=False)}"
    if Path(given).suffix and Path(given).is_file():
        hint = f"supported endings: {', '.join(ENDINGS)}"
        raise UserError(f"{given} isn't a file of weights that Reprise can read", where="--from", hint=hint)
    return f"training.start={exactly(given)}"


def check_start(recipe: Recipe) -> None:
    """Check early that a recipe's models exist, or that its file of initial weights can be read and has the right
    layers.

    Raises:
        UserError: there is no such model, the file can't be read, or its layers don't fit.
    """
    _letter_models(recipe)
    start = recipe.training["start"]
    if start and named_file(start):
        check_fit(read_weights(start), recipe.model)
    elif start:
        exactly(start)


def begin(start: str, session: Session, tracked: MlflowRun) -> list[str]:
    """Load the initial weights into a session's model. Returns notes, a line each. What was taken from a file is logged
    as `start.json`.

    Raises:
        UserError: the weights can't be read or don't fit.
    """
    if not named_file(start):
        return [f"{start}: {line}" for line in session.start_from(open_model(start).bundle).told()]
    taken = take_file(session.model, read_weights(start), session.recipe.model)
    facts = taken.facts()
    layers = "; ".join(f"{mine} from {one['from']}" for mine, one in facts["taken"].items())
    tracked.tags({"start.sha256": facts["sha256"], "start.layers": layers})
    tracked.text(json.dumps(facts, indent=1, ensure_ascii=False), "start.json")
    return [f"{taken.source.path.name}: {line}" for line in taken.told()]


def with_letter_models(recipe: Recipe) -> Recipe:
    """The recipe with exact versions and descriptions of its `letter_models`, so that it and the bundle are complete
    without the registry.

    Raises:
        UserError: there is no such model, or it isn't a language model of characters.
    """
    if not (asked := _letter_models(recipe)):
        return recipe
    found = tuple(described(one, open_model(one).bundle) for one in asked)
    return replace(recipe, model={**recipe.model, "letter_models": found})


def begin_letter_models(session: Session) -> list[str]:
    """Copy the weights of the recipe's `letter_models` into a session's model. Returns notes, a line each."""
    given = session.recipe.model.get("letter_models")
    if not given:
        return []
    train = session.store.split("train").fields["input"]
    return take_letter_models(session.model, session.encoding.input, train, given, lambda one: open_model(one).bundle)


def _letter_models(recipe: Recipe) -> list[str]:
    """Exact selectors of `model.letter_models`, which has names or descriptions."""
    given = [one if isinstance(one, str) else one.get("model") for one in recipe.model.get("letter_models") or ()]
    if not all(isinstance(one, str) for one in given):
        raise UserError("must be names of models", where=WHERE, hint="for example [letters@champion]")
    found = []
    for selector in given:
        try:
            found.append(exactly(selector))
        except UserError as error:
            name = selector.partition("@")[0]
            trained = error.what.startswith("unknown model") and name in recipe_names()
            hint = f"`reprise run {name}` trains it" if trained else error.hint
            raise UserError(error.what, where=WHERE, hint=hint) from None
    return found
