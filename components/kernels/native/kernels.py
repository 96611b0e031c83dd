"""The C++ kernels with the signatures of the Python kernels: project, forward, backward, project_backward.

B batch, T time, I input, H hidden, G gate rows, N = T·B steps, S streams of ids. float32 on the CPU; the GRU in its
reset-after form; the LSTM without peepholes. Results are bitwise reproducible for any number of threads (other
instruction sets differ in the last bits).
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from components.kernels.native import products
from components.kernels.native.build import Pass, load_native
from components.kernels.native.pool import buffer
from components.kernels.native.products import bias_or_zeros, multiply, weight_gradient
from components.kernels.sequence import Gradients, State, outputs, steps_alive, time_major_steps

KINDS = {("rnn", "tanh"): 0, ("rnn", "relu"): 1, ("gru", "tanh"): 2, ("lstm", "tanh"): 3}  # `Kind` of api.h


class Lookup(NamedTuple):
    """The input product of one stream of ids, as rows of a table; `forward` reads them without a copy."""

    ids_TB: Tensor
    table_IG: Tensor


class Saved(NamedTuple):
    """Tensors for the backward pass; T+1 states and cells, those of step 0 first."""

    gates_TBG: Tensor | None
    m_TBH: Tensor | None
    h_TBH: Tensor
    c_TBH: Tensor | None
    weight_hh_GH: Tensor
    bias_hh_G: Tensor | None
    lengths_B: Tensor | None
    kind: tuple[str, str]


@torch.no_grad()
def project(x: Tensor, weight_ih_GI: Tensor, bias_ih_G: Tensor | None) -> Tensor | Lookup:
    """As `sequence.project`; time-major memory, which `forward` reuses, or for one stream of ids a Lookup.

    Raises:
        IndexError: an id outside [0, I), in one of several streams.
    """
    (B, T), x_NX = x.shape[:2], time_major_steps(x)
    if bias_ih_G is not None:
        products.check("bias", bias_ih_G, (len(weight_ih_GI),))
    if x.is_floating_point():
        product_NG = multiply(x_NX, weight_ih_GI.t(), start_C=bias_ih_G)
    elif x_NX.shape[1] == 1:
        return Lookup(x_NX.to(torch.int64).contiguous().view(T, B), products.table(weight_ih_GI, bias_ih_G))
    else:
        product_NG = products.gather(x_NX, weight_ih_GI, bias_ih_G)
    return product_NG.view(T, B, len(weight_ih_GI)).transpose(0, 1)


@torch.no_grad()
def project_backward(
    grad_gates_BTG: Tensor, x: Tensor, weight_ih_GI: Tensor, *, grad_x_needed: bool = True
) -> tuple[Tensor | None, Tensor, Tensor]:
    """As `sequence.project_backward`."""
    (B, T), I = x.shape[:2], weight_ih_GI.shape[1]  # noqa: E741 (the project's letter for the input size)
    x_NX, grad_NG = time_major_steps(x), time_major_steps(grad_gates_BTG)
    if not x.is_floating_point():
        return None, *products.scatter(grad_NG, x_NX, I)
    grad_x = multiply(grad_NG, weight_ih_GI).view(T, B, I).transpose(0, 1) if grad_x_needed else None
    return grad_x, *weight_gradient(grad_NG, x_NX)


@torch.no_grad()
def forward(
    kind: tuple[str, str],
    gates_x_BTG: Tensor | Lookup,
    state: State,
    weight_hh_GH: Tensor,
    bias_hh_G: Tensor | None,
    lengths_B: Tensor | None = None,
) -> tuple[Tensor, State, Saved]:
    """As the Python kernel of this `kind` (a key of KINDS). Overwrites gates_x if its memory is time-major.

    Raises:
        IndexError: an id outside the Lookup's table.
    """
    G, H = weight_hh_GH.shape
    if isinstance(gates_x_BTG, Lookup):
        ids_TB, table_IG = gates_x_BTG
        T, B = ids_TB.shape
        gates_TBG = None if kind[0] == "rnn" else buffer(T, B, G)
    else:
        ids_TB = table_IG = None
        B, T = gates_x_BTG.shape[:2]
        gates_TBG = gates_x_BTG.transpose(0, 1).contiguous()
    h_TBH = buffer(T + 1, B, H)
    h_TBH[0] = state["h"]
    m_TBH = buffer(T, B, H) if kind[0] == "gru" else None
    c_TBH = buffer(T + 1, B, H) if kind[0] == "lstm" else None
    if c_TBH is not None:
        c_TBH[0] = state["c"]
    if lengths_B is not None:
        lengths_B = lengths_B.to(torch.int64).contiguous()
    inside = _call(
        "reprise_forward",
        kind,
        (T, B, H),
        lengths=lengths_B,
        ids=ids_TB,
        table=table_IG,
        weight=weight_hh_GH.contiguous(),
        bias=bias_or_zeros(bias_hh_G, G),
        gates=gates_TBG,
        m=m_TBH,
        h=h_TBH,
        c=c_TBH,
    )
    if not inside:
        raise IndexError(f"an id lies outside [0, {len(table_IG)}): {ids_TB.min()} … {ids_TB.max()}")
    final = {"h": h_TBH[T].clone()} | ({} if c_TBH is None else {"c": c_TBH[T].clone()})
    kept = None if kind[0] == "rnn" else gates_TBG
    saved = Saved(kept, m_TBH, h_TBH, c_TBH, weight_hh_GH, bias_hh_G, lengths_B, kind)
    return outputs(h_TBH[1:], steps_alive(lengths_B, T)), final, saved


@torch.no_grad()
def backward(saved: Saved, grad_y_BTH: Tensor, grad_final_state: State, *, record: Tensor | None = None) -> Gradients:
    """As in the Python kernel."""
    gates_TBG, m_TBH, h_TBH, c_TBH, weight_hh_GH, bias_hh_G, lengths_B, kind = saved
    (steps, B, H), G = h_TBH.shape, len(weight_hh_GH)
    T, is_gru = steps - 1, kind[0] == "gru"
    # the gru's gradients in the order m r z n: the first three for W_hh, the last three for x
    dgates_TBX = buffer(T, B, 4 * H if is_gru else G)
    dstate = {name: value.contiguous().clone() for name, value in grad_final_state.items()}
    norms_TB = None if record is None else buffer(T, B)
    _call(
        "reprise_backward",
        kind,
        (T, B, H),
        lengths=lengths_B,
        weight=weight_hh_GH.contiguous(),
        gates=gates_TBG,
        m=m_TBH,
        h=h_TBH,
        c=c_TBH,
        dy=grad_y_BTH if grad_y_BTH.stride(2) == 1 else grad_y_BTH.contiguous(),
        dgates=dgates_TBX,
        dh=dstate["h"],
        dc=dstate.get("c"),
        record=norms_TB,
    )
    if record is not None:
        record.copy_(norms_TB)
    grad_NG = dgates_TBX.view(T * B, dgates_TBX.shape[2])[:, :G]
    grad_weight_GH, grad_bias_G = weight_gradient(grad_NG, h_TBH[:-1].view(T * B, H))
    if is_gru:  # back to the order r z n
        grad_weight_GH = torch.cat([grad_weight_GH[H:], grad_weight_GH[:H]])
        grad_bias_G = torch.cat([grad_bias_G[H:], grad_bias_G[:H]])
    return Gradients(
        dgates_TBX[:, :, -G:].transpose(0, 1), dstate, grad_weight_GH, None if bias_hh_G is None else grad_bias_G
    )


def _call(name: str, kind: tuple[str, str], sizes: tuple[int, int, int], **tensors: Tensor | None) -> bool | None:
    T, B, H = sizes
    G = {"rnn": 1, "gru": 3, "lstm": 4}[kind[0]] * H
    shapes = {
        "weight": (G, H),
        "bias": (G,),
        "lengths": (B,),
        "ids": (T, B),
        "gates": (T, B, G),
        "dh": (B, H),
        "dc": (B, H),
    }  # shapes of the caller's tensors; the others are created here
    arguments = Pass(T, B, H, max(1, min(B, products.threads_for(T * B * G * H))))
    for key, tensor in tensors.items():
        if tensor is None:
            continue
        if key == "dy":  # read by its strides
            products.check(key, tensor, (B, T, H), strided=True)
            arguments.dy_b, arguments.dy_t = tensor.stride()[:2]
        elif key == "table":
            products.check(key, tensor, (len(tensor), G))
            arguments.table_rows = len(tensor)
        elif key in shapes:
            products.check(key, tensor, shapes[key], torch.int64 if key in ("lengths", "ids") else torch.float32)
        setattr(arguments, key, tensor.data_ptr())
    return getattr(load_native(), name)(KINDS[kind], ctypes.byref(arguments))
