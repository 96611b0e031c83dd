"""The C++ kernels behind the signatures of the kernels by hand: project, forward, backward, project_backward.

B batch, T time, I input, H hidden, G gate rows, N = T·B steps, S streams of ids. float32 on the CPU; the GRU in its
reset-after form; the LSTM without peepholes. Every run gives the same bits, whatever the number of threads (another
instruction set gives other last bits).
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from components.kernels import gru, lstm, rnn
from components.kernels.native import products
from components.kernels.native.build import Pass, library
from components.kernels.native.products import bias_or_zeros, buffer, multiply, packed_buffer
from components.kernels.sequence import outputs, steps_alive, time_major_steps

KINDS = {("rnn", "tanh"): 0, ("rnn", "relu"): 1, ("gru", "tanh"): 2, ("lstm", "tanh"): 3}  # `Kind` of api.h
State = dict[str, Tensor]


class Saved(NamedTuple):
    """What the backward pass reads; T+1 states and cells, those of step 0 first."""

    gates_TBG: Tensor
    m_TBH: Tensor | None
    h_TBH: Tensor
    c_TBH: Tensor | None
    weight_hh_GH: Tensor
    bias_hh_G: Tensor | None
    lengths_B: Tensor | None
    kind: tuple[str, str]


@torch.no_grad()
def project(x: Tensor, weight_ih_GI: Tensor, bias_ih_G: Tensor | None) -> Tensor:
    """As `sequence.project`; time-major memory, which `forward` takes over.

    Raises:
        IndexError: an id outside [0, I).
    """
    (B, T), x_NX = x.shape[:2], time_major_steps(x)
    if x.is_floating_point():
        product_NG = multiply(x_NX, weight_ih_GI.t(), start_C=bias_ih_G)
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
    return grad_x, multiply(grad_NG.t(), x_NX), products.sums(grad_NG)


@torch.no_grad()
def forward(
    kind: tuple[str, str],
    gates_x_BTG: Tensor,
    state: State,
    weight_hh_GH: Tensor,
    bias_hh_G: Tensor | None,
    lengths_B: Tensor | None = None,
) -> tuple[Tensor, State, Saved]:
    """As the kernel by hand of this `kind` (a key of KINDS). Overwrites gates_x when its memory is time-major."""
    (B, T, G), H = gates_x_BTG.shape, weight_hh_GH.shape[1]
    gates_TBG = gates_x_BTG.transpose(0, 1).contiguous()
    h_TBH = buffer(T + 1, B, H)
    h_TBH[0] = state["h"]
    m_TBH = buffer(T, B, H) if kind[0] == "gru" else None
    c_TBH = buffer(T + 1, B, H) if kind[0] == "lstm" else None
    if c_TBH is not None:
        c_TBH[0] = state["c"]
    if lengths_B is not None:
        lengths_B = lengths_B.to(torch.int64).contiguous()
    _call(
        "reprise_forward",
        kind,
        (T, B, H),
        lengths=lengths_B,
        weight=weight_hh_GH.contiguous(),
        bias=bias_or_zeros(bias_hh_G, G),
        packed=packed_buffer(H, G),
        scratch=buffer(B, G) if kind[0] == "gru" else None,
        gates=gates_TBG,
        m=m_TBH,
        h=h_TBH,
        c=c_TBH,
    )
    final = {"h": h_TBH[T].clone()} | ({} if c_TBH is None else {"c": c_TBH[T].clone()})
    saved = Saved(gates_TBG, m_TBH, h_TBH, c_TBH, weight_hh_GH, bias_hh_G, lengths_B, kind)
    return outputs(h_TBH[1:], steps_alive(lengths_B, T)), final, saved


@torch.no_grad()
def backward(
    saved: Saved, grad_y_BTH: Tensor, grad_final_state: State, *, record: Tensor | None = None
) -> rnn.Gradients | gru.Gradients | lstm.Gradients:
    """As the kernel by hand."""
    gates_TBG, m_TBH, h_TBH, c_TBH, weight_hh_GH, bias_hh_G, lengths_B, kind = saved
    (T, B, G), H = gates_TBG.shape, h_TBH.shape[2]
    is_gru = kind[0] == "gru"
    # the gru's gradients lie in the order m r z n: what W_hh sees is the first three, what x sees the last three
    weight_GH = torch.cat([weight_hh_GH[2 * H :], weight_hh_GH[: 2 * H]]) if is_gru else weight_hh_GH.contiguous()
    dgates_TBX = buffer(T, B, 4 * H if is_gru else G)
    dstate = {name: value.contiguous().clone() for name, value in grad_final_state.items()}
    norms_TB = None if record is None else buffer(T, B)
    _call(
        "reprise_backward",
        kind,
        (T, B, H),
        lengths=lengths_B,
        weight=weight_GH,
        packed=packed_buffer(G, H),
        gates=gates_TBG,
        m=m_TBH,
        h=h_TBH,
        c=c_TBH,
        dy=grad_y_BTH.transpose(0, 1).contiguous(),
        dgates=dgates_TBX,
        dh=dstate["h"],
        dc=dstate.get("c"),
        record=norms_TB,
    )
    if record is not None:
        record.copy_(norms_TB)
    grad_NG = dgates_TBX.view(T * B, dgates_TBX.shape[2])[:, :G]
    grad_weight_GH = multiply(grad_NG.t(), h_TBH[:-1].view(T * B, H))
    grad_bias_G = None if bias_hh_G is None else products.sums(grad_NG)
    if is_gru:  # back to the order r z n
        grad_weight_GH = torch.cat([grad_weight_GH[H:], grad_weight_GH[:H]])
        grad_bias_G = None if grad_bias_G is None else torch.cat([grad_bias_G[H:], grad_bias_G[:H]])
    gradients = {"rnn": rnn, "gru": gru, "lstm": lstm}[kind[0]].Gradients
    return gradients(dgates_TBX[:, :, -G:].transpose(0, 1), dstate, grad_weight_GH, grad_bias_G)


def _call(name: str, kind: tuple[str, str], sizes: tuple[int, int, int], **tensors: Tensor | None) -> None:
    T, B, H = sizes
    present = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    G = {"rnn": 1, "gru": 3, "lstm": 4}[kind[0]] * H
    shapes = {
        "weight": (G, H),
        "bias": (G,),
        "lengths": (B,),
        "scratch": (B, G),
        "record": (T, B),
        "gates": (T, B, G),
        "h": (T + 1, B, H),
        "c": (T + 1, B, H),
        "m": (T, B, H),
        "dy": (T, B, H),
        "dh": (B, H),
        "dc": (B, H),
    }
    for key, tensor in present.items():
        products.check(key, tensor, shapes.get(key, tensor.shape), torch.int64 if key == "lengths" else torch.float32)
    addresses = {key: tensor.data_ptr() for key, tensor in present.items()}
    arguments = Pass(T, B, H, max(1, min(B, products.threads_for(T * B * G * H))), **addresses)
    getattr(library(), name)(KINDS[kind], ctypes.byref(arguments))
