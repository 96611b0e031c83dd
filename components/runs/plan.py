"""The plan of a comparison: every combination of the varied settings and the seeds, checked before anything starts."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.errors import UserError
from components.recipe import Recipe, apply_override
from components.runs.asked import Asked, ask, typed
from components.yaml_text import parse_yaml

MAX_RUNS, MAX_WORKERS, SEEDS = 1000, 256, 3
SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Trial:
    """One planned run: the varied settings by dotted key, and the resulting recipe."""

    settings: Mapping[str, Any]
    label: str
    recipe: Recipe
    fold: str = ""  # of a cross-validation: "3/10"

    @property
    def name(self) -> str:
        """The name of the run within the comparison."""
        return f"{self.label}, fold {self.fold}" if self.fold else f"{self.label}, seed {self.recipe.seed}"


@dataclass(frozen=True)
class Budget:
    """The limit of time and updates for each run of a study; None means the recipe's."""

    seconds: float | None
    steps: int | None

    @classmethod
    def parse(cls, seconds: str | None, steps: int | None) -> Budget:
        """From "90s", "5m" or "1.5h" and a number of updates. Raises UserError."""
        return cls(None if seconds is None else parse_budget(seconds), steps)

    @property
    def settings(self) -> dict[str, float]:
        """The settings of a recipe for this budget."""
        each = {"training.seconds": self.seconds, "training.steps": self.steps}
        return {key: value for key, value in each.items() if value is not None}

    def __str__(self) -> str:
        parts = [f"{self.seconds:g} s of training"] if self.seconds else []
        parts += [f"{self.steps:,} updates"] if self.steps else []
        return ", or ".join(parts) or "the recipe's updates"


