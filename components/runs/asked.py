"""A recipe as requested by the user: file, settings and name, and the command line that requests it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.datasets.cards import load_card
from components.datasets.splits import DEFAULT_SPLIT
from components.errors import UserError
from components.paths import user_path, user_paths
from components.recipe import NAME, Recipe, apply_override, load_yaml
from components.runs.places import RECIPES, recipe_path
from components.schema import path_settings

LONGEST_NAME = 64


@dataclass(frozen=True)
class Asked:
    """A requested recipe.

    `values` are the settings as written, with the overrides. `name` is the name of the experiment and the model.
    `words`, after `reprise run`, request the same from any folder. `borrowed`: a built-in recipe on other data than its
    own; `notes` say which of its settings are therefore dropped. `anywhere` are the `overrides` with absolute paths.
    """

    name: str
    values: dict[str, Any]
    where: str
    words: list[str]
    borrowed: bool
    notes: list[str]
    overrides: list[str] = field(default_factory=list)
    anywhere: list[str] = field(default_factory=list)

    def gives_way(self, key: str) -> bool:
        """Whether the setting is the recipe's choice for its own data and not among the overrides."""
        given = [override.partition("=")[0].strip() for override in self.overrides]
        return self.borrowed and not any(key == each or key.startswith(f"{each}.") for each in given)

    def recipe(self) -> Recipe:
        """The checked recipe with defaults. Raises UserError with every problem."""
        return Recipe.from_dict(self.name, self.values, where=self.where)


def ask(recipe: str, overrides: Sequence[str] | None = None, name: str | None = None) -> Asked:
    """Read a recipe (the name of a built-in one, or a YAML file) with `--set` overrides.

    A built-in recipe on the user's own data keeps its settings of model and training. Settings chosen for its own data
    are dropped: the split and `join_val`, the `accept` bounds, the prompt (unless it fits the data), and the name,
    because a model of other data isn't a version of the recipe's model.

    Raises:
        UserError: there is no such recipe, or an override or the name is wrong.
    """
    overrides = list(overrides or [])
    path = recipe_path(recipe)
    written = load_yaml(path)
    values = _with(load_yaml(path), overrides)
    before, after = _data(written), _data(values)
    ours = path.parent == RECIPES
    borrowed = ours and (after.get("path") is not None or after.get("dataset") != before.get("dataset"))
    notes: list[str] = []
    if borrowed:
        split = before.get("split") or _card_split(before)
        written["data"] = {key: value for key, value in before.items() if key != "join_val"}
        if split and list(split) != list(DEFAULT_SPLIT):
            written["data"].pop("split", None)
            if not _data(values).get("split") or _data(values)["split"] == before.get("split"):
                yours = f"{list(DEFAULT_SPLIT)} (change it with data.split), unless your files define the splits"
                notes.append(f"split {split} applies only to the recipe's own data; your data are split {yours}")
        if bounds := written.pop("accept", None):
            said = ", ".join(f"{metric} {bound}" for metric, bound in bounds.items())
            notes.append(f"the recipe's accept bounds ({said}) apply only to its own data and are ignored")
        values = _with(written, overrides)  # overrides are kept
        if before.get("join_val") and not _data(values).get("join_val"):
            notes.append("data.join_val applies only to the recipe's own data; your val isn't trained on")
    if name is not None and not NAME.fullmatch(name):
        shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
        raise UserError(
            f"{shown!r} isn't a valid name: use a–z, 0–9, - and _ ({LONGEST_NAME} characters at most)",
            where="--name",
            hint=f"for example --name {plain(name) or 'mine'}",
        )
    chosen = name or (_named(path.stem, after) if borrowed else path.stem)
    if name is None and not NAME.fullmatch(chosen):
        raise UserError(
            f"{chosen!r} isn't a valid name for the model: use a–z, 0–9, - and _",
            where=str(path),
            hint=f"rename the file, or use --name {plain(chosen) or 'mine'}",
        )
    recipe, anywhere = path.stem if ours else str(path.resolve()), _anywhere(overrides, load_yaml(path), values)
    words = words_of(recipe, anywhere, name)
    return Asked(chosen, values, str(path), words, borrowed, notes, overrides, anywhere)


def words_of(recipe: str, overrides: Sequence[str] | None = None, name: str | None = None) -> list[str]:
    """The request as the words after `reprise run`."""
    options = [word for override in overrides or [] for word in ("--set", override)]
    return [recipe, *options, *(["--name", name] if name else [])]


def typed(verb: str, words: Sequence[str], *more: str) -> str:
    """A `reprise` command as typed in a shell."""
    return shlex.join(["reprise", verb, *words, *more])


def plain(text: str) -> str:
    """A text as part of a name: a–z, 0–9 and hyphens; "" if nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].strip("-")


def _with(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        apply_override(values, override)
    return values


def _data(values: Mapping[str, Any]) -> dict[str, Any]:
    section = values.get("data")
    return dict(section) if isinstance(section, Mapping) else {}


def _named(recipe: str, data: Mapping[str, Any]) -> str:
    """The recipe's name and that of the data."""
    path = data.get("path")
    if isinstance(path, Mapping):
        path = path.get("train") or next(iter(path.values()), "")
    if path is None:
        return f"{recipe}-{plain(str(data.get('dataset')))}".strip("-")[:LONGEST_NAME]
    file = user_path(str(path), where="data.path")
    of = plain(file.name if file.is_dir() else file.name.split(".")[0] or file.name) or "mine"
    return f"{recipe}-{of}"[:LONGEST_NAME].strip("-")


def _card_split(data: Mapping[str, Any]) -> list[float] | None:
    """The split of the data set's card, if it isn't the default."""
    if not isinstance(data.get("dataset"), str):
        return None
    split = load_card(data["dataset"]).split
    return None if tuple(split) == DEFAULT_SPLIT else list(split)


def _anywhere(overrides: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The overrides with absolute file paths, including overrides for relative paths in the recipe."""
    kept, own = list(overrides), path_settings(before)
    for key, path in path_settings(after).items():
        if path == own.get(key) and all(Path(str(one)).is_absolute() for one in _each(path)):
            continue  # an absolute path in the recipe
        kept = [each for each in kept if not f"{each.partition('=')[0].strip()}.".startswith(f"{key}.")]
        whole = user_paths(path, where=key)
        for split, one in whole.items() if isinstance(whole, Mapping) else [("", whole)]:
            safe = re.fullmatch(r"[\w./+-]+(?: [\w./+-]+)*", one)  # YAML reads it as the same string
            value = one if safe else json.dumps(one, ensure_ascii=False)
            kept.append(f"{key}{f'.{split}' if split else ''}={value}")
    return kept


def _each(path: Any) -> list[Any]:
    return list(path.values()) if isinstance(path, Mapping) else [path]
