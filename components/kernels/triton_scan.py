"""The linear recurrence h⟨t⟩ = a⟨t⟩ ∘ h⟨t−1⟩ + b⟨t⟩ in Triton, for a GPU: one launch forward, one launch backward.

T time, B batch, H hidden, N = B · H columns, which don't depend on each other. A program takes BLOCK columns through
all steps, with the state in registers; loads run ahead of the state, because they don't depend on it.

Only imported where it is used, since it needs the package triton. With TRITON_INTERPRET=1, read on import, Triton
interprets the kernels on the CPU. That is thousands of times slower, and for tests only.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 64  # columns of a program, one to a thread
WARPS = 2  # of 32 threads
AHEAD = 4  # steps in flight


def linear_scan(a_TBH: Tensor, b_TBH: Tensor, h_BH: Tensor) -> Tensor:
    """All states h⟨1⟩ … h⟨T⟩ [T, B, H] after h⟨0⟩ = `h_BH`, in its precision; differentiable once in all three.

    a and b may have another precision, such as bfloat16. The state is computed in float32 at least. The result is a
    view of what backward() reads.
    """
    if not a_TBH.shape == b_TBH.shape == (len(b_TBH), *h_BH.shape):  # a kernel would read beyond the end
        raise ValueError(f"the shapes {a_TBH.shape}, {b_TBH.shape} and {h_BH.shape} don't fit together")
    return _LinearScan.apply(a_TBH, b_TBH, h_BH)


def try_out(device: torch.device) -> None:
    """The smallest launch on a device, to see whether Triton runs there at all."""
    one = torch.ones(1, 1, 1, device=device)
    _LinearScan.apply(one, one, one[0])


class _LinearScan(torch.autograd.Function):
    """The equations of the backward pass are in `components.layers.scan`."""

    @staticmethod
    def forward(ctx: Any, a_TBH: Tensor, b_TBH: Tensor, h_BH: Tensor) -> Tensor:
        a_TBH, T = a_TBH.contiguous(), len(a_TBH)
        states_TBH = h_BH.new_empty(T + 1, *h_BH.shape)  # h⟨0⟩ first
        _launch(forward_kernel, h_BH, T, a_TBH, b_TBH.contiguous(), h_BH.contiguous(), states_TBH)
        ctx.save_for_backward(a_TBH, states_TBH)
        ctx.precision_of_b = b_TBH.dtype
        return states_TBH[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_TBH: Tensor) -> tuple[Tensor, ...]:
        a_TBH, states_TBH = ctx.saved_tensors
        grad_a_TBH, grad_h_BH = torch.empty_like(a_TBH), torch.empty_like(states_TBH[0])
        grad_b_TBH = torch.empty_like(a_TBH, dtype=ctx.precision_of_b)
        given = a_TBH, states_TBH, g_TBH.contiguous()
        _launch(backward_kernel, grad_h_BH, len(a_TBH), *given, grad_a_TBH, grad_b_TBH, grad_h_BH)
        return grad_a_TBH, grad_b_TBH, grad_h_BH


def _launch(kernel: Any, h_BH: Tensor, T: int, *tensors: Tensor) -> None:
    N = h_BH.numel()
    if N == 0:
        return
    precision = tl.float64 if h_BH.dtype == torch.float64 else tl.float32
    with torch.cuda.device_of(h_BH):  # Triton launches on the current GPU
        kernel[(triton.cdiv(N, BLOCK),)](*tensors, T, N, precision, BLOCK, AHEAD, num_warps=WARPS)


@triton.jit(do_not_specialize=["T"])
def forward_kernel(a, b, h_0, h, T, N, PRECISION: tl.constexpr, BLOCK: tl.constexpr, AHEAD: tl.constexpr):
    """Pointers to a, b [T, N], h⟨0⟩ [N] and, written, h⟨0⟩ … h⟨T⟩ [T + 1, N]."""
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = column < N
    a, b, h = a + column, b + column, h + column
    state = tl.load(h_0 + column, there, 0).to(PRECISION)
    tl.store(h, state, there)
    for _ in tl.range(T, num_stages=AHEAD):
        h += N
        state = tl.load(a, there, 0).to(PRECISION) * state + tl.load(b, there, 0).to(PRECISION)
        tl.store(h, state, there)
        a += N
        b += N


@triton.jit(do_not_specialize=["T"])
def backward_kernel(
    a, h, g, grad_a, grad_b, grad_h_0, T, N, PRECISION: tl.constexpr, BLOCK: tl.constexpr, AHEAD: tl.constexpr
):
    """Pointers to a [T, N], h⟨0⟩ … h⟨T⟩ [T + 1, N], ∂L/∂y [T, N] and, written, ∂L/∂a, ∂L/∂b [T, N], ∂L/∂h⟨0⟩ [N]."""
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = column < N
    place = column + (T - 1).to(tl.int64) * N  # of the step, the last one first
    later = tl.full((BLOCK,), 0, PRECISION)  # what the step after hands down: a⟨t+1⟩ ∘ d⟨t+1⟩
    for _ in tl.range(T, num_stages=AHEAD):
        d = tl.load(g + place, there, 0).to(PRECISION) + later
        tl.store(grad_b + place, d, there)
        tl.store(grad_a + place, d * tl.load(h + place, there, 0).to(PRECISION), there)
        later = tl.load(a + place, there, 0).to(PRECISION) * d
        place -= N
    tl.store(grad_h_0 + column, later, there)