@dataclass(frozen=True)
class Plan:
    """A whole comparison. `trials` are ordered by seed or fold, then by setting. With `folds` (0: none), each
    combination is trained once on each fold."""

    name: str
    vary: Mapping[str, Sequence[Any]]
    seeds: int
    budget: Budget
    trials: Sequence[Trial]
    asked: Asked
    folds: int = 0

    @property
    def combinations(self) -> Sequence[Trial]:
        """The trials that differ in more than the seed: one for each combination and fold."""
        return self.trials[: len(self.trials) // self.seeds]


def make_plan(
    recipe: str,
    vary: Sequence[str],
    seeds: int | None = None,
    budget: str | None = None,
    steps: int | None = None,
    overrides: Sequence[str] = (),
    workers: int = 1,
    name: str | None = None,
    folds: int | None = None,
) -> Plan:
    """Make the plan for a recipe (a name or a YAML file) and settings to vary, each "KEY=VALUE,VALUE,…". `name` is the
    name of the experiment. With `folds`, K-fold cross-validation, each fold is one run with the recipe's seed;
    otherwise there are `seeds` runs of each combination, SEEDS by default.

    Raises:
        UserError: a key, a budget or a combination is wrong; all wrong combinations are reported together.
    """
    asked = ask(recipe, overrides, name)
    name, values, where = asked.name, copy.deepcopy(asked.values), asked.where
    varied = parse_vary(vary)
    for key in varied:
        if key.startswith(("generation.", "accept.")):
            what = "has no effect on what is compared: the validation metric"
            raise UserError(what, where=f"--vary {key}", hint="vary settings of other sections")
    spent = Budget.parse(budget, steps)
    for key, given in spent.settings.items():
        if key in varied:
            option = {"training.seconds": "--budget", "training.steps": "--steps"}[key]
            raise UserError(
                f"{option} sets {key}, which --vary varies", where="--vary", hint="leave one of the two out"
            )
        apply_override(values, f"{key}={given!r}")
    first_seed = values.get("seed", 0)
    if folds is not None:
        _check_folds(folds, seeds, values, varied)
    seeds = 1 if folds else SEEDS if seeds is None else seeds
    for option, number, most in (("--seeds", seeds, MAX_RUNS), ("--workers", workers, MAX_WORKERS)):
        if not 1 <= number <= most:
            raise UserError(f"must be from 1 to {most:,}, not {number:,}", where=option)
    choices = [dict(zip(varied, each, strict=True)) for each in itertools.product(*varied.values())]
    times = f"{folds} folds" if folds else f"{seeds} seeds"
    if len(choices) * (folds or seeds) > MAX_RUNS:
        raise UserError(
            f"{len(choices):,} combinations × {times} are more than the maximum of {MAX_RUNS:,} runs",
            where="--vary",
            hint="vary fewer settings or values",
        )
    resolved = resolve(name, values, choices, where=where, again=recipe)
    trials = []
    for round_ in range(folds or seeds):
        for settings, recipe_values in zip(choices, resolved, strict=True):
            changed, fold = {"seed": first_seed + round_}, ""
            if folds:
                fold = f"{round_ + 1}/{folds}"
                changed = {"data": {**recipe_values["data"], "fold": fold}}
            checked = Recipe.from_dict(name, {**recipe_values, **changed}, where=where)
            trials.append(Trial(settings, label(settings), checked, fold))
    return Plan(name, varied, seeds, spent, trials, asked, folds or 0)


def _check_folds(folds: int, seeds: int | None, values: Mapping[str, Any], varied: Mapping[str, Any]) -> None:
    """Raises UserError if the folds don't go with the other settings."""
    if seeds is not None:
        raise UserError(
            "can't be used together with --folds: each fold is one run, with the recipe's seed", where="--seeds"
        )
    if not 2 <= folds <= MAX_RUNS:
        raise UserError(f"must be from 2 to {MAX_RUNS:,}, not {folds:,}", where="--folds")
    if "data.fold" in varied or (values.get("data") or {}).get("fold"):
        raise UserError(
            "--folds sets data.fold, which is set already", where="--folds", hint="leave one of the two out"
        )


def parse_vary(vary: Sequence[str]) -> dict[str, list[Any]]:
    """Parse ["model.kind=rnn,gru"] to {"model.kind": ["rnn", "gru"]}. Each value is read as YAML.

    Raises:
        UserError: not KEY=VALUE,VALUE, a duplicate value or key, or the seed.
    """
    varied: dict[str, list[Any]] = {}
    for item in vary:
        key, equals, text = item.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            raise UserError(f"{item!r} isn't KEY=VALUE,VALUE", where="--vary", hint="e.g. --vary model.kind=gru,lstm")
        if key == "seed":
            raise UserError("seeds can't be varied this way", where="--vary seed", hint="use --seeds 3")
        if key in varied:
            raise UserError(
                "given twice", where=f"--vary {key}", hint=f"list all its values at once: {key}=VALUE,VALUE"
            )
        values = parse_yaml(f"[{text}]", where=f"--vary {key}")
        try:
            distinct = {json.dumps(value) for value in values}
        except (TypeError, ValueError):
            raise UserError(f"{text!r} contains a value that can't be a setting", where=f"--vary {key}") from None
        if not values:
            raise UserError("has no value", where=f"--vary {key}", hint=f"e.g. --vary {key}=1,2")
        if len(distinct) < len(values):
            raise UserError(f"duplicate value in {text!r}", where=f"--vary {key}")
        varied[key] = values
    return varied


def parse_budget(text: str) -> float:
    """Seconds from "90s", "5m" or "1.5h".

    Raises:
        UserError: it is none of these, or nothing.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", text.strip())
    seconds = float(found[1]) * SECONDS[found[2]] if found else 0.0
    if seconds <= 0:
        raise UserError(
            f"{text!r} isn't a duration", where="--budget", hint="for example 90s, 5m or 1.5h; or --steps 2000"
        )
    return seconds


def label(settings: Mapping[str, Any]) -> str:
    """A short name of a combination: "lstm, num_layers=2"; "the recipe" if nothing is varied. Keys are shortened to
    their last part if it is unique."""
    last = [key.rpartition(".")[2] for key in settings]
    words = []
    for key, value in settings.items():
        short = key.rpartition(".")[2]
        shown = value if isinstance(value, str) else json.dumps(value)
        unique = last.count(short) == 1
        words.append(shown if key == "model.kind" and unique else f"{short if unique else key}={shown}")
    return ", ".join(words) or "the recipe"


def resolve(
    name: str, values: Mapping[str, Any], choices: Sequence[Mapping[str, Any]], *, where: str, again: str
) -> list[dict[str, Any]]:
    """The checked settings of each combination; each problem is reported once."""
    problems: dict[str, list[str]] = {}
    resolved = []
    for settings in choices:
        mine = copy.deepcopy(dict(values))
        try:
            for key, value in settings.items():
                apply_override(mine, f"{key}={json.dumps(value)}")
            Recipe.from_dict(name, mine)
        except UserError as error:
            for line in error.what.splitlines()[1:] or [str(error)]:
                problems.setdefault(line.strip(), []).append(label(settings))
        resolved.append(mine)
    if problems:
        lines = []
        for problem, labels in problems.items():
            whose = "every combination" if len(labels) == len(choices) else "; ".join(labels[:8])
            more = f"; and {len(labels) - 8} more" if len(labels) > 8 and len(labels) < len(choices) else ""
            lines.append(f"  {problem}  [{whose}{more}]")
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)} in the {len(choices)} combinations"
        hint = f"nothing was started; `{typed('show', [again])}`"
        raise UserError(count + "\n" + "\n".join(lines), where=where, hint=hint)
    return resolved
