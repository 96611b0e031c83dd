"""The products around the recurrence, in C++: row gather and scatter of ids, matrix products, sums over steps.

I input, G gate rows, N steps, S streams of ids; R rows, K what is summed over, C columns. float32 on the CPU. Every run
gives the same bits, whatever the number of threads: threads share out rows or columns, never the terms of a sum.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from components.kernels.native.build import Gather, Product, library

HUGE_BYTES = 4 << 20  # from here on a buffer asks for huge pages


def gather(ids_NS: Tensor, weight_GI: Tensor, bias_G: Tensor | None) -> Tensor:
    """For each step the sum of the columns of the weight that its ids name, plus the bias, [N, G].

    Raises:
        IndexError: an id outside [0, I).
    """
    ids_NS, table_IG = ids_NS.to(torch.int64).contiguous(), weight_GI.t().contiguous()
    steps_NG = buffer(len(ids_NS), len(weight_GI))
    bias_G = bias_or_zeros(bias_G, len(weight_GI))
    arguments = _gather(ids_NS, table_IG, steps_NG)
    arguments.bias = bias_G.data_ptr()
    if not library().reprise_gather(ctypes.byref(arguments)):
        raise IndexError(f"an id lies outside [0, {len(table_IG)}): {ids_NS.min()} … {ids_NS.max()}")
    return steps_NG


def scatter(steps_NG: Tensor, ids_NS: Tensor, input_size: int) -> tuple[Tensor, Tensor]:
    """The gradients of `gather`: to its weight [G, I] and to its bias [G], given those to its steps.

    Raises:
        IndexError: an id outside [0, I).
    """
    ids_NS = ids_NS.to(torch.int64).contiguous()
    steps_NG = steps_NG if steps_NG.stride(1) == 1 else steps_NG.contiguous()
    table_IG, sums_G = buffer(input_size, steps_NG.shape[1]).zero_(), buffer(steps_NG.shape[1]).zero_()
    arguments = _gather(ids_NS, table_IG, steps_NG)
    arguments.sums = sums_G.data_ptr()
    if not library().reprise_scatter(ctypes.byref(arguments)):
        raise IndexError(f"an id lies outside [0, {input_size}): {ids_NS.min()} … {ids_NS.max()}")
    return table_IG.t(), sums_G


def sums(steps_NG: Tensor) -> Tensor:
    """The sum of all steps, [G]."""
    return scatter(steps_NG, torch.empty(len(steps_NG), 0, dtype=torch.int64), 0)[1]


def multiply(a_RK: Tensor, b_KC: Tensor, *, start_C: Tensor | None = None) -> Tensor:
    """a · b, plus `start` in every row. a is fastest with one stride of 1, whichever."""
    (R, K), C = a_RK.shape, b_KC.shape[1]
    if len(b_KC) != K or {a_RK.dtype, b_KC.dtype} != {torch.float32} or {a_RK.device.type, b_KC.device.type} != {"cpu"}:
        raise ValueError(f"can't multiply {a_RK.dtype} {tuple(a_RK.shape)} by {b_KC.dtype} {tuple(b_KC.shape)}")
    c_RC = buffer(R, C)
    if start_C is None:
        c_RC.zero_()
    else:
        check("bias", start_C, (C,))
        c_RC.copy_(start_C.expand(R, C))
    if 0 in (R, K, C):
        return c_RC
    if 1 not in a_RK.stride():
        a_RK = a_RK.contiguous()
    transposed = a_RK.stride(1) != 1
    packed = packed_buffer(K, C)
    arguments = Product(
        rows=R,
        K=K,
        columns=C,
        transposed=transposed,
        threads=threads_for(R * K * C),
        stride_a=a_RK.stride(1 if transposed else 0),
        stride_b_k=b_KC.stride(0),
        stride_b_n=b_KC.stride(1),
        stride_c=C,
        a=a_RK.data_ptr(),
        b=b_KC.data_ptr(),
        packed=packed.data_ptr(),
        c=c_RC.data_ptr(),
    )
    library().reprise_product(ctypes.byref(arguments))
    return c_RC


def buffer(*shape: int) -> Tensor:
    """An uninitialised float32 tensor, on huge pages when it is large."""
    tensor = torch.empty(shape, dtype=torch.float32, device="cpu")
    if tensor.nbytes >= HUGE_BYTES:
        library().reprise_huge_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor


def threads_for(work: int) -> int:
    """Threads worth waking for this many multiply-adds: one for each 2²⁰ (some 20 µs). No bit depends on it."""
    return max(1, min(torch.get_num_threads(), work >> 20))


def packed_buffer(K: int, columns: int) -> Tensor:
    """Room for a packed [K, columns] matrix: whole panels."""
    panel = library().reprise_panel()
    return buffer(-(-columns // panel) * panel * K)


def bias_or_zeros(bias_G: Tensor | None, G: int) -> Tensor:
    """The bias, or the zeros that it stands for."""
    bias_G = buffer(G).zero_() if bias_G is None else bias_G.contiguous()
    check("bias", bias_G, (G,))
    return bias_G


def check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    """What is passed as an address must be what the address is read as; else ValueError."""
    if tensor.shape != shape or tensor.dtype != dtype or tensor.device.type != "cpu" or not tensor.is_contiguous():
        given = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}, strides {tensor.stride()}"
        raise ValueError(f"{name}: expected a contiguous {dtype} {tuple(shape)} on the CPU, received {given}")


def _gather(ids_NS: Tensor, table_IG: Tensor, steps_NG: Tensor) -> Gather:
    N, S, G = *ids_NS.shape, table_IG.shape[1]
    check("ids", ids_NS, (N, S), torch.int64)
    check("table", table_IG, (len(table_IG), G))
    if steps_NG.shape != (N, G) or steps_NG.dtype != torch.float32:
        raise ValueError(f"steps: expected float32 {(N, G)}, received {steps_NG.dtype} {tuple(steps_NG.shape)}")
    return Gather(
        N=N,
        S=S,
        G=G,
        rows_count=len(table_IG),
        threads=threads_for(N * G * (S + 1)),
        stride=steps_NG.stride(0),
        ids=ids_NS.data_ptr(),
        table=table_IG.data_ptr(),
        steps=steps_NG.data_ptr(),
    )
