"""Start from weights of another library: selection of layers, checks, and a summary of what was copied."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.errors import UserError, listed, unknown
from components.models.backbone import Backbone
from components.models.encoder_decoder import EncoderDecoder
from components.provenance import digest_file
from components.training.foreign import KERAS, LISTED, MOST_BYTES, Contents, Layer, Table, described, named_file
from components.training.foreign_keras import read_keras
from components.training.foreign_torch import read_torch

DEFAULTS = {"num_layers": 1, "bidirectional": False, "reset_after": True, "nonlinearity": "tanh"}
ORDERLESS = "the file doesn't say the order of its tokens and labels"


@dataclass(frozen=True)
class Weights:
    """The selected content of a file: layers from the input up, and tables selected by name."""

    path: Path
    sha256: str
    layers: list[Layer]
    tables: dict[str, Table]
    left: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]


@dataclass
class Imported:
    """The copied weights: {the model's part: (the file's name, shapes)}."""

    source: Weights
    taken: dict[str, tuple[str, list[list[int]]]] = field(default_factory=dict)
    anew: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def told(self) -> list[str]:
        """Lines for the user."""
        lines = [
            f"{mine} from {theirs} {' '.join(str(shape) for shape in shapes)}"
            for mine, (theirs, shapes) in self.taken.items()
        ]
        if self.source.left:
            left = [f"{name} {list(shape)}" for name, shape in self.source.left.items()]
            lines.append(f"not used: {listed(left, LISTED)}; {ORDERLESS}")
        if self.anew:
            lines.append(f"initialised at random: {listed(self.anew, LISTED)}")
        return [*lines, *self.notes]

    def facts(self) -> dict[str, Any]:
        """The summary as JSON-ready data, for the run."""
        return {
            "file": str(self.source.path),
            "sha256": self.source.sha256,
            "taken": {mine: {"from": theirs, "shapes": shapes} for mine, (theirs, shapes) in self.taken.items()},
            "left": {name: list(shape) for name, shape in self.source.left.items()},
            "anew": self.anew,
        }


def read_weights(start: str) -> Weights:
    """Read the weights in FILE, or those selected by FILE#PART,PART.

    Raises:
        UserError: the file can't be read or is too large, or the selection of layers is ambiguous.
    """
    path, parts = named_file(start) or (Path(start), [])
    if not path.is_file():
        raise UserError("no such file", where=str(path))
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"is larger than the limit of {MOST_BYTES >> 20:,} MB", where=str(path))
    contents = (read_keras if path.suffix.lower() in KERAS else read_torch)(path)
    layers, tables = _chosen(contents, parts, path)
    taken = {name for one in [*layers, *tables.values()] for name in one.tensors}
    left = {name: shape for name, shape in contents.shapes.items() if name not in taken}
    held = [(one.name, values) for one in layers for values in one.directions]
    for owner, values in [*held, *((name, table.values) for name, table in tables.items())]:
        if not all(value.isfinite().all() for value in values.values()):
            raise UserError(f"{owner} contains NaN or infinity", where=str(path))
    return Weights(path, digest_file(path), layers, tables, left, contents.notes)


def _chosen(contents: Contents, parts: list[str], path: Path) -> tuple[list[Layer], dict[str, Table]]:
    known = list(dict.fromkeys(layer.part for layer in contents.layers))
    if not known:
        shapes = [f"{name} {list(shape)}" for name, shape in contents.shapes.items()]
        hint = "supported layers of torch.nn and Keras: RNN, SimpleRNN, GRU, LSTM"
        if any(name.startswith("recurrent.layers.") for name in contents.shapes):
            hint = "to start from a Reprise model, give its name: NAME, NAME@3 or run:ID"
        raise UserError(
            f"contains no recurrent layers; it contains {listed(shapes, LISTED) or 'nothing'}",
            where=str(path),
            hint=hint,
        )
    if not parts and len(known) > 1 and not contents.stacked:
        said = "; ".join(f"{part}: {described([one for one in contents.layers if one.part == part])}" for part in known)
        raise UserError(
            f"contains several recurrent layers, but not how they are connected ({said})",
            where=str(path),
            hint=f"name the layers to use, from the input up, for example: --from '{path}#{','.join(known)}'",
        )
    for part in parts:
        if part not in known and part not in contents.tables:
            raise unknown("layer", part, [name for name in (*known, *contents.tables) if name], where=str(path))
    layers = [one for part in [p for p in parts if p in known] or known for one in contents.layers if one.part == part]
    for layer in layers:
        if layer.problem:
            raise UserError(f"{layer.name} can't be used: {layer.problem}", where=str(path))
    return layers, {part: contents.tables[part] for part in parts if part not in known}


def check_fit(source: Weights, model: Mapping[str, Any]) -> None:
    """Compare a file's layers with a recipe's model section. The input size is known only when the model is built.

    Raises:
        UserError: they don't fit; it lists the file's settings, the recipe's, and settings that would fit.
    """
    layers, where = source.layers, str(source.path)
    has = f"the file has: {described(layers)}"
    if model["kind"] == "graph":
        raise UserError(
            f"a graph can't start from a file, since its layers have no order; {has}", where="training.start"
        )
    if model.get("ensemble", 1) > 1:
        hint = "set model.ensemble: 1"
        raise UserError(
            "an ensemble can't start from one file: all members would be equal", where="training.start", hint=hint
        )
    if any(layer.settings != layers[0].settings for layer in layers):
        hint = f"name layers with the same settings: --from '{source.path}#NAME'"
        raise UserError(f"its layers have different settings; {has}", where=where, hint=hint)
    for below, above in itertools.pairwise(layers):
        given = below.settings["hidden_size"] * len(below.directions)
        if above.input_size != given:
            what = f"{above.name} has input size {above.input_size}, but {below.name} below it has output size {given}"
            raise UserError(f"these layers can't be stacked: {what}", where=where)
    fitting = {**layers[0].settings, "num_layers": len(layers)}
    wrong = {name: value for name, value in fitting.items() if model.get(name, DEFAULTS.get(name)) != value}
    if not wrong:
        return
    embedded = model.get("embedding_size") or fitting["hidden_size"]
    if model.get("input") == "embedding" and embedded != layers[0].input_size:
        wrong["embedding_size"] = layers[0].input_size
    says = ", ".join(f"{name}={_value(model[name])}" for name in fitting if name in model)
    settings = " ".join(f"--set model.{name}={_value(value)}" for name, value in wrong.items())
    raise UserError(f"doesn't fit the recipe: {has}; the recipe has {says}", where=where, hint=f"try {settings}")


def take_file(model: nn.Module, source: Weights, settings: Mapping[str, Any]) -> Imported:
    """Copy a file's weights into a model built from `settings`, the recipe's model section.

    Raises:
        UserError: they don't fit, as in `check_fit`, or the first layer has another input size.
    """
    check_fit(source, settings)
    reader = model.encoder if isinstance(model, EncoderDecoder) else model
    prefix = "encoder." if reader is not model else ""
    assert isinstance(reader, Backbone)
    one_hot = reader.embedding is None and not reader.frames
    _check_input(reader, source, one_hot)
    places = {name: _place(model, reader, name, table.values, source) for name, table in source.tables.items()}
    taken = Imported(source, notes=list(source.notes))
    copied: set[int] = set()
    with torch.no_grad():
        for index, (own, layer) in enumerate(zip(reader.recurrent.layers, source.layers, strict=True)):
            name = f"{prefix}recurrent.layers.{index}"
            for cell, values in zip(getattr(own, "directions", [own]), layer.directions, strict=True):
                for parameter, value in values.items():
                    if not (one_hot and index == 0 and parameter == "weight_ih"):
                        getattr(cell, parameter).copy_(value)
                        copied.add(id(getattr(cell, parameter)))
            shapes = [list(layer.directions[0][parameter].shape) for parameter in ("weight_ih", "weight_hh")]
            taken.taken[name] = (layer.name, shapes)
        for table, found in source.tables.items():
            part = places[table]
            for parameter, value in found.values.items():
                own = model.get_parameter(f"{part}.{parameter}")
                own.copy_(value)
                copied.add(id(own))
            taken.taken[part] = (table, [list(value.shape) for value in found.values.values()])
    taken.anew = [name for name, parameter in model.named_parameters() if id(parameter) not in copied]
    if one_hot:
        taken.notes.append("the first layer's weight_ih is initialised at random too: its columns stand for tokens")
    changed = [name for name in ("residual", "layer_norm") if settings.get(name)]
    if changed:
        taken.notes.append(
            f"with the recipe's {' and '.join(changed)} the layers compute something else than in the file's model"
        )
    return taken


def _check_input(reader: Backbone, source: Weights, one_hot: bool) -> None:
    reads, theirs = reader.recurrent.input_size, source.layers[0].input_size
    if reads == theirs or one_hot:  # columns of one-hot inputs aren't copied
        return
    hint = f"use data with {theirs} features per step"
    if reader.embedding is not None:
        hint = f"try --set model.embedding_size={theirs - (reads - reader.embedding.embedding_dim)}"
    what = f"{source.layers[0].name} has input size {theirs}, but the recipe's first layer has {reads}"
    raise UserError(what, where=str(source.path), hint=hint)


def _place(model: nn.Module, reader: Backbone, name: str, values: Mapping[str, Tensor], source: Weights) -> str:
    """The model's part for a selected table: an embedding has no bias."""
    part = "head" if "bias" in values else "encoder.embedding" if reader is not model else "embedding"
    owner: Any = model
    for step in part.split("."):
        owner = getattr(owner, step, None)
    has = {key: list(value.shape) for key, value in values.items()}
    own = {key: list(one.shape) for key, one in owner.named_parameters()} if isinstance(owner, nn.Module) else {}
    if has != own:
        what = f"{name} doesn't fit the model's {part}: the file has {has}, the model has {own or 'none'}"
        raise UserError(what, where=str(source.path), hint=f"leave {name} out")
    if part == "head" and reader.embedding is not None and owner.weight is reader.embedding.weight:
        raise UserError(
            f"{name} can't be used: the output layer shares the embedding's weights", where="model.tie_weights"
        )
    return part


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
