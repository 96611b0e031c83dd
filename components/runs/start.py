"""What a training begins with: the weights of a model, or those that another library saved in a file."""

from __future__ import annotations

import json
from pathlib import Path

from components.errors import UserError
from components.recipe import Recipe
from components.runs.generate import exactly, open_model
from components.tracking.base import Run
from components.training.foreign import ENDINGS, named_file
from components.training.imported import check_fit, read_weights
from components.training.session import Session


def override(given: str) -> str:
    """The setting that `--from` stands for; a model's version is named exactly.

    Raises:
        UserError: there is no such model, and no such file of weights.
    """
    if named_file(given):
        return f"training.start={json.dumps(given, ensure_ascii=False)}"
    if Path(given).suffix and Path(given).is_file():
        hint = f"files of weights end in {', '.join(ENDINGS)}"
        raise UserError(f"{given} is no file of weights that is read", where="--from", hint=hint)
    return f"training.start={exactly(given)}"


def check_start(recipe: Recipe) -> None:
    """Check, before anything is done, that there is the model which a recipe starts from; that a file can be read and
    has such layers.

    Raises:
        UserError: there is none, the file can't be read, or it has others.
    """
    start = recipe.training["start"]
    if start and named_file(start):
        check_fit(read_weights(start), recipe.model)
    elif start:
        exactly(start)


def begin(start: str, session: Session, tracked: Run) -> list[str]:
    """Give a session's model the weights that it starts from; what a person should know, in lines. The run gets what a
    file gave as `start.json`.

    Raises:
        UserError: they can't be read, or don't fit.
    """
    if not named_file(start):
        return [f"{start}: {line}" for line in session.start_from(open_model(start).bundle).told()]
    taken = session.start_from_file(read_weights(start))
    facts = taken.facts()
    layers = "; ".join(f"{mine} from {one['from']}" for mine, one in facts["taken"].items())
    tracked.tags({"start.sha256": facts["sha256"], "start.layers": layers})
    tracked.text(json.dumps(facts, indent=1, ensure_ascii=False), "start.json")
    return [f"{taken.source.path.name}: {line}" for line in taken.told()]
