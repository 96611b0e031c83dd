"""What the recurrent kernels in Triton share: the launch over all steps, and the products of a step.

B batch, T time, H hidden. A program computes ROWS × COLUMNS units of the state in each step. First comes a product with
the recurrent weights, for which it reads whole rows of the state, then the equations of its units. One launch goes
through all steps: programs that share rows wait for each other after each step, so all of them have to run at the same
time. A launch for each step is used where there are too many of them, and where Triton interprets the kernels.

Only imported where it is used, like `triton_scan.py`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# chosen from 20 settings on an NVIDIA H200 (docs/log.md)
ROWS = (16, 32)  # the first with which all programs can run at the same time
COLUMNS = tl.constexpr(16)
DEEP = tl.constexpr(64)  # numbers of a row that are read at once
AHEAD = tl.constexpr(3)  # reads in flight
WARPS = tl.constexpr(4)
EXACT = "tf32x3"  # float32 products by three in TensorFloat-32; their error is that of float32


def launch(
    kernel: Any,
    T: int,
    size: tuple[int, int],
    alive_TB1: Tensor | None,
    weight: Tensor,
    *given: Tensor,
    backwards: bool = False,
    halves: bool = False,
    **options: bool,
) -> None:
    """Run a kernel(weight, *given, alive, arrived, t, count, T, B, H, …) over all steps of states of `size` (B, H).

    A launch computes `count` steps: t, t + 1, … or, `backwards`, t, t − 1, … `halves`: the kernel's steps have a FIRST
    and a SECOND half, with a wait between them.
    """
    (B, H), programs = size, triton.cdiv(size[1], COLUMNS.value)
    if B == 0 or T == 0:
        return
    rows = rows_together(weight.device, B, H)
    constants = {
        "RAGGED": alive_TB1 is not None,
        "BARRIER": rows is not None and programs > 1,
        "PRODUCTS": _precision(weight),
        "NUMBER": tl.float64 if weight.dtype == torch.float64 else tl.float32,
        "ROWS": rows or ROWS[0],
    }
    steps = range(T)[::-1] if backwards else range(T)
    launches, count = (steps, 1) if rows is None else (steps[:1], T)
    parts: list[dict[str, bool]] = [{}]
    if halves:
        both = {"FIRST": True, "SECOND": True}
        parts = [both] if rows else [both | {"SECOND": False}, both | {"FIRST": False}]
    grid = programs, triton.cdiv(B, constants["ROWS"])
    with torch.cuda.device_of(weight):  # Triton launches on the current GPU
        arrived = torch.zeros(grid[1], dtype=torch.int32, device=weight.device)
        alive = weight if alive_TB1 is None else alive_TB1
        for t in launches:
            for part in parts:
                kernel[grid](
                    *(weight, *given, alive, arrived, t, count, T, B, H),
                    **(constants | part | options),
                    num_warps=WARPS.value,
                    launch_cooperative_grid=constants["BARRIER"],
                )


def rows_together(device: torch.device, B: int, H: int) -> int | None:
    """Rows of a program with which all programs run at the same time, one on each multiprocessor; None if they are too
    many. Interpreted, they run one after the other."""
    programs = triton.cdiv(H, COLUMNS.value)
    most = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 0
    fitting = (rows for rows in ROWS if programs == 1 or programs * triton.cdiv(B, rows) <= most)
    return next(fitting, None)


def _precision(weight: Tensor) -> str:
    if weight.dtype != torch.float32:
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else EXACT


@triton.jit
def wide_product(x, weight, row, column, B, there, H, PRODUCTS: tl.constexpr, NUMBER: tl.constexpr):
    """x [rows, H] · weight [columns, H]ᵀ, where the columns are those of four gates."""
    total = tl.full([row.shape[0], column.shape[0]], 0, NUMBER)
    for start in tl.range(0, H, DEEP, num_stages=AHEAD):
        deep = start + tl.arange(0, DEEP)
        x_there, weight_there = (row < B)[:, None] & (deep < H)[None, :], (deep < H)[:, None] & there[None, :]
        # .cg: not from this multiprocessor's cache, which doesn't see what the others write
        x_tile = tl.load(x + row[:, None] * H + deep[None, :], x_there, 0, cache_modifier=".cg")
        tile = tl.load(weight + column[None, :] * H + deep[:, None], weight_there, 0)
        total = tl.dot(x_tile, tile, total, input_precision=PRODUCTS, out_dtype=NUMBER)
    return total


@triton.jit
def add(x, y):
    return x + y


@triton.jit
def deep_product(
    x,
    weight,
    row,
    column,
    B,
    H,
    depth,
    row_stride,
    deep_stride,
    column_stride,
    PRODUCTS: tl.constexpr,
    NUMBER: tl.constexpr,
):
    """x [rows, depth] · weight [depth, columns]. Each warp adds up a part of the depth, because the columns are few."""
    part = tl.arange(0, WARPS)[:, None, None]
    size = (depth + WARPS * 16 - 1) // (WARPS * 16) * 16
    total = tl.full([WARPS, row.shape[0], column.shape[0]], 0, NUMBER)
    for start in tl.range(0, size, DEEP, num_stages=AHEAD):
        within = start + tl.arange(0, DEEP)
        deep_x, deep_w = part * size + within[None, None, :], part * size + within[None, :, None]
        x_there = (row < B)[None, :, None] & (within < size)[None, None, :] & (deep_x < depth)
        weight_there = (column < H)[None, None, :] & (within < size)[None, :, None] & (deep_w < depth)
        x_tile = tl.load(x + row[None, :, None] * row_stride + deep_x, x_there, 0, cache_modifier=".cg")
        tile = tl.load(weight + deep_w * deep_stride + column[None, None, :] * column_stride, weight_there, 0)
        total = tl.dot(x_tile, tile, total, input_precision=PRODUCTS, out_dtype=NUMBER)
    return tl.reduce(total, 0, add)


@triton.jit
def four(total, ROWS: tl.constexpr):
    """The four gates [ROWS, COLUMNS] that lie side by side in a wide product."""
    both, others = tl.split(tl.permute(tl.reshape(total, [ROWS, 2, 2, COLUMNS]), (0, 3, 2, 1)))
    first, second = tl.split(both)
    third, fourth = tl.split(others)
    return first, second, third, fourth


@triton.jit
def three(place, there, H, NUMBER: tl.constexpr):
    """Three gates of a step, which lie H apart."""
    first, second = tl.load(place, there, 0).to(NUMBER), tl.load(place + H, there, 0).to(NUMBER)
    return first, second, tl.load(place + 2 * H, there, 0).to(NUMBER)


@triton.jit
def arrive(arrived, BARRIER: tl.constexpr):
    """Tell the programs of the same rows that what they read of this step is written."""
    tl.debug_barrier()
    if BARRIER:
        tl.atomic_add(arrived + tl.program_id(1), 1, sem="release", scope="gpu")


@triton.jit
def wait(arrived, times, BARRIER: tl.constexpr):
    """Wait until all of them have arrived as many times."""
    if BARRIER:
        seen = 0
        while seen < times * tl.num_programs(0):
            seen = tl.atomic_add(arrived + tl.program_id(1), 0, sem="acquire", scope="gpu")
    tl.debug_barrier()


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def tanh(x):
    return 1 - 2 / (1 + tl.exp(2 * x))
