"""Shared by the three kernels: the input product of a whole sequence, time-major buffers, ragged batches.

B batch, T time, I input, G gate rows, S streams of ids. Shapes are batch-first, as everywhere in the project; the
memory behind them is time-major ([T, B, …] transposed), so that a step reads one contiguous block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


class Gradients(NamedTuple):
    """∂L/∂ each input of `forward`, by its name."""

    gates_x: Tensor
    state: State
    weight_hh: Tensor
    bias_hh: Tensor | None
    peepholes: Tensor | None = None


@torch.no_grad()
def project(x: Tensor, weight_ih_GI: Tensor, bias_ih_G: Tensor | None) -> Tensor:
    """The product W_ih x⟨t⟩ + b_ih of all steps at once, [B, T, G].

    Args:
        x: float [B, T, I]: one GEMM. Or int64 ids [B, T] or [B, T, S], for a one-hot vector or a concatenation of S of
            them (each stream's row offset already added): rows of W_ihᵀ are gathered and summed; no one-hot vector is
            built.
    """
    B, T = x.shape[:2]
    x_NX = time_major_steps(x)
    if not x.is_floating_point():
        product_NG = F.embedding_bag(x_NX, weight_ih_GI.t().contiguous(), mode="sum")
        if bias_ih_G is not None:
            product_NG += bias_ih_G
    elif bias_ih_G is not None:
        product_NG = torch.addmm(bias_ih_G, x_NX, weight_ih_GI.t())
    else:
        product_NG = x_NX @ weight_ih_GI.t()
    return product_NG.view(T, B, len(weight_ih_GI)).transpose(0, 1)


@torch.no_grad()
def project_backward(
    grad_gates_BTG: Tensor, x: Tensor, weight_ih_GI: Tensor, *, grad_x_needed: bool = True
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of `project`: (grad_x [B, T, I] or None, grad_weight_ih [G, I], grad_bias_ih [G])."""
    B, T = x.shape[:2]
    x_NX, grad_NG = time_major_steps(x), time_major_steps(grad_gates_BTG)
    grad_x = None
    if x.is_floating_point():
        grad_weight_GI = grad_NG.t() @ x_NX
        if grad_x_needed:
            grad_x = (grad_NG @ weight_ih_GI).view(T, B, weight_ih_GI.shape[1]).transpose(0, 1)
    else:
        # the gradient of a gather is a scatter-add; this op adds in the order of the ids (index_add_ doesn't on CUDA)
        grad_weight_GI = torch.zeros_like(weight_ih_GI)
        for ids_N in x_NX.unbind(1):
            grad_weight_GI += torch.ops.aten.embedding_dense_backward(
                grad_NG, ids_N, weight_ih_GI.shape[1], padding_idx=-1, scale_grad_by_freq=False
            ).t()
    return grad_x, grad_weight_GI, grad_NG.sum(0)


def time_major_steps(sequence_BTX: Tensor) -> Tensor:
    """The steps [T·B, X] of a sequence [B, T, X]; a sequence [B, T] has X = 1. No copy if memory is time-major."""
    B, T, X = (*sequence_BTX.shape, 1)[:3]
    return sequence_BTX.transpose(0, 1).reshape(T * B, X)


def steps_alive(lengths_B: Tensor | None, T: int) -> Tensor | None:
    """True where a row hasn't ended, bool [T, B, 1]; None if no row ends before T."""
    if lengths_B is None:
        return None
    return (torch.arange(T, device=lengths_B.device)[:, None] < lengths_B)[:, :, None]


def time_major(sequence_BTX: Tensor, alive_TB1: Tensor | None, bias_X: Tensor | None = None) -> Tensor:
    """A new contiguous [T, B, X] of the sequence plus the bias; 0 after a row's end, also in place of NaN."""
    sequence_TBX = sequence_BTX.transpose(0, 1)
    fresh_TBX = torch.empty(sequence_TBX.shape, dtype=sequence_BTX.dtype, device=sequence_BTX.device)
    if bias_X is None:
        fresh_TBX.copy_(sequence_TBX)
    else:
        torch.add(sequence_TBX, bias_X, out=fresh_TBX)
    return fresh_TBX if alive_TB1 is None else fresh_TBX.masked_fill_(~alive_TB1, 0)


def zero_after_end(x: Tensor, lengths_B: Tensor | None) -> Tensor:
    """x [B, T, …] with 0 after each row's end: 0 · NaN is NaN, so padding could reach the weight gradients."""
    if lengths_B is None:
        return x
    ended_BT = ~steps_alive(lengths_B, x.shape[1])[:, :, 0].t()
    return x.masked_fill(ended_BT if x.dim() == 2 else ended_BT[:, :, None], 0)


def outputs(h_TBH: Tensor, alive_TB1: Tensor | None) -> Tensor:
    """The states h⟨1⟩ … h⟨T⟩ as outputs y [B, T, H]: 0 after a row's end. A view if no row ends early."""
    return (h_TBH if alive_TB1 is None else h_TBH.masked_fill(~alive_TB1, 0)).transpose(0, 1)


def record_norms(record_TB: Tensor, t: int, grad_h_BH: Tensor, alive_TB1: Tensor | None) -> None:
    """Write ‖∂L/∂h⟨t⟩‖ of each row into record[t]; 0 where the row has ended."""
    norms_B = grad_h_BH.norm(dim=1)
    record_TB[t] = norms_B if alive_TB1 is None else norms_B.masked_fill(~alive_TB1[t, :, 0], 0)
