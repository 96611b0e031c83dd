"""Keras's files as JSON, read in the sandbox: without torch, and without executing code of the file.

Keras 3 writes `…/lstm/cell/vars/0` (kernel), 1 (recurrent kernel), 2 (bias), in .weights.h5 and in .keras, a zip with
the model's config.json. Older .h5 files name layers in attributes, and tensors by their role. Links to other files and
external datasets aren't followed.
"""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from components.datasets.files.sandbox import Refused

MOST_CONFIG, MOST_BYTES = 32 << 20, 1 << 30
MOST_TENSORS, DEEPEST = 20_000, 32
ROLES = ("kernel", "recurrent_kernel", "bias")
OTHERS = ("optimizer", "optimizer_weights", "_optimizer")  # groups of the optimizer
BEFORE = "_layer_checkpoint_dependencies/"  # prefix of Keras 2.12 and 2.13, now layers/
Found = dict[str, dict[str, str]]  # {owner: {role: path}}


def warm_up() -> None:
    """Import h5py before the sandbox's limits apply."""
    import h5py  # noqa: F401


def read(data: bytes, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """{"cells": [{part, backward, role: path}], "tables": {part: {role: path}}, "layers": those of the model's config,
    in their order, "tensors": {path: [shape, base64 of float32]}}"""
    import h5py

    config = None
    if name.lower().endswith(".keras"):
        data, config = _unpacked(data)
    with h5py.File(io.BytesIO(data), "r") as file:
        config = config or _text(file.attrs.get("model_config"))
        top = file["model_weights"] if "model_weights" in file and _hard(file, "model_weights") else file
        tensors = dict(_datasets(top, "", [MOST_TENSORS]))
        if sum(one.size * 4 for one in tensors.values()) > MOST_BYTES:
            raise Refused(f"contains more than {MOST_BYTES >> 20:,} MB")
        layers = _layers(json.loads(config)) if config else []
        older = any(key.startswith("layer_names") for key in top.attrs)
        cells, tables = _by_name(tensors) if older else _by_number(top, tensors, layers)
        return {
            "cells": cells,
            "tables": tables,
            "tensors": {path: _packed(one) for path, one in tensors.items()},
            "layers": layers,
        }


def _unpacked(data: bytes) -> tuple[bytes, str | None]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _entry(archive, "model.weights.h5", MOST_BYTES), _entry(archive, "config.json", MOST_CONFIG).decode()
    except KeyError as error:
        raise Refused(f"isn't a .keras file written by Keras 3: {error.args[0]}") from None


def _entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    with archive.open(name) as entry:
        content = entry.read(most + 1)
    if len(content) > most:
        raise Refused(f"{name} is larger than {most >> 20:,} MB")
    return content


def _text(value: Any) -> str | None:
    value = value.decode() if isinstance(value, bytes) else value
    return value if isinstance(value, str) and len(value) <= MOST_CONFIG else None


def _hard(group: Any, name: str) -> bool:
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _datasets(group: Any, prefix: str, left: list[int], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(path, dataset) of the numeric datasets in a group."""
    import h5py

    for name in group:
        left[0] -= 1
        if left[0] < 0 or depth > DEEPEST:
            raise Refused(f"contains more than {MOST_TENSORS:,} tensors, or is nested too deeply")
        if (not prefix and name in OTHERS) or not name.isprintable():
            continue
        if not _hard(group, name):
            raise Refused(f"{prefix}{name} is a link; links aren't followed")
        one = group[name]
        if isinstance(one, h5py.Group):
            yield from _datasets(one, f"{prefix}{name}/", left, depth + 1)
        elif one.external or one.is_virtual:
            raise Refused(f"{prefix}{name} is stored in another file, which isn't read")
        elif one.dtype.kind == "f" and one.shape:
            yield f"{prefix}{name}", one


def _packed(dataset: Any) -> list[Any]:
    values = np.ascontiguousarray(dataset[()], dtype="<f4")
    return [list(values.shape), base64.b64encode(values.tobytes()).decode("ascii")]


def _layers(config: Any) -> list[dict[str, Any]]:
    """The model's layers: class, name, config, and the path of their weights in Keras 3."""
    inner = config.get("config") if isinstance(config, dict) else None
    listed = inner.get("layers") if isinstance(inner, dict) else inner
    counts: dict[str, int] = {}
    found = []
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict) or not isinstance(one.get("config"), dict):
            continue
        kind = str(one.get("class_name"))
        snake = _snake(kind)
        number = counts.get(snake, 0)
        counts[snake] = number + 1
        path = f"layers/{snake}{f'_{number}' if number else ''}"
        name = str(one.get("name") or one["config"].get("name"))
        found.append({"class": kind, "name": name, "path": path, "config": one["config"]})
    sequential = isinstance(config, dict) and config.get("class_name") == "Sequential"
    return [{**one, "sequential": sequential} for one in found]


def _snake(name: str) -> str:
    """As keras.src.utils.naming.to_snake_case."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _by_number(top: Any, tensors: Mapping[str, Any], layers: list[dict[str, Any]]) -> tuple[list[Any], Found]:
    """Files of Keras 3."""
    called = {one["path"]: one["name"] for one in layers}
    owners: Found = {}
    for path in tensors:
        owner, _, number = path.rpartition("/")
        if owner.endswith("vars") and number.isdigit():
            owners.setdefault(owner.removesuffix("vars").rstrip("/"), {})[number] = path
    cells, tables = [], {}
    for owner, numbered in owners.items():
        if not set(numbered) <= {"0", "1", "2"} or "0" not in numbered:
            continue  # not a kernel, recurrent kernel or bias
        if re.search(r"(^|/)cell$", owner):
            layer, way = re.fullmatch(r"(.*?)(?:/(forward|backward)_layer)?/?cell", owner).groups()
            roles = {role: numbered[str(n)] for n, role in enumerate(ROLES) if str(n) in numbered}
            cells.append({"part": _called(top, layer, called), "backward": way == "backward", **roles})
        elif "2" not in numbered:
            roles = {role: numbered[str(n)] for n, role in enumerate(("kernel", "bias")) if str(n) in numbered}
            tables[_called(top, owner, called)] = roles
    return cells, tables


def _called(top: Any, layer: str, called: Mapping[str, str]) -> str:
    """A layer's name as in `model.summary()`, else its path."""
    own = f"{layer}/vars" if layer else "vars"
    name = _text(top[own].attrs.get("name")) if own in top and _hard(top, own) else None
    return called.get(layer.replace(BEFORE, "layers/")) or name or layer


def _by_name(tensors: Mapping[str, Any]) -> tuple[list[Any], Found]:
    """Files of Keras 1 and 2, and .h5 files of Keras 3."""
    owners: Found = {}
    for path in tensors:
        owner, _, role = path.rpartition("/")
        owners.setdefault(owner, {})[role.partition(":")[0]] = path
    cells, tables = [], {}
    for owner, roles in owners.items():
        part, ways = owner.partition("/")[0], owner.split("/")
        if "recurrent_kernel" in roles and set(roles) <= set(ROLES):
            cells.append({"part": part, "backward": any(way.startswith("backward_") for way in ways[1:]), **roles})
        elif set(roles) in ({"kernel", "bias"}, {"embeddings"}, {"kernel"}):
            kernel = roles.get("kernel") or roles["embeddings"]
            tables[part] = {"kernel": kernel} | ({"bias": roles["bias"]} if "bias" in roles else {})
    return cells, tables
