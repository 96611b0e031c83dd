"""Packing of rows of unequal length for cuDNN and oneDNN: longest first, the steps of all rows contiguous.

It is computed once per batch: all layers and directions get the same lengths tensor.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from components.layers.base import moved


class Packing(NamedTuple):
    """`order` sorts the rows by decreasing length and `inverse` undoes it; `lengths`, sorted, are on the CPU and at
    least 1; `empty_B1` marks rows without steps."""

    lengths: Tensor
    order: Tensor
    inverse: Tensor
    empty_B1: Tensor


_ON_CPU = WeakTensorKeyDictionary()
_PACKINGS = WeakTensorKeyDictionary()


def lengths_on(device: torch.device, lengths_B: Tensor) -> Tensor:
    """Lengths on a device. The CPU's copy is cached, so that reading it needs no synchronisation."""
    there = moved(lengths_B, device)
    if there is not lengths_B:
        _ON_CPU[there] = lengths_B
    return there


def packing(lengths_B: Tensor) -> Packing:
    """The packing for a batch with these lengths."""
    found = _PACKINGS.get(lengths_B)
    if found is None:
        lengths = _ON_CPU.get(lengths_B, lengths_B).to("cpu", torch.int64)
        order = torch.argsort(lengths, descending=True, stable=True)
        places = moved(torch.stack([order, torch.argsort(order)]), lengths_B.device)
        found = Packing(lengths[order].clamp(min=1), *places, (lengths_B == 0).unsqueeze(1))
        _PACKINGS[lengths_B] = found
    return found
