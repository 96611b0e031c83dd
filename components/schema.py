"""Which class or function each recipe section configures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.recipe import check_options
from components.registry import names, resolve


def targets(section: str, kind: str | None = None) -> list[Any]:
    """The classes and functions whose keyword-only parameters are the section's settings."""
    if section == "encoding":
        return [resolve("encoding", kind or "")]
    if section == "task":
        return [resolve("task", kind or "")]
    if section == "model":
        from components.models.sequence_model import SequenceModel

        return [SequenceModel, resolve("cell", kind or "")]
    if section == "training":
        from components.training.optim import make_optimizer
        from components.training.schedule import Schedule
        from components.training.trainer import Trainer

        return [Trainer, make_optimizer, Schedule]
    if section == "evaluation":
        from components.evaluation.evaluator import Evaluator

        return [Evaluator]
    from components.generation.sampling import Settings

    return [Settings]


DATA = {
    "dataset": (str | None, None),
    "path": (str | None, None),
    "reader": (str | None, None),
    "split": (tuple[float, float, float] | None, None),
}


def check_data(values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The data section: a card of the catalogue, or a path of one's own with a reader, and the reader's options.

    A `path` (relative to where the command runs) takes the place of the card's files.
    """
    from components.datasets.cards import load_card
    from components.datasets.splits import DEFAULT_SPLIT, split_fractions

    dataset, path, reader = (values.get(key) for key in ("dataset", "path", "reader"))
    if not isinstance(dataset, str) and not isinstance(path, str):
        problems.append("data: set dataset (a card in data/catalogue) or path (a file of your own)")
        return {}
    card = None
    if isinstance(dataset, str):
        try:
            card = load_card(dataset)
        except UserError as error:
            problems.append(
                f"data.dataset: {error.what} ({error.hint})" if error.hint else f"data.dataset: {error.what}"
            )
            return {}
    reader = reader or (card.reader if card else "text")
    try:
        target = resolve("reader", reader)
    except UserError:
        problems.append(f"data.reader: unknown reader {reader!r} (choices: {', '.join(names('reader'))})")
        return {}
    checked = check_options("data", values, [target], problems, extra=DATA)
    if not checked:
        return {}
    checked["reader"] = reader
    if checked["path"] is not None:
        # a file of one's own in place of the card's; its reader and split stay the recipe's
        checked |= {"dataset": None, "path": str(Path(checked["path"]).expanduser().resolve())}
    checked["split"] = checked["split"] or (tuple(card.split) if card else DEFAULT_SPLIT)
    try:
        split_fractions(checked["split"])
    except UserError as error:
        problems.append(f"data.split: {error.what}: {error.hint}")
    return checked


def check_accept(accept: Mapping[str, str]) -> list[str]:
    """Problems in the form of the bounds; whether a metric exists is only known after evaluation."""
    from components.tracking.promotion import parse_condition

    problems = []
    for metric, bound in accept.items():
        try:
            parse_condition(bound)
        except UserError as error:
            problems.append(f"accept.{metric}: {error.what}")
    return problems
