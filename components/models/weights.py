"""Weights by name, and tensors in safetensors files, written atomically, without pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from components.errors import UserError
from components.whole_files import written_whole


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-ready facts to one file, atomically."""
    contiguous = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as temporary:
        save_file(contiguous, temporary, metadata={"facts": json.dumps(facts)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors (on the CPU) and facts of a file by `write_tensors`.

    Raises:
        UserError: the file doesn't exist or is damaged.
    """
    with _opened(path) as (file, facts):
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a dict


def read_facts(path: Path) -> dict[str, Any]:
    """Read the facts of a file by `write_tensors`, without the tensors.

    Raises:
        UserError: the file doesn't exist or is damaged.
    """
    with _opened(path) as (_, facts):
        return facts


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A file by `write_tensors`, and its facts."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            if not isinstance(facts, dict):
                raise ValueError("its metadata aren't a mapping")
            yield file, facts
    except FileNotFoundError:
        raise UserError("no such file", where=str(path)) from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"is damaged: {error}", where=str(path), hint="train the model again") from None


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, without duplicates (tied weights have their first name)."""
    kept = model.state_dict(keep_vars=True)
    buffers = {name: value for name, value in model.named_buffers() if name in kept}
    return dict(model.named_parameters()) | buffers


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Copy weights into a model, exactly.

    Raises:
        UserError: names are missing or unexpected, or shapes differ; all are listed.
    """
    own = weights(model)
    problems = [f"missing {name}" for name in own.keys() - tensors.keys()]
    problems += [f"unexpected {name}" for name in tensors.keys() - own.keys()]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, the model's has {list(own[name].shape)}"
        for name in own.keys() & tensors.keys()
        if own[name].shape != tensors[name].shape
    ]
    if problems:
        raise UserError(f"weights don't fit the model: {'; '.join(sorted(problems)[:8])}", where=where)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def pack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under "prefix:name"."""
    return {f"{prefix}:{name}": tensor for name, tensor in tensors.items()}


def unpack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `pack` put under the prefix."""
    return {name.partition(":")[2]: t for name, t in tensors.items() if name.startswith(f"{prefix}:")}
