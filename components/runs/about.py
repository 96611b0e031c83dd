"""The description of a recipe: the opening comment of its file, with one line for `reprise recipes`.

    # names: next-character model of first names …
    # table: nothing → a first name | 1.97 nats/char | 1 min

The table line gives input → output, the metric on test, and the training time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.recipe import Recipe, load_yaml, read_recipe
from components.registry import resolve
from components.runs.asked import typed
from components.runs.places import recipe_path

TABLE = "table:"


@dataclass(frozen=True)
class About:
    """The description of a recipe in its file. Missing parts are ""."""

    name: str
    comment: list[str]
    does: str  # input → output
    data: str
    figure: str
    time: str

    @property
    def row(self) -> list[str]:
        return [self.name, self.does, self.data, self.figure, self.time]


def read_about(path: Path) -> About:
    """Read the description of a recipe from a YAML file, without checking the recipe.

    Raises:
        UserError: the file can't be read as a recipe, or its `# table:` line doesn't have three cells.
    """
    data, comment = _data(load_yaml(path)), opening_comment(path)
    listed = [line for line in comment if line.startswith(TABLE)]
    cells = [cell.strip() for cell in listed[0].removeprefix(TABLE).split("|")] if listed else ["", "", ""]
    if len(cells) != 3 or len(listed) > 1:
        hint = f"for example: # {TABLE} in → out | figure | time"
        raise UserError(f"the comment needs exactly one line `{TABLE}` with three cells", where=str(path), hint=hint)
    does, figure, time = cells
    return About(path.stem, [line for line in comment if line not in listed], does, data, figure, time)


def following(recipe: str) -> list[str]:
    """The commands that run a recipe, show it, and use the resulting model.

    Raises:
        UserError: there is no such recipe, or it has problems.
    """
    checked = read_recipe(recipe_path(recipe))
    return [typed("run", [recipe]), typed("show", [recipe]), using(checked, checked.name)]


def using(recipe: Recipe, selector: str) -> str:
    """The command that uses a model of a recipe."""
    from components.encodings.pair import make

    if resolve("task", recipe.task["kind"]).settings:
        return typed("generate", [selector, "--seed", "1"])
    text = make(recipe.encoding).reads in ("text", "symbols")
    return typed("predict", [selector, *(["--text", "TEXT"] if text else ["--file", "FILE"])])


def opening_comment(path: Path) -> list[str]:
    """The lines of the comment at the start of the file, without "#"."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return lines


def _data(values: dict[str, Any]) -> str:
    """The card of the data, or the reader that makes them; with a star if no network is needed."""
    from components.datasets.cards import load_card

    data = values.get("data")
    if not isinstance(data, dict):
        return ""
    if not (name := data.get("dataset")):
        return "your own" if data.get("path") else "made by Reprise*"
    return f"{name}*" if load_card(name).package else name
