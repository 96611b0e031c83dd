"""The space of a search: settings by dotted key, each with choices or a range; checked before the search starts."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from components.errors import UserError
from components.recipe import Recipe, apply_override
from components.runs.asked import Asked, ask
from components.runs.plan import Budget, resolve
from components.yaml_text import parse_yaml

SECTIONS = ("model.", "training.")  # others change the metric or the data
EQUAL = ("training.steps", "training.seconds", "training.checkpoint_seconds")  # fixed by the budget
MAX_TRIALS, MAX_JOBS, MAX_CHOICES = 10_000, 256, 100
SIGNIFICANT = 3  # digits of a drawn number, so that printed settings are exactly those that were tried


@dataclass(frozen=True)
class Dimension:
    """One setting: one of `choices`, or a range from `low` to `high` (integers if both are), on a logarithmic scale
    with `log`."""

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to check before a search starts."""
        return self.choices or (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether the value is in the space."""
        if self.choices:
            return any(type(choice) is type(value) and choice == value for choice in self.choices)
        number = isinstance(value, int) if self.whole else isinstance(value, int | float)
        return number and not isinstance(value, bool) and self.low <= value <= self.high

    def value(self, drawn: Any) -> Any:
        """The setting for a drawn value: rounded to a few digits, within the range."""
        if self.choices or self.whole:
            return drawn
        return min(max(float(f"{drawn:.{SIGNIFICANT}g}"), self.low), self.high)

    def __str__(self) -> str:
        """The notation of the command line."""
        if self.choices:
            return f"{self.key}={','.join(json.dumps(choice) for choice in self.choices)}"
        return f"{self.key}={'log:' if self.log else ''}{self.low!r}..{self.high!r}"


@dataclass(frozen=True)
class Search:
    """A search: the unchanged recipe, and the settings to vary."""

    name: str
    values: Mapping[str, Any]  # the YAML file with the overrides and the budget
    recipe: Recipe
    dimensions: Sequence[Dimension]
    budget: Budget
    asked: Asked = field(compare=False)

    def trial(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe with these settings. Raises UserError if they don't go together."""
        values = copy.deepcopy(dict(self.values))
        for key, value in settings.items():
            apply_override(values, f"{key}={json.dumps(value)}")
        checked = Recipe.from_dict(self.name, values, where=self.asked.where)
        return replace(checked, generation=self.recipe.generation)  # already checked against the data

    def own_settings(self) -> dict[str, Any] | None:
        """The settings of the unchanged recipe, if they are in the space."""
        mine = {dimension.key: _get(self.recipe, dimension.key) for dimension in self.dimensions}
        return mine if all(dimension.holds(mine[dimension.key]) for dimension in self.dimensions) else None


def make_search(
    recipe: str,
    space: Sequence[str],
    overrides: Sequence[str] = (),
    budget: str | None = None,
    steps: int | None = None,
    trials: int = 30,
    jobs: int = 1,
    name: str | None = None,
) -> Search:
    """Make the search for a recipe (a name or a YAML file). An empty `space` gets a default one for the recipe's model.
    `name` is the name of the experiment.

    Raises:
        UserError: a setting is wrong; all invalid range ends and choices are reported together.
    """
    for option, number, most in (("--trials", trials, MAX_TRIALS), ("--jobs", jobs, MAX_JOBS)):
        if not 1 <= number <= most:
            raise UserError(f"must be from 1 to {most:,}, not {number:,}", where=option)
    asked = ask(recipe, overrides, name)
    values = copy.deepcopy(asked.values)
    spent = Budget.parse(budget, steps)
    for key, given in spent.settings.items():
        apply_override(values, f"{key}={given!r}")
    checked = Recipe.from_dict(asked.name, values, where=asked.where)
    dimensions = parse_space(space) if space else default_space(checked)
    choices = [{dimension.key: value} for dimension in dimensions for value in dimension.ends]
    resolve(asked.name, values, choices, where=asked.where, again=recipe)
    return Search(asked.name, values, checked, dimensions, spent, asked)


def parse_space(space: Sequence[str]) -> list[Dimension]:
    """Parse "KEY=64,128", "KEY=0.0..0.5" and "KEY=log:1e-4..1e-2".

    Raises:
        UserError: none of these, a duplicate key, or a setting that can't be searched.
    """
    found: dict[str, Dimension] = {}
    for item in space:
        key, equals, text = (part.strip() for part in item.partition("="))
        where = f"--space {key}"
        if not equals or not text or not all(key.split(".")):
            hint = "for example training.learning_rate=log:1e-4..1e-2 or model.hidden_size=64,128,256"
            raise UserError(f"{item!r} isn't KEY=VALUES", where="--space", hint=hint)
        if key in found:
            raise UserError("given twice", where=where)
        if key in EQUAL:
            raise UserError("all trials have the same budget", where=where, hint="set it with --steps or --budget")
        if not key.startswith(SECTIONS):
            hint = "use `reprise compare` to vary others"
            raise UserError("only settings of model and training can be searched", where=where, hint=hint)
        found[key] = _range(key, text, where) if ".." in text else _choices(key, text, where)
    return list(found.values())


def default_space(recipe: Recipe) -> list[Dimension]:
    """A space around the recipe's settings: the learning rate, and size, depth and dropout if the model has them."""
    rate, model = float(recipe.training["learning_rate"]), recipe.model
    found = [Dimension("training.learning_rate", low=rate / 10, high=rate * 10, log=True)]
    if isinstance(size := model.get("hidden_size"), int):
        found.append(Dimension("model.hidden_size", choices=tuple(sorted({max(1, size // 2), size, size * 2}))))
    if isinstance(layers := model.get("num_layers"), int):
        found.append(Dimension("model.num_layers", low=1, high=max(2, layers)))
    if isinstance(model.get("dropout"), float):
        found.append(Dimension("model.dropout", low=0.0, high=0.5))
    return found


def _range(key: str, text: str, where: str) -> Dimension:
    log = text.startswith("log:")
    ends = [parse_yaml(end, where=where) for end in text.removeprefix("log:").split("..", 1)]
    good = all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends)
    if not good or not ends[0] < ends[1] or (log and ends[0] <= 0):
        need = "two numbers above 0, the smaller first" if log else "two numbers, the smaller first"
        raise UserError(f"{text!r} isn't a range: {need}", where=where, hint="for example log:1e-4..1e-2 or 0.0..0.5")
    whole = all(isinstance(end, int) for end in ends)
    low, high = ends if whole else map(float, ends)
    return Dimension(key, low=low, high=high, log=log)


def _choices(key: str, text: str, where: str) -> Dimension:
    values = parse_yaml(f"[{text}]", where=where)
    if not values or not all(value is None or isinstance(value, bool | int | float | str) for value in values):
        raise UserError(f"{text!r}: choices must be numbers, words, true, false or null", where=where)
    if len({json.dumps(value) for value in values}) < len(values) or len(values) > MAX_CHOICES:
        raise UserError(f"{text[:80]!r}: at most {MAX_CHOICES} choices, all different", where=where)
    return Dimension(key, choices=tuple(values))


def _get(recipe: Recipe, key: str) -> Any:
    node: Any = recipe.as_dict()
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
