"""Keras's recurrent layers, converted to this project's conventions.

Keras multiplies from the right, so its kernels are transposed here. Its gates are i f c o in the LSTM (here i f g o)
and z r h in the GRU (here r z n). The LSTM, the SimpleRNN and the GRU with `reset_after=False` have one bias: it
becomes the input's, and the other is zero. The GRU with `reset_after=True` has two, of the input and of the state.
"""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.datasets.files.sandbox import Limits, read_all
from components.errors import UserError
from components.training.foreign import CELLS, MOST_BYTES, Contents, Layer, Table

LIMITS = Limits(
    file_bytes=MOST_BYTES, cpu_seconds=120.0, wall_seconds=600.0, memory_bytes=8 << 30, answer_bytes=2 * MOST_BYTES
)
GATES = {"rnn": [0], "gru": [1, 0, 2], "lstm": [0, 1, 2, 3]}  # indices of Keras's gates, in this project's order
CLASSES = {"SimpleRNN": "rnn", "GRU": "gru", "LSTM": "lstm"}
BETWEEN = {"Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise", "AlphaDropout"}  # identity at inference
DEFAULTS = "the file doesn't contain the layers' settings: Keras's defaults are assumed (tanh, sigmoid, concat)"


def read_keras(path: Path) -> Contents:
    """The layers in a .keras, .h5 or .weights.h5 file, read in a subprocess.

    Raises:
        UserError: h5py isn't installed, or the file can't be read or holds too much.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UserError("reading Keras files needs h5py", where=str(path), hint="pip install 'reprise[keras]'")
    outcome = next(iter(read_all("components.training.hdf5:read", [path], {}, LIMITS, workers=1)))
    if outcome.reason:
        raise UserError(outcome.reason, where=str(path))
    found = outcome.value
    tensors = {name: _tensor(*packed) for name, packed in found["tensors"].items()}
    configs = {one["name"]: one for one in found["layers"]}
    parts = {one["part"]: [] for one in found["cells"]}
    for one in sorted(found["cells"], key=lambda one: one["backward"]):
        parts[one["part"]].append(one)
    order = [one["name"] for one in found["layers"]]
    names = sorted(parts, key=lambda part: order.index(part) if part in order else len(order))
    layers = [_layer(part, parts[part], tensors, configs.get(part)) for part in names]
    tables = {part: _table(roles, tensors) for part, roles in found["tables"].items()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    notes = () if all(part in configs for part in parts) else (DEFAULTS,)
    return Contents(layers, tables, shapes, _stacked(found["layers"], names), notes)


def _tensor(shape: list[int], packed: str) -> Tensor:
    values = np.frombuffer(base64.b64decode(packed), dtype="<f4").reshape(shape)
    return torch.from_numpy(values.astype(np.float32))


def _stacked(listed: list[dict[str, Any]], names: list[str]) -> bool:
    """Whether the layers form a stack, with nothing between them that changes their inputs."""
    at = [index for index, one in enumerate(listed) if one["name"] in names]
    if not at or len(at) != len(names) or not all(one["sequential"] for one in listed):
        return False
    between = {one["class"] for index, one in enumerate(listed) if at[0] < index < at[-1] and index not in at}
    return between <= BETWEEN


class _Unlike(Exception):
    """Raised for layers that no cell here can represent, with the reason."""


def _layer(part: str, cells: list[dict[str, Any]], tensors: Mapping[str, Tensor], config: Any) -> Layer:
    names = tuple(one[role] for one in cells for role in ("kernel", "recurrent_kernel", "bias") if role in one)
    try:
        if [one["backward"] for one in cells] not in ([False], [False, True]):
            raise _Unlike("it needs one cell, or one for each direction")
        made = [_direction(one, tensors) for one in cells]
        cell, _, reset_after = made[0]
        if len({(cell, after) for cell, _, after in made}) > 1:
            raise _Unlike("its two directions differ")
        options = {} if config is None else _settings(config, cell, len(made) == 2)
        if reset_after is not None:
            options["reset_after"] = reset_after
        return Layer(part, part, cell, tuple(values for _, values, _ in made), names, options)
    except _Unlike as error:
        return Layer(part, part, "", (), names, problem=str(error))


def _direction(one: Mapping[str, str], tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor], bool | None]:
    """(cell, converted tensors, whether a GRU resets after the product: None if it has no bias to tell)."""
    kernel, recurrent = tensors[one["kernel"]], tensors.get(one.get("recurrent_kernel", ""), torch.zeros(0))
    shapes = f"no supported layer has tensors of shapes {list(kernel.shape)} and {list(recurrent.shape)}"
    if kernel.dim() != 2 or recurrent.dim() != 2 or not len(recurrent):
        raise _Unlike(shapes)
    H, G = recurrent.shape
    cell = next((cell for cell, gates in CELLS.items() if gates * H == G), "")
    if not cell or kernel.shape[1] != G:
        raise _Unlike(shapes)
    biases = torch.zeros(2, G)
    bias = tensors[one["bias"]] if "bias" in one else None
    if bias is not None:
        if bias.shape != (G,) and not (cell == "gru" and bias.shape == (2, G)):
            raise _Unlike(f"its bias {list(bias.shape)} doesn't fit its kernel {list(kernel.shape)}")
        biases[: bias.numel() // G] = bias
    rows = torch.cat([torch.arange(gate * H, (gate + 1) * H) for gate in GATES[cell]])
    values = {"weight_ih": kernel.T[rows], "weight_hh": recurrent.T[rows]}
    values |= {"bias_ih": biases[0, rows], "bias_hh": biases[1, rows]}
    return cell, values, bias.dim() == 2 if cell == "gru" and bias is not None else None


def _settings(listed: Mapping[str, Any], cell: str, both: bool) -> dict[str, Any]:
    """The settings of a layer's equation, from its config.

    Raises:
        _Unlike: no layer here has that equation.
    """
    kind, config = listed["class"], listed["config"]
    if (kind == "Bidirectional") != both:
        raise _Unlike("its settings and its weights disagree on whether it is bidirectional")
    if not both:
        return _equation(kind, config, cell, backward=False)
    if config.get("merge_mode", "concat") != "concat":
        raise _Unlike(f"its merge_mode is {config['merge_mode']!r}; only 'concat' is supported")
    told = _equation(*_inner(config.get("layer")), cell, backward=False)
    if config.get("backward_layer") and _equation(*_inner(config["backward_layer"]), cell, backward=True) != told:
        raise _Unlike("its two directions differ")
    return told


def _equation(kind: str, config: Mapping[str, Any], cell: str, *, backward: bool) -> dict[str, Any]:
    if bool(config.get("go_backwards")) != backward:
        raise _Unlike("its direction (go_backwards) isn't supported")
    if kind == "RNN":  # around a cell
        kind, config = _inner(config.get("cell"))
    if CLASSES.get(kind.removesuffix("Cell")) != cell:
        raise _Unlike(f"its class {kind} isn't supported")
    known = {"activation": ("tanh", "relu") if cell == "rnn" else ("tanh",), "recurrent_activation": ("sigmoid",)}
    for name, values in known.items():
        if config.get(name, values[0]) not in values:
            raise _Unlike(f"its {name} is {config[name]!r}; only {' or '.join(values)} is supported")
    if cell == "rnn":
        return {"nonlinearity": config.get("activation", "tanh")}
    return {"reset_after": bool(config.get("reset_after", False))} if cell == "gru" else {}


def _inner(listed: Any) -> tuple[str, Mapping[str, Any]]:
    one = listed if isinstance(listed, Mapping) else {}
    config = one.get("config")
    return str(one.get("class_name")), config if isinstance(config, Mapping) else {}


def _table(roles: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Table:
    """An embedding, or a dense layer (transposed)."""
    values = {"weight": tensors[roles["kernel"]]}
    if "bias" in roles:
        values = {"weight": values["weight"].T, "bias": tensors[roles["bias"]]}
    return Table(values, tuple(roles.values()))
