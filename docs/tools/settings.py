"""The reference of a recipe's settings, docs/settings.md: what the signatures and docstrings say (`make docs`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from components import schema
from components.datasets.cards import card_names
from components.models.graph_model import GraphModel
from components.options import Nested, generation_targets, options_of, targets
from components.recipe_schema import DATA_TEXTS, SECTION_TEXTS, paragraph, said, typed
from components.registry import names, resolve

HEAD = """# Settings of a recipe

Generated from the signatures and docstrings by `make docs`; a test compares the two. Don't edit this page.

A recipe is a YAML file with the sections below; `reprise show NAME` prints one whole, with every value, and
`reprise validate FILE` names every mistake in one. At the command line a setting is `--set SECTION.NAME=VALUE`.
[Your own data](own-data.md) shows which reader, encoding and task go together, and how an editor learns all of this."""
COMMON = """## seed

A whole number from 0 to 4294967295, 0 by default: of all chance in a run.

## accept

Bounds of metrics, as `test/accuracy: "> 0.9"`. A model that doesn't keep them isn't registered."""
COLUMNS = "| setting | what it may be | by default | meaning |\n|---|---|---|---|"
Option = tuple[Any, Any]  # type, default or ...


def settings_page() -> str:
    """The whole page, ending with one line feed."""
    cards = f"{DATA_TEXTS['dataset']} There are {', '.join(f'`{name}`' for name in card_names())}."
    parts = [HEAD, COMMON, f"## data\n\n{SECTION_TEXTS['data']}"]
    parts.append(_table(schema.DATA, {**DATA_TEXTS, "dataset": cards}))
    parts += [_kind("reader", name) for name in names("reader")]
    for table in ("encoding", "task"):
        parts.append(f"## {table}\n\n{SECTION_TEXTS[table]} `kind` is one of those below.")
        parts += [_kind(table, name) for name in names(table)]
    parts += _models()
    for section in ("training", "evaluation"):
        parts.append(f"## {section}\n\n{SECTION_TEXTS[section]}")
        parts.append(_of(targets(section)))
    return "\n\n".join([*parts, *_generation()]) + "\n"


def _kind(table: str, name: str) -> str:
    target = resolve(table, name)
    about = _escaped(paragraph(target))
    return f"### {table}: {name}\n\n{about}\n\n{_of([target])}".strip()


def _models() -> list[str]:
    """What `model` takes: of every cell, of each, and what a task's models add."""
    users: dict[Any, list[str]] = {}  # the tasks that a class is a model of
    for task in names("task"):
        kinds = resolve("task", task).model_kinds()
        for target in dict.fromkeys(part for parts in kinds.values() for part in parts):  # in their order
            users.setdefault(target, []).append(task)
    cells = {name: resolve("cell", name) for name in names("cell")}
    others = [target for target in users if target not in cells.values() and options_of(target)]
    shared = [target for target in others if len(users[target]) == len(names("task"))]
    choice = f"`kind` is a cell, {', '.join(f'`{name}`' for name in cells)}, or a [graph](graph.md) of layers."
    parts = [f"## model\n\nThe network. {choice}", f"### model: every cell\n\n{_of(shared, without=('kind',))}"]
    parts += [f"### model: {name}\n\n{_escaped(paragraph(cell))}\n\n{_of([cell])}" for name, cell in cells.items()]
    for target in others:
        if target not in shared:
            what = "graph" if target is GraphModel else f"every cell in the task {' or '.join(sorted(users[target]))}"
            parts.append(f"### model: {what}\n\n{_of([target])}")
    return parts


def _generation() -> list[str]:
    parts = [f"## generation\n\n{SECTION_TEXTS['generation']} A command may override it: `--set generation.top_p=0.9`."]
    tasks = [task for task in names("task") if generation_targets({"kind": task})]
    return parts + [f"### generation: {task}\n\n{_of(generation_targets({'kind': task}))}" for task in tasks]


def _of(parts: Iterable[Any], without: tuple[str, ...] = ()) -> str:
    """The table of all settings of classes and functions; empty where there are none."""
    options: dict[str, Option] = {}
    meanings: dict[str, str] = {}
    for target in parts:
        for name, option in options_of(target).items():
            if name not in without:
                options[name], meanings[name] = option, said(target, name)
    return _table(options, meanings) if options else ""


def _table(options: Mapping[str, Option], meanings: Mapping[str, str]) -> str:
    rows, before = [COLUMNS], ""
    for name, (annotation, default) in options.items():
        alone = meanings[name].removeprefix(f"`{name}`: ")
        meaning = _escaped(alone[:1].upper() + alone[1:])
        told = "as above" if meaning == before else meaning
        rows.append(f"| `{name}` | {_type(annotation)} | {_default(default)} | {told} |")
        before = meaning
    return "\n".join(rows)


def _type(annotation: Any) -> str:
    nested = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Nested)]
    return f"one of those [above](#{nested[0].table}), with its settings" if nested else _words(typed(annotation))


def _words(found: Mapping[str, Any]) -> str:
    """What a JSON Schema lets a value be, in words."""
    if "enum" in found:
        return ", ".join(f"`{choice}`" for choice in found["enum"])
    if "const" in found:
        return f"`{found['const']}`"
    if "anyOf" in found:
        return " or ".join("none" if one.get("type") == "null" else _words(one) for one in found["anyOf"])
    if found.get("type") == "array":
        if "prefixItems" in found:
            return f"a list of {len(found['prefixItems'])}: {_words(found['prefixItems'][0])}"
        return f"a list of: {_words(found['items'])}"
    if found.get("type") == "object":
        inner = found.get("additionalProperties")
        return f"a mapping to {_words(inner)}" if isinstance(inner, dict) else "a mapping"
    kinds = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    return f"{kinds[found['type']]}{_bounds(found)}"


def _bounds(found: Mapping[str, Any]) -> str:
    least, above = found.get("minimum"), found.get("exclusiveMinimum")
    if above is not None and found["type"] == "integer":
        least, above = above + 1, None
    most, below = found.get("maximum"), found.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f", {least:,} to {most:,}"
    told = [f"{least:,} or more"] if least is not None else []
    told += [f"above {above:,}"] if above is not None else []
    told += [f"up to {most:,}"] if most is not None else []
    told += [f"below {below:,}"] if below is not None else []
    return f", {' and '.join(told)}" if told else ""


def _default(default: Any) -> str:
    if default is ...:
        return "must be set"
    return "none" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`".replace("|", r"\|")


def _escaped(text: str) -> str:
    """Text of a docstring as Markdown that stands in a table: no HTML, no bar that ends a cell."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(one if one.startswith("`") else one.replace("<", "&lt;") for one in pieces).replace("|", r"\|")
