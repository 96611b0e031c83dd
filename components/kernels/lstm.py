"""Long short-term memory: forward and backpropagation through time, by hand.

    B batch · T time · H hidden · G = 4H gate rows in the order i f g o · suffixes on tensors say their shape
    here            the course           meaning
    h⟨t⟩            a⟨t⟩                 output, and the state that the gates read
    c⟨t⟩            c⟨t⟩                 memory cell
    i f o           Γ_u Γ_f Γ_o          input (update), forget and output gate
    g               c̃⟨t⟩                 candidate
    p_i p_f p_o     –                    peepholes (optional): the gates see the cell, each unit its own

    (1) s⟨t⟩ = gates_x⟨t⟩ + W_hh h⟨t−1⟩ + b_hh,  in four parts s_i s_f s_g s_o
    (2) i = σ(s_i [+ p_i ⊙ c⟨t−1⟩])
    (3) f = σ(s_f [+ p_f ⊙ c⟨t−1⟩])
    (4) g = tanh(s_g)
    (5) c⟨t⟩ = f ⊙ c⟨t−1⟩ + i ⊙ g
    (6) o = σ(s_o [+ p_o ⊙ c⟨t⟩])
    (7) h⟨t⟩ = o ⊙ tanh(c⟨t⟩)

with gates_x⟨t⟩ = W_ih x⟨t⟩ + b_ih. S. Hochreiter & J. Schmidhuber, "Long short-term memory", Neural Computation 9(8),
1997; forget gate and peepholes: F. A. Gers et al., 2000 and 2002; full BPTT: A. Graves & J. Schmidhuber, 2005.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from components.kernels.sequence import Gradients, State, outputs, record_norms, steps_alive, time_major

GATES = 4  # G = GATES · H
STATE = ("h", "c")


class Saved(NamedTuple):
    """Tensors for the backward pass; T+1 states and cells, those of step 0 first."""

    gates_TBG: Tensor  # i f g o after their nonlinearities
    tanh_c_TBH: Tensor
    h_TBH: Tensor
    c_TBH: Tensor
    weight_hh_GH: Tensor
    bias_hh_G: Tensor | None
    peepholes_3H: Tensor | None
    alive_TB1: Tensor | None


@torch.no_grad()
def forward(
    gates_x_BTG: Tensor,
    state: State,
    weight_hh_GH: Tensor,
    bias_hh_G: Tensor | None,
    lengths_B: Tensor | None = None,
    *,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, State, Saved]:
    """As `rnn.forward`; the state also has c⟨0⟩ [B, H] under "c". `peepholes`: the vectors p_i p_f p_o, [3, H]."""
    B, T, G = gates_x_BTG.shape
    H = G // GATES
    alive_TB1 = steps_alive(lengths_B, T)
    gates_TBG = time_major(gates_x_BTG, alive_TB1, bias_hh_G)
    tanh_c_TBH = gates_x_BTG.new_empty(T, B, H)
    h_TBH, c_TBH = gates_x_BTG.new_empty(2, T + 1, B, H)
    h_TBH[0], c_TBH[0] = state["h"], state["c"]
    recurrent_HG = weight_hh_GH.t()
    for t in range(T):
        s_BG = gates_TBG[t].addmm_(h_TBH[t], recurrent_HG)  # (1)
        (i, f, g, o), c_BH = s_BG.chunk(GATES, dim=1), c_TBH[t + 1]
        if peepholes is not None:
            i.addcmul_(peepholes[0], c_TBH[t])
            f.addcmul_(peepholes[1], c_TBH[t])
        s_BG[:, : 2 * H].sigmoid_()  # (2) (3)
        g.tanh_()  # (4)
        torch.mul(f, c_TBH[t], out=c_BH).addcmul_(i, g)  # (5)
        if peepholes is not None:
            o.addcmul_(peepholes[2], c_BH)
        o.sigmoid_()  # (6)
        torch.tanh(c_BH, out=tanh_c_TBH[t])
        torch.mul(o, tanh_c_TBH[t], out=h_TBH[t + 1])  # (7)
        if alive_TB1 is not None:
            torch.where(alive_TB1[t], c_BH, c_TBH[t], out=c_BH)
            torch.where(alive_TB1[t], h_TBH[t + 1], h_TBH[t], out=h_TBH[t + 1])
    saved = Saved(gates_TBG, tanh_c_TBH, h_TBH, c_TBH, weight_hh_GH, bias_hh_G, peepholes, alive_TB1)
    return outputs(h_TBH[1:], alive_TB1), {"h": h_TBH[T].clone(), "c": c_TBH[T].clone()}, saved


@torch.no_grad()
def backward(saved: Saved, grad_y_BTH: Tensor, grad_final_state: State, *, record: Tensor | None = None) -> Gradients:
    """As `rnn.backward`: (n′) undoes forward line (n)."""
    gates_TBG, tanh_c_TBH, _, c_TBH, weight_hh_GH, _, peepholes, alive_TB1 = saved
    T, B, G = gates_TBG.shape
    H = G // GATES
    dy_TBH = time_major(grad_y_BTH, alive_TB1)
    i, f, g, o = gates_TBG.chunk(GATES, dim=2)
    # local derivatives don't depend on the future, so they are computed for all steps at once
    slope_TBG = torch.empty_like(gates_TBG)
    slope_i, slope_f, slope_g, slope_o = slope_TBG.chunk(GATES, dim=2)
    torch.mul(i * (1 - i), g, out=slope_i)  # ∂c⟨t⟩/∂s_i
    torch.mul(f * (1 - f), c_TBH[:-1], out=slope_f)  # ∂c⟨t⟩/∂s_f
    torch.mul(1 - g**2, i, out=slope_g)  # ∂c⟨t⟩/∂s_g
    torch.mul(o * (1 - o), tanh_c_TBH, out=slope_o)  # ∂h⟨t⟩/∂s_o
    slope_c = o * (1 - tanh_c_TBH**2)  # ∂h⟨t⟩/∂c⟨t⟩ by (7) alone
    keep = f
    if alive_TB1 is not None:
        slope_TBG.masked_fill_(~alive_TB1, 0)
        slope_c.masked_fill_(~alive_TB1, 0)
        keep = f.masked_fill(~alive_TB1, 1)  # an ended row passes its gradient on
    ds_TBG = torch.empty_like(gates_TBG)
    dh_BH, dc_BH = grad_final_state["h"].clone(), grad_final_state["c"].clone()
    for t in reversed(range(T)):
        ds_i, ds_f, _, ds_o = ds_TBG[t].chunk(GATES, dim=1)
        ds_ifg, slope_ifg = ds_TBG[t, :, : 3 * H].view(B, 3, H), slope_TBG[t, :, : 3 * H].view(B, 3, H)
        dh_BH += dy_TBH[t]  # h⟨t⟩ has two readers: the output y⟨t⟩ and step t+1
        if record is not None:
            record_norms(record, t, dh_BH, alive_TB1)
        dc_BH.addcmul_(dh_BH, slope_c[t])  # (7′) to c⟨t⟩, added to the gradient from step t+1
        torch.mul(dh_BH, slope_o[t], out=ds_o)  # (7′) (6′)
        if peepholes is not None:
            dc_BH.addcmul_(peepholes[2], ds_o)  # (6′) to c⟨t⟩
        torch.mul(dc_BH[:, None], slope_ifg, out=ds_ifg)  # (5′) (4′) (3′) (2′)
        dc_BH *= keep[t]  # (5′) to c⟨t−1⟩
        if peepholes is not None:
            dc_BH.addcmul_(peepholes[1], ds_f).addcmul_(peepholes[0], ds_i)  # (3′) (2′) to c⟨t−1⟩
        through_BH = ds_TBG[t] @ weight_hh_GH  # (1′) to h⟨t−1⟩
        dh_BH = through_BH if alive_TB1 is None else torch.where(alive_TB1[t], through_BH, dh_BH)
    return gradients(saved, ds_TBG, dh_BH, dc_BH)


def gradients(saved: Saved, ds_TBG: Tensor, dh_BH: Tensor, dc_BH: Tensor) -> Gradients:
    """The result of `backward` from ∂L/∂s of all steps and ∂L/∂(state before the first)."""
    _, _, h_TBH, c_TBH, _, bias_hh_G, peepholes, _ = saved
    T, B, G = ds_TBG.shape
    H = G // GATES
    ds_NG = ds_TBG.view(T * B, G)
    grad_peepholes = None
    if peepholes is not None:  # (2′) (3′) (6′) to p_i p_f p_o
        ds_i, ds_f, _, ds_o = ds_TBG.chunk(GATES, dim=2)
        seen_by = ((ds_i, c_TBH[:-1]), (ds_f, c_TBH[:-1]), (ds_o, c_TBH[1:]))
        grad_peepholes = torch.stack([(ds * c).sum((0, 1)) for ds, c in seen_by])
    return Gradients(
        gates_x=ds_TBG.transpose(0, 1),  # (1′) to gates_x⟨t⟩
        state={"h": dh_BH, "c": dc_BH},
        weight_hh=ds_NG.t() @ h_TBH[:-1].view(T * B, H),  # (1′) to W_hh, every step in one GEMM
        bias_hh=None if bias_hh_G is None else ds_NG.sum(0),  # (1′) to b_hh
        peepholes=grad_peepholes,
    )
