"""State dicts of torch.nn, from .pt, .pth and .safetensors files, without executing pickled code.

The cells here have torch's gate order and two biases, so tensors are only sorted by layer and direction.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from components.errors import UserError, one_line
from components.training.foreign import CELLS, MOST_BYTES, Contents, Layer, Table

PARAMETER = re.compile(r"(?:(.+)\.)?((?:weight|bias)_(?:ih|hh|hr))_l(\d{1,4})(_reverse)?")
WEIGHTS, BIASES = ("weight_ih", "weight_hh"), ("bias_ih", "bias_hh")
STATE_DICT = "save only the weights: torch.save(model.state_dict(), FILE)"


def read_torch(path: Path) -> Contents:
    """The layers in a state dict, or in a checkpoint that contains one.

    Raises:
        UserError: the file holds more than tensors, is damaged or holds too much.
    """
    try:
        found = load_file(path) if path.suffix.lower() == ".safetensors" else _state_dict(path)
    except UserError:
        raise
    except Exception as error:  # parsers may raise anything on untrusted input
        raise UserError(f"can't be read: {one_line(str(error)) or type(error).__name__}", where=str(path)) from None
    tensors = {name: value for name, value in found.items() if _usable(name, value)}
    if sum(value.numel() * value.element_size() for value in tensors.values()) > MOST_BYTES:
        raise UserError(f"its tensors are larger than {MOST_BYTES >> 20:,} MB", where=str(path))
    return _sorted(tensors)


def _state_dict(path: Path) -> Mapping[Any, Any]:
    if not zipfile.is_zipfile(path):
        hint = "load and save it again with torch 1.6 or newer"
        raise UserError("isn't in the current format of torch.save", where=str(path), hint=hint)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    # torch stores tensors uncompressed; compressed entries could expand without limit
    if any(one.compress_type != zipfile.ZIP_STORED for one in entries):
        raise UserError("contains compressed entries, which torch.save doesn't write", where=str(path))
    if sum(one.file_size for one in entries) > MOST_BYTES:
        raise UserError(f"contains more than {MOST_BYTES >> 20:,} MB", where=str(path))
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            "contains objects other than tensors, which aren't loaded for safety", where=str(path), hint=STATE_DICT
        ) from None
    if not isinstance(held, Mapping):
        raise UserError(f"contains a {type(held).__name__}, not a state dict", where=str(path), hint=STATE_DICT)
    if any(isinstance(value, Tensor) for value in held.values()):
        return held
    inner = [value for value in held.values() if isinstance(value, Mapping) and _has_layers(value)]
    if len(inner) > 1:
        raise UserError(f"contains {len(inner)} state dicts; one is expected", where=str(path), hint=STATE_DICT)
    return inner[0] if inner else {}


def _has_layers(values: Mapping[Any, Any]) -> bool:
    return any(isinstance(name, str) and PARAMETER.fullmatch(name) for name in values)


def _usable(name: Any, value: Any) -> bool:
    named = isinstance(name, str) and name.isprintable() and len(name) < 200
    dense = isinstance(value, Tensor) and not value.is_nested and value.layout == torch.strided
    return named and dense and value.device.type == "cpu" and value.is_floating_point()


def _sorted(tensors: Mapping[str, Tensor]) -> Contents:
    parts: dict[str, dict[int, dict[str, str]]] = {}  # {part: {layer: {parameter: the file's name}}}
    for name in tensors:
        if found := PARAMETER.fullmatch(name):
            parameter = f"{found[2]}{found[4] or ''}"
            parts.setdefault(found[1] or "", {}).setdefault(int(found[3]), {})[parameter] = name
    made = []
    for part, layers in parts.items():
        gap = "" if sorted(layers) == list(range(len(layers))) else "a layer below it is missing"
        made += [_layer(part, number, names, tensors, gap) for number, names in sorted(layers.items())]
    tables = {}
    for name, value in tensors.items():
        part, _, last = name.rpartition(".")
        if last == "weight" and part and value.dim() == 2:
            bias = tensors.get(f"{part}.bias")
            values = {"weight": value} | ({} if bias is None else {"bias": bias})
            tables[part] = Table(values, tuple(f"{part}.{key}" for key in values))
    notes = ["the file doesn't say whether the RNN uses tanh or relu"] if any(one.cell == "rnn" for one in made) else []
    return Contents(made, tables, {name: tuple(value.shape) for name, value in tensors.items()}, False, tuple(notes))


def _layer(part: str, number: int, names: Mapping[str, str], tensors: Mapping[str, Tensor], gap: str) -> Layer:
    directions, problem = [], gap
    for ending in ("", "_reverse") if any(name.endswith("_reverse") for name in names) else ("",):
        values = {key: tensors[names[key + ending]] for key in (*WEIGHTS, *BIASES) if key + ending in names}
        problem = problem or _unlike(values)
        if not problem:  # bias=False: no biases
            values |= {key: torch.zeros(len(values["weight_hh"])) for key in BIASES if key not in values}
        directions.append(values)
    if "weight_hr" in names:
        problem = "it projects its outputs (proj_size), which isn't supported"
    if not problem and len({tuple(value.shape for value in one.values()) for one in directions}) > 1:
        problem = "its two directions differ"
    cell = "" if problem else _cell(directions[0]["weight_hh"])
    name = f"{part}, layer {number + 1}" if part else f"layer {number + 1}"
    options = {"reset_after": True} if cell == "gru" else {}
    return Layer(part, name, cell, tuple(directions), tuple(names.values()), options, problem)


def _unlike(values: Mapping[str, Tensor]) -> str:
    """Why these aren't the tensors of one direction of a layer; "" if they are."""
    if not set(WEIGHTS) <= values.keys():
        return "weight_ih or weight_hh is missing"
    shapes = [tuple(values[name].shape) for name in WEIGHTS]
    alike = all(len(shape) == 2 and shape[0] == shapes[1][0] and shape[1] for shape in shapes)
    if not alike or not _cell(values["weight_hh"]):
        return f"no supported layer has tensors of shapes {' and '.join(str(list(shape)) for shape in shapes)}"
    if any(values[name].shape != shapes[1][:1] for name in BIASES if name in values):
        return "its biases don't fit its weights"
    return ""


def _cell(weight_hh: Tensor) -> str:
    return next((cell for cell, gates in CELLS.items() if len(weight_hh) == gates * weight_hh.shape[1]), "")
