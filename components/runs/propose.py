"""Propose a recipe for the user's own data: detect their kind, check the recipe, and write it as YAML."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from components.datasets.files.archives import is_archive, stem, unpacked
from components.datasets.files.text_doubts import OF_PAGE, web_page
from components.datasets.sources import RELATIVE
from components.errors import UserError
from components.paths import existing, output_file, user_path
from components.proposals.base import Look, Proposal
from components.proposals.kinds import KINDS, candidates, worth_telling
from components.recipe import NAME, Recipe, load_yaml
from components.render.record import printable
from components.runs.asked import plain, typed
from components.runs.places import RECIPES, places, recipe_names
from components.runs.preview import preview

PASSES = 60  # most passes over the data
FEWEST_STEPS = 100
SMALL = 4  # if the updates are reduced by more than this factor, the hidden size is halved
SECONDS = 600
WIDTH = 100  # longest section on one line


@dataclass(frozen=True)
class Proposed:
    """The chosen kind of the data at `path`, and the file of the recipe. `others`: other possible kinds, with their
    meanings."""

    kind: str
    proposal: Proposal
    others: Mapping[str, str]
    file: Path

    @property
    def command(self) -> str:
        here = self.file.relative_to(Path.cwd()) if self.file.is_relative_to(Path.cwd()) else self.file
        return typed("run", [str(here)])


def propose(path: str, wanted: str | None = None, out: str | None = None) -> Proposed:
    """Look at a file or a folder and write a recipe for it.

    Raises:
        UserError: the data can't be read, aren't of the kind `wanted`, or the recipe's file already exists.
    """
    given = existing(user_path(path, where="PATH"), where=path, hint=RELATIVE)
    file = _target(given, out)
    root = unpacked(given, places().datasets)[0] if given.is_file() and is_archive(given) else given
    look = Look(root, path)
    kind, found = candidates(look, wanted)
    pages = any(web_page(path, sample.text) for path, sample in look.texts)
    notes = (*found[kind].notes, *[OF_PAGE] * pages, *look.coding_note())
    proposal = _shown(replace(found[kind], notes=notes))
    values = values_of(proposal, given)
    refused = _refused(file.stem, values)
    others = {
        name: KINDS[name].means
        for name, proposal in found.items()
        if name != kind and worth_telling(name, kind, look) and not _refused(file.stem, values_of(proposal, given))
    }
    if refused and wanted is None and list(others) == ["drums"]:  # the files have only drums, no melody
        return propose(path, "drums", out)
    if refused:
        ways = [refused.hint, f"other ways to read it: --as {', '.join(others)}" if others else ""]
        what = f"{refused.what} (read as {kind}: {proposal.what})"
        raise UserError(what, where=refused.where, hint="\n".join(filter(None, ways)))
    _write(file, written(file.stem, proposal, values))
    return Proposed(kind, proposal, others, file)


def values_of(proposal: Proposal, path: Path) -> dict[str, Any]:
    """The recipe: model, training and generation of the built-in recipe, reduced if there are few data."""
    like = load_yaml(RECIPES / f"{proposal.like}.yaml")
    values: dict[str, Any] = {"seed": 0, "data": {"path": str(path), **proposal.data}}
    values |= {"encoding": copy.deepcopy(dict(proposal.encoding)), "task": dict(proposal.task)}
    # a single model instead of an ensemble, to save time in a first run
    model, training = _changed(like["model"], {**proposal.model, "ensemble": None}), dict(like["training"])
    per_update = training["batch_size"]
    if proposal.data["reader"] == "text":
        per_update *= training["tbptt_length"]
    full = training["steps"]
    training["steps"] = min(full, max(FEWEST_STEPS, PASSES * proposal.size // per_update))
    if SMALL * training["steps"] < full:
        model["hidden_size"] //= 2
    if "warmup_steps" in training:
        training["warmup_steps"] = min(training["warmup_steps"], training["steps"] // 10)
    training["seconds"] = SECONDS
    evaluation = {**like["evaluation"], "every": min(like["evaluation"]["every"], training["steps"] // 5)}
    values |= {"model": model, "training": training, "evaluation": evaluation}
    if generation := _changed(like.get("generation", {}), proposal.generation):
        values["generation"] = generation
    return values


def written(name: str, proposal: Proposal, values: Mapping[str, Any]) -> str:
    """The recipe as YAML with comments."""
    head = [f"{name}: {proposal.what}", f"Because: {proposal.why}.", *proposal.notes]
    said = {
        "data": "the data to read; for the reader's other settings see docs/own-data.md",
        "model": f"copied from the recipe {proposal.like}, like the sections below",
        "training": f"at most {SECONDS // 60} minutes (seconds); more steps give a better model",
    }
    lines = [f"# {line}" for line in head]
    for section, value in values.items():
        lines += [f"# {said[section]}"] if section in said else []
        flow = yaml.safe_dump({section: value}, default_flow_style=None, sort_keys=False, allow_unicode=True, width=1e9)
        one = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1e9).strip()
        one = one.removesuffix("...").strip()
        lines += [f"{section}: {one}"] if len(one) <= WIDTH else flow.rstrip("\n").split("\n")
    return "\n".join(lines) + "\n"


def _shown(proposal: Proposal) -> Proposal:
    """Remove control characters, which YAML forbids, from the texts, which contain names of columns and files."""
    notes = tuple(map(printable, proposal.notes))
    return replace(proposal, what=printable(proposal.what, 400), why=printable(proposal.why), notes=notes)


def _target(given: Path, out: str | None) -> Path:
    """The file to write. Raises UserError if it exists or its name isn't valid for a model."""
    if out is None:
        name = plain(given.name if given.is_dir() else stem(given).split(".")[0]) or "mine"
        out = f"my-{name[:60]}.yaml" if name in recipe_names() else f"{name}.yaml"
    file = output_file(out, where="--out")
    if file.suffix not in (".yaml", ".yml") or not NAME.fullmatch(file.stem):
        what = f"{file.name!r} isn't a valid recipe name: use NAME.yaml, with a–z, 0–9, - and _ in NAME"
        raise UserError(what, where="--out", hint=f"for example --out {plain(file.stem) or 'mine'}.yaml")
    if file.exists():
        raise UserError(
            "already exists and isn't overwritten", where=str(file), hint="choose another name: --out FILE.yaml"
        )
    return file


def _refused(name: str, values: Mapping[str, Any]) -> UserError | None:
    """The error that `reprise validate` would show for the recipe."""
    try:
        preview(Recipe.from_dict(name, copy.deepcopy(dict(values))))
    except UserError as error:
        return error
    return None


def _changed(section: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**section, **changes}.items() if value is not None}


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise UserError("already exists and isn't overwritten", where=str(file)) from None
