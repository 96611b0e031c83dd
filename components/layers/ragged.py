"""Rows of unequal length, as cuDNN and oneDNN take them: longest first, the steps of all rows packed.

The plan is made once a batch: all layers, and both directions of each, get the same lengths tensor.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Packing(NamedTuple):
    """`order` sorts the rows by falling length and `inverse` undoes it; `lengths`, sorted, stay on the CPU, and are at
    least 1; `empty_B1` marks the rows without a step."""

    lengths: Tensor
    order: Tensor
    inverse: Tensor
    empty_B1: Tensor


_ON_CPU = WeakTensorKeyDictionary()
_PACKINGS = WeakTensorKeyDictionary()


def moved(lengths_B: Tensor, device: torch.device) -> Tensor:
    """Lengths on the device. The copy that stays on the CPU is remembered, so that nobody has to wait for it."""
    on_device = lengths_B.to(device, non_blocking=True)
    if on_device is not lengths_B:
        _ON_CPU[on_device] = lengths_B
    return on_device


def packing(lengths_B: Tensor) -> Packing:
    """The plan for a batch with these lengths."""
    found = _PACKINGS.get(lengths_B)
    if found is None:
        lengths = _ON_CPU.get(lengths_B, lengths_B).to("cpu", torch.int64)
        order = torch.argsort(lengths, descending=True, stable=True)
        device = lengths_B.device
        found = Packing(
            lengths[order].clamp(min=1),
            order.to(device, non_blocking=True),
            torch.argsort(order).to(device, non_blocking=True),
            (lengths_B == 0).unsqueeze(1),
        )
        _PACKINGS[lengths_B] = found
    return found
