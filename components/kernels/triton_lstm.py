"""The LSTM, with or without peepholes, in Triton for a GPU: one launch for all steps where it can, forward and
backward.

The equations, their numbers and the names are those of `lstm.py`; its products and the launch are in `triton_steps.py`.
Only imported where it is used.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from components.kernels import lstm
from components.kernels.sequence import Gradients, State, outputs, steps_alive, time_major
from components.kernels.triton_steps import (
    COLUMNS,
    arrive,
    deep_product,
    four,
    launch,
    sigmoid,
    tanh,
    three,
    wait,
    wide_product,
)


@torch.no_grad()
def forward(
    gates_x_BTG: Tensor,
    state: State,
    weight_hh_GH: Tensor,
    bias_hh_G: Tensor | None,
    lengths_B: Tensor | None = None,
    *,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, State, lstm.Saved]:
    """As `lstm.forward`. In bfloat16, c and the sums are float32."""
    B, T, G = gates_x_BTG.shape
    H = G // lstm.GATES
    alive_TB1 = steps_alive(lengths_B, T)
    gates_TBG = time_major(gates_x_BTG, alive_TB1, bias_hh_G)
    h_TBH, tanh_c_TBH = gates_x_BTG.new_empty(T + 1, B, H), gates_x_BTG.new_empty(T, B, H)
    c_TBH = torch.empty_like(h_TBH, dtype=torch.promote_types(h_TBH.dtype, torch.float32))
    h_TBH[0], c_TBH[0] = state["h"], state["c"]
    weight_hh_GH = weight_hh_GH.contiguous()
    given = weight_hh_GH, gates_TBG, c_TBH, h_TBH, tanh_c_TBH, _or(peepholes, weight_hh_GH)
    launch(forward_steps, T, (B, H), alive_TB1, *given, PEEPHOLES=peepholes is not None)
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
    T, B, H = tanh_c_TBH.shape
    dy_TBH, ds_TBG = time_major(grad_y_BTH, alive_TB1), torch.empty_like(gates_TBG)
    dh_BH, dc_BH = (torch.empty_like(c_TBH[0]).copy_(grad_final_state[name]) for name in lstm.STATE)
    given = weight_hh_GH, gates_TBG, c_TBH, tanh_c_TBH, _or(peepholes, weight_hh_GH), dy_TBH, ds_TBG, dh_BH, dc_BH
    launch(backward_steps, T, (B, H), alive_TB1, *given, backwards=True, PEEPHOLES=peepholes is not None)
    if T:
        dh_BH += ds_TBG[0] @ weight_hh_GH  # (1′) to h⟨0⟩
    return lstm.gradients(saved, ds_TBG, dh_BH, dc_BH)


def try_out(device: torch.device) -> None:
    """A small launch of programs that wait for each other, to see whether that works on a device."""
    H = COLUMNS.value + 1
    ones = torch.ones(4 * H, H, device=device)
    forward(ones[None, :1].repeat(1, 2, 4), {"h": ones[:1], "c": ones[:1]}, ones, None)


def _or(peepholes: Tensor | None, other: Tensor) -> Tensor:
    """What a kernel gets that doesn't read it."""
    return other if peepholes is None else peepholes.contiguous()


