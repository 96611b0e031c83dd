"""The linear recurrence h⟨t⟩ = a⟨t⟩ ∘ h⟨t−1⟩ + b⟨t⟩, in parallel over steps, differentiable.

T time, B batch, H hidden, L steps of a chunk, C chunks. The composition of two steps has the form of a step, so all
chunks advance in parallel and are then joined: L + C dependent operations instead of T (Blelloch 1990). There are no
divisions and no logarithms, so no range loses precision.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# On a CPU, chunks do twice the work. They are faster only if a step is so small that its overhead dominates.
CHUNKS_BELOW = 4096  # B · H


def linear_scan(a_TBH: Tensor, b_TBH: Tensor, h_BH: Tensor, chunk: int | None = None) -> Tensor:
    """All states h⟨1⟩ … h⟨T⟩ [T, B, H] after h⟨0⟩ = `h_BH`. `chunk`: L (None: automatic)."""
    if chunk is None:
        T, B, H = b_TBH.shape
        chunk = max(1, T if b_TBH.device.type == "cpu" and B * H >= CHUNKS_BELOW else math.isqrt(T))
    return _LinearScan.apply(a_TBH, b_TBH, h_BH, chunk)


class _LinearScan(torch.autograd.Function):
    """The backward pass is the same recurrence from the end: with g = ∂L/∂y and d = ∂L/∂h, all paths included,
    d⟨t⟩ = g⟨t⟩ + a⟨t+1⟩ ∘ d⟨t+1⟩; ∂L/∂b⟨t⟩ = d⟨t⟩, ∂L/∂a⟨t⟩ = d⟨t⟩ ∘ h⟨t−1⟩, ∂L/∂h⟨0⟩ = a⟨1⟩ ∘ d⟨1⟩."""

    @staticmethod
    def forward(ctx: Any, a_TBH: Tensor, b_TBH: Tensor, h_BH: Tensor, chunk: int) -> Tensor:
        h_TBH = _scan(a_TBH, b_TBH, h_BH, chunk)
        ctx.save_for_backward(a_TBH, h_BH, h_TBH)
        ctx.chunk = chunk
        return h_TBH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_TBH: Tensor) -> tuple[Tensor | None, ...]:
        a_TBH, h_BH, h_TBH = ctx.saved_tensors
        if len(a_TBH) == 0:
            return a_TBH, a_TBH, torch.zeros_like(h_BH), None
        nothing_BH = torch.zeros_like(h_BH)
        after_TBH = torch.cat([a_TBH[1:], nothing_BH[None]])  # a⟨t+1⟩
        d_TBH = _scan(after_TBH.flip(0), g_TBH.flip(0), nothing_BH, ctx.chunk).flip(0)
        return d_TBH * torch.cat([h_BH[None], h_TBH[:-1]]), d_TBH, a_TBH[0] * d_TBH[0], None


def _scan(a_TBH: Tensor, b_TBH: Tensor, h_BH: Tensor, L: int) -> Tensor:
    T, B, H = b_TBH.shape
    if T == 0:
        return b_TBH.clone()
    C = -(-T // L)
    h_LCBH, a_LCBH = _chunks(b_TBH, C, L), _chunks(a_TBH, C, L)
    h_LCBH[0, 0].addcmul_(a_LCBH[0, 0], h_BH)
    for t in range(1, L):  # every chunk from state 0 (the first from h⟨0⟩), and the cumulative product of its a
        h_LCBH[t].addcmul_(a_LCBH[t], h_LCBH[t - 1])
        if C > 1:
            a_LCBH[t] *= a_LCBH[t - 1]
    for c in range(1, C):  # add the contribution of the state at the chunk's start
        h_LCBH[:, c].addcmul_(a_LCBH[:, c], h_LCBH[-1, c - 1])
    return h_LCBH.transpose(0, 1).reshape(C * L, B, H)[:T]


def _chunks(x_TBH: Tensor, C: int, L: int) -> Tensor:
    """A copy [L, C, B, H], 0 after T."""
    T, B, H = x_TBH.shape
    padded = x_TBH.new_zeros(C * L, B, H)
    padded[:T] = x_TBH
    return padded.view(C, L, B, H).transpose(0, 1).contiguous()
