"""The JSON Schema (draft 2020-12) of a recipe file, for editors. `reprise schema` prints it.

It is generated from the code that checks recipes: names, types, bounds and defaults from signatures, descriptions from
docstrings. Sections whose settings depend on a kind use `if` … `then`, each closed by `additionalProperties: false`.
Conditions on several values (a split that sums to 1, an encoding that fits the task, existing layers of a graph) are
left to `reprise validate`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from components import schema
from components.datasets.cards import card_names, load_card
from components.layers.stack import Stack
from components.models.graph_layers import LAYERS, Recurrent
from components.models.graph_model import GraphModel
from components.models.graph_recipe import MAX_LAYERS, settings_of
from components.models.graph_symbols import MAX_INPUTS
from components.options import Nested, generation_targets, options_of, targets
from components.recipe import SECTIONS
from components.registry import names, resolve
from components.tracking.promotion import CONDITION

Schema = dict[str, Any]

SECTION_TEXTS = {
    "data": "The data: a card of data/catalogue (dataset), or your own files (path) and their reader.",
    "encoding": "How items are converted to ids or frames.",
    "task": "What is predicted, with its loss and metrics.",
    "model": "The network. `kind` is a cell, or graph.",
    "training": "Optimizer, schedule, windows and limits.",
    "evaluation": "How often and how the model is evaluated on val.",
    "generation": "How the trained model generates, if its task does.",
}
DATA_TEXTS = {
    "dataset": "A card of data/catalogue.",
    "path": "Your own file or folder, or one each for train, val and test.",
    "reader": "How files are read (default: the card's reader, or text).",
    "split": "Fractions of train, val and test.",
    "fold": "K-fold cross-validation: 3/10 tests on the third of ten folds of all data; train and val share "
    "the rest as in data.split.",
    "join_val": "Train on val as well, once the settings are chosen; the last weights are kept.",
}


def recipe_schema() -> Schema:
    """The whole schema, JSON-ready."""
    return _Writer().document()


class _Writer:
    """Collects the definitions ($defs): one for each option, kind and section."""

    def __init__(self) -> None:
        self.defs: dict[str, Schema] = {}

    def document(self) -> Schema:
        tasks = names("task")
        properties: Schema = {
            "seed": {
                "type": "integer",
                "minimum": 0,
                "maximum": 2**32 - 1,
                "default": 0,
                "description": "Seed of all random numbers.",
            },
            **{section: {"description": text} for section, text in SECTION_TEXTS.items()},
            "accept": {
                "description": 'Bounds of metrics: test/accuracy: "> 0.9". A model must meet them to be registered.',
                "type": ["object", "null"],
                "additionalProperties": {"type": "string", "pattern": f"^{CONDITION.pattern}$"},
            },
        }
        properties["data"] |= self._data()
        for table in ("encoding", "task"):
            properties[table] |= self._kinds(table)
        for section in ("training", "evaluation"):
            properties[section] |= self._options(targets(section)) | {"type": ["object", "null"]}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Reprise recipe",
            "type": "object",
            "required": ["data", "encoding", "task", "model"],
            "additionalProperties": False,
            "properties": {name: properties[name] for name in ("seed", *SECTIONS, "accept")},
            "allOf": [
                _when({"task": {"properties": {"kind": {"const": task}}, "required": ["kind"]}}, self._of_task(task))
                for task in tasks
            ],
            "$defs": self.defs,
        }

    def _kinds(self, table: str) -> Schema:
        """A section whose `kind` is a registered name."""
        if table not in self.defs:
            self.defs[table] = {}  # placeholder: an encoding may contain another one
            choices = {kind: targets(table, kind) for kind in names(table)}
            self.defs[table] |= self._choice(table, "kind", choices)
        return _ref(table)

    def _choice(self, name: str, key: str, choices: Mapping[str, list[Any]]) -> Schema:
        """An object whose `key` selects one of `choices`, each with the options of its targets."""
        cases = []
        for choice, parts in choices.items():
            self.defs[f"{name}.{choice}"] = self._options(parts, {key: {"const": choice}}, about=parts[-1])
            cases.append(_when({key: {"const": choice}}, _ref(f"{name}.{choice}")))
        return {"type": "object", "required": [key], "properties": {key: {"enum": list(choices)}}, "allOf": cases}

    def _of_task(self, task: str) -> Schema:
        """The sections that depend on the task."""
        found = resolve("task", task)
        kinds = found.model_kinds()
        self.defs[f"model.{task}"] = self._choice(f"model.{task}", "kind", kinds)
        if "graph" in kinds:
            self.defs[_key(GraphModel, "layers")] = self._layers()
        generation = self._options(generation_targets({"kind": task})) | {"type": ["object", "null"]}
        self.defs[f"generation.{task}"] = generation
        return {"properties": {part: _ref(f"{part}.{task}") for part in ("model", "generation")}}

    def _layers(self) -> Schema:
        """The layers of a graph by name (components/models/graph_recipe.py)."""
        if "layers" in self.defs:
            return _ref("layers")
        text = {"type": "string"}
        self.defs["of"] = {
            "description": "What the layer reads: other layers, or inputs.",
            "anyOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": MAX_INPUTS}],
        }
        self.defs["layers"] = {
            "type": "object",
            "minProperties": 1,
            "maxProperties": MAX_LAYERS,
            "additionalProperties": _ref("layer"),
        }
        first = {"layer": {}, "of": _ref("of")}
        cases = {cell: self._options([Recurrent, Stack, resolve("cell", cell)], first) for cell in names("cell")}
        cases |= {
            kind: self._options([layer], first, settings=settings_of, about=layer) for kind, layer in LAYERS.items()
        }
        inner = {"properties": {**first, "layers": _ref("layers"), "output": text}, "required": ["layers", "output"]}
        cases["graph"] = {"type": "object", **inner, "additionalProperties": False}
        shared = {"type": "object", "properties": {"share": text, "of": _ref("of")}, "additionalProperties": False}
        for kind, case in cases.items():
            self.defs[f"layer.{kind}"] = case
        self.defs["layer"] = {
            "type": "object",
            "required": ["of"],
            "properties": {
                "layer": {"enum": list(cases)},
                "share": {**text, "description": "The layer whose weights it shares."},
            },
            "anyOf": [{"required": ["layer"]}, {"required": ["share"]}],
            "allOf": [
                *(_when({"layer": {"const": kind}}, _ref(f"layer.{kind}")) for kind in cases),
                _when({"share": {}}, shared),
            ],
        }
        return _ref("layers")

    def _data(self) -> Schema:
        cards = {name: load_card(name).reader for name in card_names()}
        own = [reader for reader in names("reader") if resolve("reader", reader).own]
        paths = {"type": "object", "required": ["train"], "additionalProperties": False}
        paths["properties"] = {split: {"type": "string"} for split in ("train", "val", "test")}
        common = {
            "dataset": {"enum": [*cards, None]},
            "path": {"anyOf": [{"type": "string"}, paths, {"type": "null"}]},
            "reader": {"enum": [*names("reader"), None]},
            "split": typed(schema.DATA["split"][0]),
            "fold": typed(schema.DATA["fold"][0]),
            "join_val": typed(schema.DATA["join_val"][0]),
        }
        for name, text in DATA_TEXTS.items():
            self.defs[f"data.{name}"] = {"description": text, **common[name]}
        common = {name: _ref(f"data.{name}") for name in common}
        cases, unset = [], {"reader": {"type": "null"}}
        for reader in names("reader"):
            target = resolve("reader", reader)
            closed = self._options([target], common, about=target)
            if reader in own:
                closed["properties"]["path"] = {"type": "null"}
            self.defs[f"data.{reader}"] = closed
            cases.append(_when({"reader": {"const": reader}}, _ref(f"data.{reader}")))
            if of := [name for name, known in cards.items() if known == reader]:
                cases.append(
                    {
                        "if": {"properties": {**unset, "dataset": {"enum": of}}, "required": ["dataset"]},
                        "then": _ref(f"data.{reader}"),
                    }
                )
        cases.append({"if": {"properties": {**unset, "dataset": {"type": "null"}}}, "then": _ref("data.text")})
        there = [
            ({"dataset": {"type": "string"}}, "dataset"),
            ({"path": {"type": ["string", "object"]}}, "path"),
            ({"reader": {"enum": own}}, "reader"),
        ]
        return {
            "type": "object",
            "properties": common,
            "anyOf": [{"properties": properties, "required": [name]} for properties, name in there],
            "allOf": cases,
        }

    def _options(
        self,
        targets: Iterable[Any],
        first: Mapping[str, Schema] = {},
        *,
        settings: Callable[[Any], Mapping[str, tuple[Any, Any]]] = options_of,
        about: Any = None,
    ) -> Schema:
        """An object with the properties `first` and the settings of `targets`, and no others."""
        properties, required = dict(first), []
        for target in targets:
            for name, (annotation, default) in settings(target).items():
                if name not in first:
                    properties[name] = self._option(target, name, annotation, default)
                    required += [name] if default is ... else []
        closed: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            closed["required"] = required
        if about is not None and (text := paragraph(about)):
            closed["description"] = text
        return closed

    def _option(self, target: Any, name: str, annotation: Any, default: Any) -> Schema:
        key = _key(target, name)
        if key not in self.defs:
            nested = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Nested)]
            found = self._kinds(nested[0].table) if nested else typed(annotation)
            if default is not ...:
                found |= {"default": json.loads(json.dumps(default))}
            if text := said(target, name):
                found |= {"description": text}
            self.defs[key] = found
        return _ref(key)


def _when(properties: Mapping[str, Schema], then: Schema) -> Schema:
    return {"if": {"properties": dict(properties), "required": list(properties)}, "then": then}


def _key(target: Any, option: str) -> str:
    return f"{target.__module__.removeprefix('components.')}.{target.__name__}.{option}"


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def typed(annotation: Any) -> Schema:
    """The type and bounds of an option, from pydantic."""
    return TypeAdapter(annotation).json_schema()


def paragraph(target: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(target) or "").partition("\n\n")[0].split())


def said(target: Any, name: str) -> str:
    """The sentences that name the option, in the docstring of the target or of its base classes."""
    for owner in inspect.getmro(target) if inspect.isclass(target) else (target,):
        text = " ".join((owner.__doc__ or "").partition("Raises:")[0].split())
        sentences = re.split(r"(?<=[.;])\s+(?=[A-Z`])", text)
        if found := [sentence for sentence in sentences if re.search(rf"`{name}\b", sentence)]:
            return " ".join(found).rstrip(";")
    return ""
