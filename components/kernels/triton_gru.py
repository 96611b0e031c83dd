"""The GRU in Triton for a GPU: one launch for all steps where it can, forward and backward.

The equations, their numbers and the names are those of `gru.py`; the launch is in `triton_steps.py`. Where the reset
gate acts before the product, the candidate needs r ⊙ h⟨t−1⟩ of a whole row, so a step has two parts, and programs that
share rows wait for each other between them. Only imported where it is used.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from components.kernels import gru
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
    reset_after: bool = True,
) -> tuple[Tensor, State, gru.Saved]:
    """As `gru.forward`. In bfloat16, the sums are float32."""
    B, T, G = gates_x_BTG.shape
    H = G // gru.GATES
    alive_TB1 = steps_alive(lengths_B, T)
    bias_x_G, bias_n_H = gru.split_bias(gates_x_BTG, bias_hh_G, reset_after)
    gates_TBG = time_major(gates_x_BTG, alive_TB1, bias_x_G)
    h_TBH, m_TBH = gates_x_BTG.new_empty(T + 1, B, H), gates_x_BTG.new_empty(T, B, H)
    h_TBH[0] = state["h"]
    weight_hh_GH = weight_hh_GH.contiguous()
    kernel = forward_after if reset_after else forward_before
    launch(kernel, T, (B, H), alive_TB1, weight_hh_GH, bias_n_H, gates_TBG, m_TBH, h_TBH, halves=not reset_after)
    saved = gru.Saved(gates_TBG, m_TBH, h_TBH, weight_hh_GH, bias_hh_G, alive_TB1, reset_after)
    return outputs(h_TBH[1:], alive_TB1), {"h": h_TBH[T].clone()}, saved


@torch.no_grad()
def backward(
    saved: gru.Saved, grad_y_BTH: Tensor, grad_final_state: State, *, record: Tensor | None = None
) -> Gradients:
    """As `gru.backward`, which also computes what `record` asks for."""
    if record is not None:
        return gru.backward(saved, grad_y_BTH, grad_final_state, record=record)
    gates_TBG, m_TBH, h_TBH, weight_hh_GH, _, alive_TB1, reset_after = saved
    T, B, H = m_TBH.shape
    dy_TBH, dgates_TBG = time_major(grad_y_BTH, alive_TB1), torch.empty_like(gates_TBG)
    dhidden_TBG = torch.empty_like(gates_TBG) if reset_after else dgates_TBG
    wide = torch.promote_types(h_TBH.dtype, torch.float32)
    dh_BH = torch.empty_like(h_TBH[0], dtype=wide).copy_(grad_final_state["h"])
    kernel = backward_after if reset_after else backward_before
    given = weight_hh_GH, gates_TBG, m_TBH, h_TBH, dy_TBH, dgates_TBG, dhidden_TBG, dh_BH
    launch(kernel, T, (B, H), alive_TB1, *given, backwards=True, halves=not reset_after)
    if T:
        used = 3 * H if reset_after else 2 * H
        dh_BH += dhidden_TBG[0, :, :used] @ weight_hh_GH[:used]  # (3′) (2′) (1′) to h⟨0⟩
    return gru.gradients(saved, dgates_TBG, dhidden_TBG, dh_BH)


@triton.jit(do_not_specialize=["t", "count", "T"])
def forward_after(
    weight,
    bias_n,
    gates,
    m,
    h,
    alive,
    arrived,
    t,
    count,
    T,
    B,
    H,
    RAGGED: tl.constexpr,
    BARRIER: tl.constexpr,
    PRODUCTS: tl.constexpr,
    NUMBER: tl.constexpr,
    ROWS: tl.constexpr,
):
    """(1) to (5), reset after the product. Pointers to whole sequences; h begins with h⟨0⟩, so h⟨t−1⟩ is at place t."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = (row < B)[:, None] & (column < H)[None, :]
    unit = row[:, None] * H + column[None, :]
    of_gates = tl.arange(0, 4 * COLUMNS)  # the fourth isn't there
    gate_column = tl.program_id(0) * COLUMNS + of_gates % COLUMNS
    gate_row, gate_there = of_gates // COLUMNS * H + gate_column, (gate_column < H) & (of_gates < 3 * COLUMNS)
    h_before = tl.load(h + t.to(tl.int64) * B * H + unit, there, 0).to(NUMBER)
    b_n = tl.load(bias_n + column, column < H, 0).to(NUMBER)[None, :]
    for done in range(count):
        step = (t + done).to(tl.int64) * B * H
        s = gates + 3 * step + 3 * row[:, None] * H + column[None, :]
        r, z, n = three(s, there, H, NUMBER)
        total = wide_product(h + step, weight, row, gate_row, B, gate_there, H, PRODUCTS, NUMBER)
        through_r, through_z, through_n, _ = four(total, ROWS)
        r, z, through_n = sigmoid(r + through_r), sigmoid(z + through_z), through_n + b_n  # (1) (2) (3)
        n = tanh(n + r * through_n)  # (4)
        h_after = (1 - z) * n + z * h_before  # (5)
        if RAGGED:
            lives = tl.load(alive + step // H + row, row < B, 0)[:, None] != 0
            h_after = tl.where(lives, h_after, h_before)
        tl.store(h + step + B * H + unit, h_after, there)
        arrive(arrived, BARRIER)
        tl.store(s, r, there)
        tl.store(s + H, z, there)
        tl.store(s + 2 * H, n, there)
        tl.store(m + step + unit, through_n, there)
        h_before = h_after
        wait(arrived, done + 1, BARRIER)


@triton.jit(do_not_specialize=["t", "count", "T"])
def forward_before(
    weight,
    bias_n,
    gates,
    m,
    h,
    alive,
    arrived,
    t,
    count,
    T,
    B,
    H,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    RAGGED: tl.constexpr,
    BARRIER: tl.constexpr,
    PRODUCTS: tl.constexpr,
    NUMBER: tl.constexpr,
    ROWS: tl.constexpr,
):
    """(1) to (5), reset before the product: in the first part of a step r, z and m, in the second n and h⟨t⟩."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = (row < B)[:, None] & (column < H)[None, :]
    unit = row[:, None] * H + column[None, :]
    of_gates = tl.arange(0, 4 * COLUMNS)  # the fourth isn't there
    gate_column = tl.program_id(0) * COLUMNS + of_gates % COLUMNS
    gate_row, gate_there = of_gates // COLUMNS * H + gate_column, (gate_column < H) & (of_gates < 2 * COLUMNS)
    h_before = tl.load(h + t.to(tl.int64) * B * H + unit, there, 0).to(NUMBER)
    for done in range(count):
        step = (t + done).to(tl.int64) * B * H
        s = gates + 3 * step + 3 * row[:, None] * H + column[None, :]
        z, n = tl.load(s + H, there, 0).to(NUMBER), tl.load(s + 2 * H, there, 0).to(NUMBER)
        if FIRST:
            r = tl.load(s, there, 0).to(NUMBER)
            total = wide_product(h + step, weight, row, gate_row, B, gate_there, H, PRODUCTS, NUMBER)
            through_r, through_z, _, _ = four(total, ROWS)
            r, z = sigmoid(r + through_r), sigmoid(z + through_z)  # (1) (2)
            tl.store(m + step + unit, r * h_before, there)  # (3)
            arrive(arrived, BARRIER)
            tl.store(s, r, there)
            tl.store(s + H, z, there)
            wait(arrived, 2 * done + 1, BARRIER)
        if SECOND:
            w_n = weight + 2 * H * H
            n = tanh(n + deep_product(m + step, w_n, row, column, B, H, H, H, 1, H, PRODUCTS, NUMBER))  # (4)
            h_after = (1 - z) * n + z * h_before  # (5)
            if RAGGED:
                lives = tl.load(alive + step // H + row, row < B, 0)[:, None] != 0
                h_after = tl.where(lives, h_after, h_before)
            tl.store(h + step + B * H + unit, h_after, there)
            arrive(arrived, BARRIER)
            tl.store(s + 2 * H, n, there)
            h_before = h_after
            wait(arrived, 2 * done + 2, BARRIER)


@triton.jit(do_not_specialize=["t", "count", "T"])
def backward_after(
    weight,
    gates,
    m,
    h,
    dy,
    dgates,
    dhidden,
    dh,
    alive,
    arrived,
    t,
    count,
    T,
    B,
    H,
    RAGGED: tl.constexpr,
    BARRIER: tl.constexpr,
    PRODUCTS: tl.constexpr,
    NUMBER: tl.constexpr,
    ROWS: tl.constexpr,
):
    """(3′) to (1′) of step t + 1 to h⟨t⟩, then (5′) to (1′) of step t. Writes the gradients of its input and recurrent
    products, and over ∂L/∂h⟨t⟩ what of it passes to h⟨t−1⟩ without a product."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = (row < B)[:, None] & (column < H)[None, :]
    unit = row[:, None] * H + column[None, :]
    dh_passed = tl.load(dh + unit, there, 0)
    place = t.to(tl.int64) * B * H + unit
    s = t.to(tl.int64) * 3 * B * H + 3 * row[:, None] * H + column[None, :]
    r, z, n = three(gates + s, there, H, NUMBER)
    h_before, through_n = tl.load(h + place, there, 0).to(NUMBER), tl.load(m + place, there, 0).to(NUMBER)
    dy_now = tl.load(dy + place, there, 0).to(NUMBER)
    for done in range(count):
        now = t - done
        step = now.to(tl.int64) * B * H
        dh_whole = dh_passed + dy_now
        later = dhidden + 3 * step + 3 * B * H  # of step t + 1, which the last step doesn't have
        depth = tl.where(now + 1 < T, 3 * H, 0)
        dh_whole += deep_product(later, weight, row, column, B, H, depth, 3 * H, H, 1, PRODUCTS, NUMBER)
        dn = dh_whole * (1 - z) * (1 - n * n)  # (5′) (4′)
        dz = dh_whole * (h_before - n) * z * (1 - z)  # (5′) (2′)
        dr = dn * through_n * r * (1 - r)  # (4′) (1′)
        dh_passed = dh_whole * z  # (5′)
        if RAGGED:
            lives = tl.load(alive + step // H + row, row < B, 0)[:, None] != 0
            dr, dz, dn = tl.where(lives, dr, 0), tl.where(lives, dz, 0), tl.where(lives, dn, 0)
            dh_passed = tl.where(lives, dh_passed, dh_whole)
        tl.store(dhidden + s, dr, there)
        tl.store(dhidden + s + H, dz, there)
        tl.store(dhidden + s + 2 * H, dn * r, there)  # (4′) to m
        arrive(arrived, BARRIER)
        tl.store(dgates + s, dr, there)
        tl.store(dgates + s + H, dz, there)
        tl.store(dgates + s + 2 * H, dn, there)
        place, s, ahead = place - B * H, s - 3 * B * H, there & (row < (count - done - 1) * B)[:, None]
        r, z, n = three(gates + s, ahead, H, NUMBER)
        h_before, through_n = tl.load(h + place, ahead, 0).to(NUMBER), tl.load(m + place, ahead, 0).to(NUMBER)
        dy_now = tl.load(dy + place, ahead, 0).to(NUMBER)
        wait(arrived, done + 1, BARRIER)
    tl.store(dh + unit, dh_passed, there)


@triton.jit(do_not_specialize=["t", "count", "T"])
def backward_before(
    weight,
    gates,
    m,
    h,
    dy,
    dgates,
    dhidden,
    dh,
    alive,
    arrived,
    t,
    count,
    T,
    B,
    H,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    RAGGED: tl.constexpr,
    BARRIER: tl.constexpr,
    PRODUCTS: tl.constexpr,
    NUMBER: tl.constexpr,
    ROWS: tl.constexpr,
):
    """As `backward_after`: in the first part of a step the gradients of n and z, in the second those of m and r."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = (row < B)[:, None] & (column < H)[None, :]
    unit = row[:, None] * H + column[None, :]
    dh_passed = tl.load(dh + unit, there, 0)
    for done in range(count):
        now = t - done
        step = now.to(tl.int64) * B * H
        s = 3 * step + 3 * row[:, None] * H + column[None, :]
        r, h_before = tl.load(gates + s, there, 0).to(NUMBER), tl.load(h + step + unit, there, 0).to(NUMBER)
        if FIRST:
            z, n = tl.load(gates + s + H, there, 0).to(NUMBER), tl.load(gates + s + 2 * H, there, 0).to(NUMBER)
            dh_whole = dh_passed + tl.load(dy + step + unit, there, 0).to(NUMBER)
            later = dgates + 3 * step + 3 * B * H  # of step t + 1, which the last step doesn't have
            depth = tl.where(now + 1 < T, 2 * H, 0)
            dh_whole += deep_product(later, weight, row, column, B, H, depth, 3 * H, H, 1, PRODUCTS, NUMBER)
            dn = dh_whole * (1 - z) * (1 - n * n)  # (5′) (4′)
            dz = dh_whole * (h_before - n) * z * (1 - z)  # (5′) (2′)
            dh_passed = dh_whole * z  # (5′)
            if RAGGED:
                lives = tl.load(alive + step // H + row, row < B, 0)[:, None] != 0
                dz, dn = tl.where(lives, dz, 0), tl.where(lives, dn, 0)
                dh_passed = tl.where(lives, dh_passed, dh_whole)
            tl.store(dgates + s + 2 * H, dn, there)
            arrive(arrived, BARRIER)
            tl.store(dgates + s + H, dz, there)
            wait(arrived, 2 * done + 1, BARRIER)
        if SECOND:
            dn_row, w_n = dgates + 3 * step + 2 * H, weight + 2 * H * H
            dm = deep_product(dn_row, w_n, row, column, B, H, H, 3 * H, H, 1, PRODUCTS, NUMBER)  # (4′)
            tl.store(dgates + s, dm * h_before * r * (1 - r), there)  # (3′) (1′)
            arrive(arrived, BARRIER)
            dh_passed += dm * r  # (3′) to h⟨t−1⟩
            wait(arrived, 2 * done + 2, BARRIER)
    tl.store(dh + unit, dh_passed, there)
