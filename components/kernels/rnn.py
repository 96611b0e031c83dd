"""The simple recurrent network (Elman): forward and backpropagation through time, by hand.

    B batch · T time · H hidden · G = H rows · suffixes on tensors say their shape
    here            the course           torch.nn.RNN
    h⟨t⟩            a⟨t⟩                 output[:, t]
    gates_x⟨t⟩      W_ax x⟨t⟩ (+ b_a)    weight_ih_l0 x + bias_ih_l0
    weight_hh       W_aa                 weight_hh_l0

    (1) s⟨t⟩ = gates_x⟨t⟩ + W_hh h⟨t−1⟩ + b_hh
    (2) h⟨t⟩ = φ(s⟨t⟩),  φ = tanh or relu

J. L. Elman, "Finding structure in time", Cognitive Science 14(2), 1990.
P. J. Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE 78(10), 1990.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from components.errors import unknown
from components.kernels.sequence import Gradients, State, outputs, record_norms, steps_alive, time_major

GATES = 1  # G = GATES · H
STATE = ("h",)
NONLINEARITIES = ("tanh", "relu")


class Saved(NamedTuple):
    """Tensors for the backward pass; T+1 states, h⟨0⟩ first."""

    h_TBH: Tensor
    weight_hh_GH: Tensor
    bias_hh_G: Tensor | None
    alive_TB1: Tensor | None
    nonlinearity: str


@torch.no_grad()
def forward(
    gates_x_BTG: Tensor,
    state: State,
    weight_hh_GH: Tensor,
    bias_hh_G: Tensor | None,
    lengths_B: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
) -> tuple[Tensor, State, Saved]:
    """All steps of all rows.

    Args:
        gates_x_BTG: the input product of every step (`sequence.project`).
        state: {"h": h⟨0⟩ [B, H]}.
        lengths_B: steps in each row, 0 allowed; None = all T. After a row's end y is 0 and its state doesn't change.

    Returns:
        y [B, T, H]; the state at each row's own end; what `backward` needs.

    Raises:
        UserError: the nonlinearity isn't one of NONLINEARITIES.
    """
    if nonlinearity not in NONLINEARITIES:
        raise unknown("nonlinearity", nonlinearity, NONLINEARITIES)
    B, T, H = gates_x_BTG.shape
    alive_TB1 = steps_alive(lengths_B, T)
    s_TBH = time_major(gates_x_BTG, alive_TB1, bias_hh_G)
    h_TBH = gates_x_BTG.new_empty(T + 1, B, H)
    h_TBH[0] = state["h"]
    recurrent_HG = weight_hh_GH.t()
    for t in range(T):
        s_BH = s_TBH[t].addmm_(h_TBH[t], recurrent_HG)  # (1)
        torch.tanh(s_BH, out=h_TBH[t + 1]) if nonlinearity == "tanh" else torch.relu_(h_TBH[t + 1].copy_(s_BH))  # (2)
        if alive_TB1 is not None:
            torch.where(alive_TB1[t], h_TBH[t + 1], h_TBH[t], out=h_TBH[t + 1])
    saved = Saved(h_TBH, weight_hh_GH, bias_hh_G, alive_TB1, nonlinearity)
    return outputs(h_TBH[1:], alive_TB1), {"h": h_TBH[T].clone()}, saved


@torch.no_grad()
def backward(saved: Saved, grad_y_BTH: Tensor, grad_final_state: State, *, record: Tensor | None = None) -> Gradients:
    """Backpropagation through time: ∂L/∂y and ∂L/∂(final state) to ∂L/∂(every input). (n′) undoes forward line (n).

    `record` [T, B], if given, receives ‖∂L/∂h⟨t⟩‖, all paths from step t to the loss included.
    """
    h_TBH, weight_hh_GH, bias_hh_G, alive_TB1, nonlinearity = saved
    T, (B, H) = len(h_TBH) - 1, h_TBH.shape[1:]
    dy_TBH = time_major(grad_y_BTH, alive_TB1)
    # φ′ doesn't depend on the future, so it is computed for all steps at once
    slope_TBH = 1 - h_TBH[1:] ** 2 if nonlinearity == "tanh" else (h_TBH[1:] > 0).to(h_TBH.dtype)
    if alive_TB1 is not None:
        slope_TBH.masked_fill_(~alive_TB1, 0)
    ds_TBH = torch.empty_like(dy_TBH)
    dh_BH = grad_final_state["h"].clone()
    for t in reversed(range(T)):
        dh_BH += dy_TBH[t]  # h⟨t⟩ has two readers: the output y⟨t⟩ and step t+1
        if record is not None:
            record_norms(record, t, dh_BH, alive_TB1)
        torch.mul(dh_BH, slope_TBH[t], out=ds_TBH[t])  # (2′)
        through_BH = ds_TBH[t] @ weight_hh_GH  # (1′) to h⟨t−1⟩
        dh_BH = through_BH if alive_TB1 is None else torch.where(alive_TB1[t], through_BH, dh_BH)
    ds_NH = ds_TBH.view(T * B, H)
    return Gradients(
        gates_x=ds_TBH.transpose(0, 1),  # (1′) to gates_x⟨t⟩
        state={"h": dh_BH},
        weight_hh=ds_NH.t() @ h_TBH[:-1].view(T * B, H),  # (1′) to W_hh, every step in one GEMM
        bias_hh=None if bias_hh_G is None else ds_NH.sum(0),  # (1′) to b_hh
    )
