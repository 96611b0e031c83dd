"""Weights files of other libraries, converted to the conventions of this project's cells.

Shapes: G gate rows, I input features, H hidden units. Layers are converted to the names, gate order and biases of
`components.layers.cell.Cell` when the file is read, so that they can be copied directly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

TORCH, KERAS = (".pt", ".pth", ".safetensors"), (".keras", ".h5", ".hdf5")
ENDINGS = TORCH + KERAS
FILES = rf"(?is)(.*(?:{'|'.join(map(re.escape, ENDINGS))}))(?:#(.*))?"  # FILE, or FILE#PART,PART
MOST_BYTES = 1 << 30  # of a file, and of its content
CELLS = {"rnn": 1, "gru": 3, "lstm": 4}  # gates
LISTED = 12  # names in a message


@dataclass(frozen=True)
class Layer:
    """A recurrent layer of a file. Each direction has weight_ih [G, I], weight_hh [G, H], bias_ih [G], bias_hh [G].

    `part`: the name to select it by. `options`: settings of its equation found in the file. `problem`: why it can't be
    used, if so.
    """

    part: str
    name: str
    cell: str
    directions: tuple[dict[str, Tensor], ...]
    tensors: tuple[str, ...]  # by the file's names
    options: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def input_size(self) -> int:
        return self.directions[0]["weight_ih"].shape[1]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a model with layers like this one."""
        hidden = self.directions[0]["weight_hh"].shape[1]
        return {
            "kind": self.cell,
            "hidden_size": hidden,
            "bidirectional": len(self.directions) == 2,
            **self.options,
        }


@dataclass(frozen=True)
class Table:
    """An embedding (weight) or a linear layer (weight, bias)."""

    values: dict[str, Tensor]
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """The content of a file. `stacked`: whether the layers are known to form a stack in this order."""

    layers: list[Layer]
    tables: dict[str, Table]
    shapes: dict[str, tuple[int, ...]]  # of all tensors, by the file's names
    stacked: bool = False
    notes: tuple[str, ...] = ()


def named_file(start: str) -> tuple[Path, list[str]] | None:
    """Parse FILE or FILE#PART,PART: (file, names of its parts); None for the name of a model."""
    found = re.fullmatch(FILES, start)
    if not found:
        return None
    names = [name.strip() for name in (found[2] or "").split(",")]
    return Path(found[1]), list(dict.fromkeys(filter(None, names)))


def described(layers: list[Layer]) -> str:
    """A description such as: bidirectional LSTM, 2 layers, 32 → 64."""
    first = layers[0]
    if first.problem:
        return first.problem
    way = "bidirectional " if first.settings["bidirectional"] else ""
    sizes = [str(layer.settings["hidden_size"]) for layer in layers]
    sizes = sizes[:1] if len(set(sizes)) == 1 else sizes
    count = f"{len(layers)} layer{'s' * (len(layers) > 1)}"
    return f"{way}{first.cell.upper()}, {count}, {first.input_size} → {', '.join(sizes)}"
