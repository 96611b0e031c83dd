"""Weights packed in the order in which the sampling loop reads them, as float32 or int8.

Shapes: G gates, H units, K inputs of a sum; A slots: the sums of a unit, one for each gate and for the GRU one more,
because its reset gate comes between the input's and h's part of n (slots r z n_x n_h). H and V are padded to whole
registers with units that stay at 0 and tokens of probability 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

GATES = {"rnn": 1, "gru": 3, "lstm": 4, "head": 1}
UNITS = {"rnn": 2, "gru": 1, "lstm": 1, "head": 2}  # registers of units in a block: `units` of cells.h


class Layout(NamedTuple):
    """The layout for one kind of cell: `lanes` floats in a register, `group` consecutive values of k."""

    kind: str
    lanes: int
    group: int

    def padded(self, size: int) -> int:
        """`size` rounded up to whole blocks."""
        block = UNITS[self.kind] * self.lanes
        return -(-size // block) * block

    def weights(self, weight_GHK: Tensor) -> Tensor:
        """Weights as [blocks, K / group, gates · units, lanes, group]."""
        (G, _, K), units = weight_GHK.shape, UNITS[self.kind]
        parts = weight_GHK.view(G, -1, units, self.lanes, K // self.group, self.group)
        return parts.permute(1, 4, 0, 2, 3, 5).contiguous()

    def sums(self, values_RAH: Tensor) -> Tensor:
        """Values of the sums as [R, blocks · slots · units · lanes]."""
        R, A, _ = values_RAH.shape
        parts = values_RAH.view(R, A, -1, UNITS[self.kind], self.lanes)
        return parts.permute(0, 2, 1, 3, 4).reshape(R, -1).contiguous()


class Packed(NamedTuple):
    """One layer's weights; `scale` and `offset` (as `Layout.sums`) for int8 only."""

    inputs: int
    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None
    offset: Tensor | None


def pack(layout: Layout, x_GHK: Tensor, h_GHK: Tensor, bias_AH: Tensor | None, precision: str) -> Packed:
    """Pack the weights of the input and of h (padded; K may be 0)."""
    bias = None if bias_AH is None else layout.sums(bias_AH[None])
    if precision == "float32":
        return Packed(x_GHK.shape[2], layout.weights(torch.cat([x_GHK, h_GHK], 2)), bias, None, None)
    scale_x, scale_h = _scale(x_GHK), _scale(h_GHK)
    both = torch.maximum(scale_x, scale_h)
    shared = torch.arange(len(both))[:, None] != (2 if layout.kind == "gru" else -1)  # n's two sums have a scale each
    scale_x, scale_h = torch.where(shared, both, scale_x), torch.where(shared, both, scale_h)
    x, h = (_rounded(w, scale) for w, scale in ((x_GHK, scale_x), (h_GHK, scale_h)))
    sum_x, sum_h = x.sum(2), h.sum(2)
    if layout.kind == "gru":
        scale = torch.cat([scale_x, scale_h[2:]])
        sums = torch.cat([(sum_x + sum_h)[:2], sum_x[2:], sum_h[2:]])
    else:
        scale, sums = both, sum_x + sum_h
    weight = layout.weights(torch.cat([x, h], 2).to(torch.int8))
    offset = layout.sums((128 * sums).to(torch.int32)[None])
    return Packed(
        x.shape[2], weight, bias, layout.sums(scale[None] / 127**2), offset
    )  # ±127: the largest weight, h = 1


def slots(kind: str, from_x: Tensor, from_h: Tensor) -> Tensor:
    """The input's and h's part of the gates' sums [..., G, H] as slots [..., A, H]: added, except for the GRU's n."""
    if kind != "gru":
        return from_x + from_h
    return torch.cat([(from_x + from_h)[..., :2, :], from_x[..., 2:, :], from_h[..., 2:, :]], -2)


def fill(tensor: Tensor, *sizes: int, value: float = 0.0) -> Tensor:
    """`tensor` with its last dimensions padded to `sizes`."""
    pad = [0, 0] * len(sizes)
    for n, size in enumerate(reversed(sizes)):
        pad[2 * n + 1] = size - tensor.shape[-1 - n]
    return torch.nn.functional.pad(tensor, pad, value=value)


def _scale(w_GHK: Tensor) -> Tensor:
    """The weight represented by 127, for each row [G, H]."""
    return w_GHK.abs().amax(2) if w_GHK.shape[2] else torch.zeros(w_GHK.shape[:2])


def _rounded(w_GHK: Tensor, scale_GH: Tensor) -> Tensor:
    return torch.round(w_GHK / torch.where(scale_GH > 0, scale_GH, 1)[..., None] * 127).to(torch.int64)