@triton.jit(do_not_specialize=["t", "count", "T"])
def forward_steps(
    weight,
    gates,
    c,
    h,
    tanh_c,
    peepholes,
    alive,
    arrived,
    t,
    count,
    T,
    B,
    H,
    PEEPHOLES: tl.constexpr,
    RAGGED: tl.constexpr,
    BARRIER: tl.constexpr,
    PRODUCTS: tl.constexpr,
    NUMBER: tl.constexpr,
    ROWS: tl.constexpr,
):
    """(1) to (7). Pointers to whole sequences; c and h begin with step 0, so h⟨t−1⟩ is at place t."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = (row < B)[:, None] & (column < H)[None, :]
    unit = row[:, None] * H + column[None, :]
    of_gates = tl.arange(0, 4 * COLUMNS)
    gate_column = tl.program_id(0) * COLUMNS + of_gates % COLUMNS
    gate_row = of_gates // COLUMNS * H + gate_column
    first = t.to(tl.int64) * B * H
    c_before, h_before = tl.load(c + first + unit, there, 0), tl.load(h + first + unit, there, 0).to(NUMBER)
    if PEEPHOLES:
        p, p_there = peepholes + column, column < H
        p_i = tl.load(p, p_there, 0).to(NUMBER)[None, :]
        p_f = tl.load(p + H, p_there, 0).to(NUMBER)[None, :]
        p_o = tl.load(p + 2 * H, p_there, 0).to(NUMBER)[None, :]
    for done in range(count):
        step = (t + done).to(tl.int64) * B * H
        s = gates + 4 * step + 4 * row[:, None] * H + column[None, :]
        i, f, g = three(s, there, H, NUMBER)
        o = tl.load(s + 3 * H, there, 0).to(NUMBER)
        total = wide_product(h + step, weight, row, gate_row, B, gate_column < H, H, PRODUCTS, NUMBER)
        through_i, through_f, through_g, through_o = four(total, ROWS)
        i, f, g, o = i + through_i, f + through_f, g + through_g, o + through_o  # (1)
        if PEEPHOLES:
            i, f = i + p_i * c_before, f + p_f * c_before
        i, f, g = sigmoid(i), sigmoid(f), tanh(g)  # (2) (3) (4)
        c_after = f * c_before + i * g  # (5)
        if PEEPHOLES:
            o += p_o * c_after
        o = sigmoid(o)  # (6)
        squashed = tanh(c_after)
        h_after = o * squashed  # (7)
        if RAGGED:
            lives = tl.load(alive + step // H + row, row < B, 0)[:, None] != 0
            c_after, h_after = tl.where(lives, c_after, c_before), tl.where(lives, h_after, h_before)
        tl.store(h + step + B * H + unit, h_after, there)
        arrive(arrived, BARRIER)
        tl.store(c + step + B * H + unit, c_after, there)
        tl.store(s, i, there)
        tl.store(s + H, f, there)
        tl.store(s + 2 * H, g, there)
        tl.store(s + 3 * H, o, there)
        tl.store(tanh_c + step + unit, squashed, there)
        c_before, h_before = c_after, h_after
        wait(arrived, done + 1, BARRIER)


@triton.jit(do_not_specialize=["t", "count", "T"])
def backward_steps(
    weight,
    gates,
    c,
    tanh_c,
    peepholes,
    dy,
    ds,
    dh,
    dc,
    alive,
    arrived,
    t,
    count,
    T,
    B,
    H,
    PEEPHOLES: tl.constexpr,
    RAGGED: tl.constexpr,
    BARRIER: tl.constexpr,
    PRODUCTS: tl.constexpr,
    NUMBER: tl.constexpr,
    ROWS: tl.constexpr,
):
    """(1′) of step t + 1, then (7′) to (2′) of step t. Writes ∂L/∂s⟨t⟩, and over ∂L/∂c⟨t⟩ that of c⟨t−1⟩, over ∂L/∂h⟨t⟩
    what of it passes to h⟨t−1⟩ without a product: all of it where the row has ended, else nothing."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = (row < B)[:, None] & (column < H)[None, :]
    unit = row[:, None] * H + column[None, :]
    dh_passed, dc_later = tl.load(dh + unit, there, 0), tl.load(dc + unit, there, 0)
    if PEEPHOLES:
        p, p_there = peepholes + column, column < H
        p_i = tl.load(p, p_there, 0).to(NUMBER)[None, :]
        p_f = tl.load(p + H, p_there, 0).to(NUMBER)[None, :]
        p_o = tl.load(p + 2 * H, p_there, 0).to(NUMBER)[None, :]
    place = t.to(tl.int64) * B * H + unit
    s = t.to(tl.int64) * 4 * B * H + 4 * row[:, None] * H + column[None, :]
    i, f, g = three(gates + s, there, H, NUMBER)
    o, dy_now = tl.load(gates + s + 3 * H, there, 0).to(NUMBER), tl.load(dy + place, there, 0).to(NUMBER)
    c_before, squashed = tl.load(c + place, there, 0), tl.load(tanh_c + place, there, 0).to(NUMBER)
    for done in range(count):
        now = t - done
        step = now.to(tl.int64) * B * H
        dh_whole = dh_passed + dy_now
        later = ds + 4 * step + 4 * B * H  # of step t + 1, which the last step doesn't have
        depth = tl.where(now + 1 < T, 4 * H, 0)
        dh_whole += deep_product(later, weight, row, column, B, H, depth, 4 * H, H, 1, PRODUCTS, NUMBER)  # (1′)
        ds_o = dh_whole * squashed * o * (1 - o)  # (7′) (6′)
        dc_whole = dc_later + dh_whole * o * (1 - squashed * squashed)  # (7′)
        if PEEPHOLES:
            dc_whole += p_o * ds_o  # (6′)
        ds_i = dc_whole * g * i * (1 - i)  # (5′) (2′)
        ds_f = dc_whole * c_before * f * (1 - f)  # (5′) (3′)
        ds_g = dc_whole * i * (1 - g * g)  # (5′) (4′)
        dc_before = dc_whole * f  # (5′)
        if PEEPHOLES:
            dc_before += p_i * ds_i + p_f * ds_f  # (3′) (2′)
        dh_passed = tl.full([ROWS, COLUMNS], 0, NUMBER)
        if RAGGED:
            lives = tl.load(alive + step // H + row, row < B, 0)[:, None] != 0
            ds_i, ds_f = tl.where(lives, ds_i, 0), tl.where(lives, ds_f, 0)
            ds_g, ds_o = tl.where(lives, ds_g, 0), tl.where(lives, ds_o, 0)
            dc_before = tl.where(lives, dc_before, dc_later)
            dh_passed = tl.where(lives, 0, dh_whole)
        tl.store(ds + s, ds_i, there)
        tl.store(ds + s + H, ds_f, there)
        tl.store(ds + s + 2 * H, ds_g, there)
        tl.store(ds + s + 3 * H, ds_o, there)
        arrive(arrived, BARRIER)
        dc_later = dc_before
        place, s, ahead = place - B * H, s - 4 * B * H, there & (row < (count - done - 1) * B)[:, None]
        i, f, g = three(gates + s, ahead, H, NUMBER)
        o, dy_now = tl.load(gates + s + 3 * H, ahead, 0).to(NUMBER), tl.load(dy + place, ahead, 0).to(NUMBER)
        c_before, squashed = tl.load(c + place, ahead, 0), tl.load(tanh_c + place, ahead, 0).to(NUMBER)
        wait(arrived, done + 1, BARRIER)
    tl.store(dh + unit, dh_passed, there)
    tl.store(dc + unit, dc_later, there)
