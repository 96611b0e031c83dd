"""The LSTM with peepholes in Triton, for a GPU: a step is one product and one launch, forward and backward.

The equations, their numbers and the names are those of `lstm.py`; N = B · H units, one to a thread. Only imported where
it is used, like `triton_scan.py`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from components.kernels import lstm
from components.kernels.sequence import Gradients, State, outputs, steps_alive, time_major

BLOCK = 64  # units of a program
WARPS = 2


@torch.no_grad()
def forward(
    gates_x_BTG: Tensor,
    state: State,
    weight_hh_GH: Tensor,
    bias_hh_G: Tensor | None,
    lengths_B: Tensor | None = None,
    *,
    peepholes: Tensor,
) -> tuple[Tensor, State, lstm.Saved]:
    """As `lstm.forward`."""
    B, T, G = gates_x_BTG.shape
    alive_TB1 = steps_alive(lengths_B, T)
    gates_TBG = time_major(gates_x_BTG, alive_TB1, bias_hh_G)
    tanh_c_TBH = gates_x_BTG.new_empty(T, B, G // lstm.GATES)
    h_TBH, c_TBH = gates_x_BTG.new_empty(2, T + 1, B, G // lstm.GATES)
    h_TBH[0], c_TBH[0] = state["h"], state["c"]
    peepholes, recurrent_HG = peepholes.contiguous(), weight_hh_GH.t()
    for t in range(T):
        gates_TBG[t].addmm_(h_TBH[t], recurrent_HG)  # (1)
        _launch(forward_step, h_TBH[t], alive_TB1, t, gates_TBG, c_TBH, h_TBH, tanh_c_TBH, peepholes)
    saved = lstm.Saved(gates_TBG, tanh_c_TBH, h_TBH, c_TBH, weight_hh_GH, bias_hh_G, peepholes, alive_TB1)
    return outputs(h_TBH[1:], alive_TB1), {"h": h_TBH[T].clone(), "c": c_TBH[T].clone()}, saved


@torch.no_grad()
def backward(
    saved: lstm.Saved, grad_y_BTH: Tensor, grad_final_state: State, *, record: Tensor | None = None
) -> Gradients:
    """As `lstm.backward`, which also computes what `record` asks for."""
    if record is not None:
        return lstm.backward(saved, grad_y_BTH, grad_final_state, record=record)
    gates_TBG, tanh_c_TBH, _, c_TBH, weight_hh_GH, _, peepholes, alive_TB1 = saved
    dy_TBH, ds_TBG = time_major(grad_y_BTH, alive_TB1), torch.empty_like(gates_TBG)
    dh_BH, dc_BH = (grad_final_state[name].clone(memory_format=torch.contiguous_format) for name in lstm.STATE)
    for t in reversed(range(len(gates_TBG))):
        given = gates_TBG, c_TBH, tanh_c_TBH, peepholes, dy_TBH
        _launch(backward_step, dh_BH, alive_TB1, t, *given, ds_TBG, dh_BH, dc_BH)
        dh_BH.addmm_(ds_TBG[t], weight_hh_GH)  # (1′) to h⟨t−1⟩
    return lstm.gradients(saved, ds_TBG, dh_BH, dc_BH)


def _launch(step: Any, h_BH: Tensor, alive_TB1: Tensor | None, t: int, *tensors: Tensor) -> None:
    (_, H), N = h_BH.shape, h_BH.numel()
    if N == 0:
        return
    alive, ragged = (tensors[0], False) if alive_TB1 is None else (alive_TB1, True)
    with torch.cuda.device_of(h_BH):  # Triton launches on the current GPU
        step[(triton.cdiv(N, BLOCK),)](*tensors, alive, t, N, H, ragged, BLOCK, num_warps=WARPS)


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def tanh(x):
    return 1 - 2 / (1 + tl.exp(2 * x))


@triton.jit(do_not_specialize=["t"])
def forward_step(gates, c, h, tanh_c, peepholes, alive, t, N, H, RAGGED: tl.constexpr, BLOCK: tl.constexpr):
    """(2) to (7) of step t. Pointers to whole sequences; c and h begin with step 0, so c⟨t−1⟩ is at place t."""
    unit = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there, step = unit < N, t.to(tl.int64) * N
    row, column = unit // H, unit % H
    s, p = gates + 4 * step + 4 * row * H + column, peepholes + column
    c, h = c + step + unit, h + step + unit
    c_before = tl.load(c, there, 0)
    i = sigmoid(tl.load(s, there, 0) + tl.load(p, there, 0) * c_before)  # (2)
    f = sigmoid(tl.load(s + H, there, 0) + tl.load(p + H, there, 0) * c_before)  # (3)
    g = tanh(tl.load(s + 2 * H, there, 0))  # (4)
    c_after = f * c_before + i * g  # (5)
    o = sigmoid(tl.load(s + 3 * H, there, 0) + tl.load(p + 2 * H, there, 0) * c_after)  # (6)
    squashed = tanh(c_after)
    h_after = o * squashed  # (7)
    tl.store(s, i, there)
    tl.store(s + H, f, there)
    tl.store(s + 2 * H, g, there)
    tl.store(s + 3 * H, o, there)
    tl.store(tanh_c + step + unit, squashed, there)
    if RAGGED:
        lives = tl.load(alive + step // H + row, there, 0) != 0
        c_after = tl.where(lives, c_after, c_before)
        h_after = tl.where(lives, h_after, tl.load(h, there, 0))
    tl.store(c + N, c_after, there)
    tl.store(h + N, h_after, there)


@triton.jit(do_not_specialize=["t"])
def backward_step(
    gates, c, tanh_c, peepholes, dy, ds, dh, dc, alive, t, N, H, RAGGED: tl.constexpr, BLOCK: tl.constexpr
):
    """(7′) to (2′) of step t. Writes ∂L/∂s⟨t⟩, and over ∂L/∂c⟨t⟩ that of c⟨t−1⟩, over ∂L/∂h⟨t⟩ what of it passes to
    h⟨t−1⟩ without a product: all of it where the row has ended, else nothing."""
    unit = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there, step = unit < N, t.to(tl.int64) * N
    row, column = unit // H, unit % H
    s, p = 4 * step + 4 * row * H + column, peepholes + column
    i, f = tl.load(gates + s, there, 0), tl.load(gates + s + H, there, 0)
    g, o = tl.load(gates + s + 2 * H, there, 0), tl.load(gates + s + 3 * H, there, 0)
    c_before, squashed = tl.load(c + step + unit, there, 0), tl.load(tanh_c + step + unit, there, 0)
    dh_whole = tl.load(dh + unit, there, 0) + tl.load(dy + step + unit, there, 0)
    dc_later = tl.load(dc + unit, there, 0)
    ds_o = dh_whole * squashed * o * (1 - o)  # (7′) (6′)
    dc_whole = dc_later + dh_whole * o * (1 - squashed * squashed) + tl.load(p + 2 * H, there, 0) * ds_o  # (7′) (6′)
    ds_i = dc_whole * g * i * (1 - i)  # (5′) (2′)
    ds_f = dc_whole * c_before * f * (1 - f)  # (5′) (3′)
    ds_g = dc_whole * i * (1 - g * g)  # (5′) (4′)
    dc_before = dc_whole * f + tl.load(p, there, 0) * ds_i + tl.load(p + H, there, 0) * ds_f  # (5′) (3′) (2′)
    dh_passed = 0.0
    if RAGGED:
        lives = tl.load(alive + step // H + row, there, 0) != 0
        ds_i, ds_f = tl.where(lives, ds_i, 0), tl.where(lives, ds_f, 0)
        ds_g, ds_o = tl.where(lives, ds_g, 0), tl.where(lives, ds_o, 0)
        dc_before = tl.where(lives, dc_before, dc_later)
        dh_passed = tl.where(lives, 0, dh_whole)
    tl.store(ds + s, ds_i, there)
    tl.store(ds + s + H, ds_f, there)
    tl.store(ds + s + 2 * H, ds_g, there)
    tl.store(ds + s + 3 * H, ds_o, there)
    tl.store(dc + unit, dc_before, there)
    tl.store(dh + unit, dh_passed, there)
