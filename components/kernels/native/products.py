"""The products around the recurrence, in C++: row gather and scatter of ids, matrix products, sums over steps.

I input, G gate rows, N steps, S streams of ids; R rows, K summed over, C columns. float32 on the CPU. Results are
bitwise reproducible for any number of threads: threads share rows or columns, never the terms of a sum.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from components.kernels.native.build import Entropy, Gather, Product, load_native
from components.kernels.native.pool import buffer


def gather(ids_NS: Tensor, weight_GI: Tensor, bias_G: Tensor | None) -> Tensor:
    """For each step the sum of the weight's columns of its ids, plus the bias, [N, G].

    Raises:
        IndexError: an id outside [0, I).
    """
    ids_NS, table_IG = ids_NS.to(torch.int64).contiguous(), table(weight_GI, None)
    steps_NG = buffer(len(ids_NS), len(weight_GI))
    bias_G = bias_or_zeros(bias_G, len(weight_GI))
    arguments = _gather(ids_NS, table_IG, steps_NG)
    arguments.bias = bias_G.data_ptr()
    if not load_native().reprise_gather(ctypes.byref(arguments)):
        raise IndexError(f"an id lies outside [0, {len(table_IG)}): {ids_NS.min()} … {ids_NS.max()}")
    return steps_NG


def scatter(steps_NG: Tensor, ids_NS: Tensor, input_size: int) -> tuple[Tensor, Tensor]:
    """The gradients of `gather` with respect to its weight [G, I] and bias [G], given those of its steps.

    Raises:
        IndexError: an id outside [0, I).
    """
    ids_NS = ids_NS.to(torch.int64).contiguous()
    steps_NG = steps_NG if steps_NG.stride(1) == 1 else steps_NG.contiguous()
    table_IG, sums_G = buffer(input_size, steps_NG.shape[1]), buffer(steps_NG.shape[1])
    arguments = _gather(ids_NS, table_IG, steps_NG)
    arguments.sums = sums_G.data_ptr()
    if not load_native().reprise_scatter(ctypes.byref(arguments)):
        raise IndexError(f"an id lies outside [0, {input_size}): {ids_NS.min()} … {ids_NS.max()}")
    return table_IG.t(), sums_G


def table(weight_GI: Tensor, bias_G: Tensor | None) -> Tensor:
    """The product of each one-hot input, [I, G]: the columns of the weight, plus the bias."""
    table_IG = buffer(weight_GI.shape[1], len(weight_GI))
    return table_IG.copy_(weight_GI.t()) if bias_G is None else torch.add(weight_GI.t(), bias_G, out=table_IG)


def multiply(a_RK: Tensor, b_KC: Tensor, *, start_C: Tensor | None = None) -> Tensor:
    """a · b, plus `start` in every row. Fastest if one of a's strides is 1."""
    if 1 not in a_RK.stride() or (start_C is not None and a_RK.stride(1) != 1):
        a_RK = a_RK.contiguous()
    return _product(a_RK, b_KC, start_C, None, transposed=a_RK.stride(1) != 1)


def weight_gradient(grad_NG: Tensor, x_NX: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a product x · Wᵀ + b of all steps: for W, gradᵀ · x [G, X]; for b, the sum of grad [G]."""
    grad_NG = grad_NG if grad_NG.stride(1) == 1 else grad_NG.contiguous()
    sums_G = buffer(grad_NG.shape[1])
    return _product(grad_NG.t(), x_NX, None, sums_G, transposed=True), sums_G


def _product(a_RK: Tensor, b_KC: Tensor, start_C: Tensor | None, sums_R: Tensor | None, *, transposed: bool) -> Tensor:
    (R, K), C = a_RK.shape, b_KC.shape[1]
    if len(b_KC) != K or {a_RK.dtype, b_KC.dtype} != {torch.float32} or {a_RK.device.type, b_KC.device.type} != {"cpu"}:
        raise ValueError(f"can't multiply {a_RK.dtype} {tuple(a_RK.shape)} by {b_KC.dtype} {tuple(b_KC.shape)}")
    if start_C is not None:
        check("bias", start_C, (C,))
    c_RC = buffer(R, C)
    if 0 in (R, K, C):
        if sums_R is not None:
            torch.sum(a_RK, 1, out=sums_R)
        return c_RC.zero_() if start_C is None else c_RC.copy_(start_C.expand(R, C))
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
        start=None if start_C is None else start_C.data_ptr(),
        c=c_RC.data_ptr(),
        sums=None if sums_R is None else sums_R.data_ptr(),
    )
    load_native().reprise_product(ctypes.byref(arguments))
    return c_RC


def entropy(logits_NV: Tensor, targets_N: Tensor, ignored: int) -> Tensor:
    """Cross-entropy of each row in nats, float64 [N], 0 where the target is `ignored`. Overwrites the logits by their
    gradient.

    Raises:
        IndexError: a target outside [0, V) that isn't `ignored`.
    """
    N, V = logits_NV.shape
    targets_N = targets_N.to(torch.int64).contiguous()
    check("logits", logits_NV, (N, V))
    check("targets", targets_N, (N,), torch.int64)
    nats_N = torch.empty(N, dtype=torch.float64)
    arguments = Entropy(
        N=N,
        V=V,
        threads=threads_for(32 * N * V),  # a softmax costs about thirty multiply-adds per entry
        ignored=ignored,
        targets=targets_N.data_ptr(),
        logits=logits_NV.data_ptr(),
        nats=nats_N.data_ptr(),
    )
    if not load_native().reprise_entropy(ctypes.byref(arguments)):
        raise IndexError(f"a target lies outside [0, {V}): {targets_N.min()} … {targets_N.max()}")
    return nats_N


def threads_for(work: int) -> int:
    """Number of threads for this many multiply-adds: one for each 2²⁰ (about 20 µs). Doesn't affect results."""
    return max(1, min(torch.get_num_threads(), work >> 20))


def bias_or_zeros(bias_G: Tensor | None, G: int) -> Tensor:
    """The bias, or zeros."""
    bias_G = buffer(G).zero_() if bias_G is None else bias_G.contiguous()
    check("bias", bias_G, (G,))
    return bias_G


def check(
    name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, *, strided: bool = False
) -> None:
    """Check a tensor whose address is passed to C++: its shape, type and layout; else ValueError."""
    laid_out = tensor.stride(-1) == 1 if strided else tensor.is_contiguous()
    if tensor.shape != shape or tensor.dtype != dtype or tensor.device.type != "cpu" or not laid_out:
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
