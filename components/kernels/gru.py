"""The gated recurrent unit: forward and backpropagation through time, by hand.

    B batch · T time · H hidden · G = 3H gate rows in the order r z n · suffixes on tensors say their shape
    here            the course           meaning
    h⟨t⟩            c⟨t⟩ = a⟨t⟩          state and output
    r               Γ_r                  reset gate: how much of the past the candidate sees
    z               1 − Γ_u              torch's z keeps the old state, the course's update gate Γ_u takes the new one
    n               c̃⟨t⟩                 candidate

    (1) r = σ(x_r + W_hr h⟨t−1⟩ + b_hr)
    (2) z = σ(x_z + W_hz h⟨t−1⟩ + b_hz)
    (3) m = W_hn h⟨t−1⟩ + b_hn                     reset after the product (cuDNN, torch.nn.GRU)
    (4) n = tanh(x_n + r ⊙ m)
        or, reset before the product (the published paper and the course), where (3) and (4) become
    (3) m = r ⊙ h⟨t−1⟩
    (4) n = tanh(x_n + W_hn m + b_hn)
    (5) h⟨t⟩ = (1 − z) ⊙ n + z ⊙ h⟨t−1⟩

with x_r, x_z, x_n the three parts of gates_x⟨t⟩ = W_ih x⟨t⟩ + b_ih.
K. Cho et al., "Learning phrase representations using RNN encoder–decoder for statistical machine translation",
arXiv:1406.1078 (version 1 resets after the product, version 3 before it).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from components.kernels.sequence import Gradients, State, outputs, record_norms, steps_alive, time_major

GATES = 3  # G = GATES · H
STATE = ("h",)


class Saved(NamedTuple):
    """Tensors for the backward pass; T+1 states, h⟨0⟩ first."""

    gates_TBG: Tensor  # r z n after their nonlinearities
    m_TBH: Tensor
    h_TBH: Tensor
    weight_hh_GH: Tensor
    bias_hh_G: Tensor | None
    alive_TB1: Tensor | None
    reset_after: bool


@torch.no_grad()
def forward(
    gates_x_BTG: Tensor,
    state: State,
    weight_hh_GH: Tensor,
    bias_hh_G: Tensor | None,
    lengths_B: Tensor | None = None,
    *,
    reset_after: bool = True,
) -> tuple[Tensor, State, Saved]:
    """As `rnn.forward`. `reset_after`: where the reset gate acts, see (3) and (4)."""
    B, T, G = gates_x_BTG.shape
    H = G // GATES
    alive_TB1 = steps_alive(lengths_B, T)
    bias_G, bias_n_H = split_bias(gates_x_BTG, bias_hh_G, reset_after)
    gates_TBG = time_major(gates_x_BTG, alive_TB1, bias_G)
    m_TBH = gates_x_BTG.new_empty(T, B, H)
    h_TBH = gates_x_BTG.new_empty(T + 1, B, H)
    h_TBH[0] = state["h"]
    recurrent_rz, recurrent_n = weight_hh_GH[: 2 * H].t(), weight_hh_GH[2 * H :].t()
    for t in range(T):
        h_BH, m_BH = h_TBH[t], m_TBH[t]
        rz, (r, z, n) = gates_TBG[t, :, : 2 * H], gates_TBG[t].chunk(GATES, dim=1)
        rz.addmm_(h_BH, recurrent_rz).sigmoid_()  # (1) (2)
        if reset_after:
            torch.addmm(bias_n_H, h_BH, recurrent_n, out=m_BH)  # (3)
            n.addcmul_(r, m_BH).tanh_()  # (4)
        else:
            torch.mul(r, h_BH, out=m_BH)  # (3)
            n.addmm_(m_BH, recurrent_n).tanh_()  # (4)
        torch.lerp(n, h_BH, z, out=h_TBH[t + 1])  # (5)
        if alive_TB1 is not None:
            torch.where(alive_TB1[t], h_TBH[t + 1], h_BH, out=h_TBH[t + 1])
    saved = Saved(gates_TBG, m_TBH, h_TBH, weight_hh_GH, bias_hh_G, alive_TB1, reset_after)
    return outputs(h_TBH[1:], alive_TB1), {"h": h_TBH[T].clone()}, saved


def split_bias(gates_x_BTG: Tensor, bias_hh_G: Tensor | None, reset_after: bool) -> tuple[Tensor, Tensor]:
    """The bias that is added to gates_x, and b_hn. The first lacks b_hn where that belongs to m, inside r ⊙ m."""
    bias_G = gates_x_BTG.new_zeros(gates_x_BTG.shape[2]) if bias_hh_G is None else bias_hh_G.clone()
    bias_n_H = bias_G.chunk(GATES)[2].clone()
    if reset_after:
        bias_G.chunk(GATES)[2].zero_()
    return bias_G, bias_n_H


@torch.no_grad()
def backward(saved: Saved, grad_y_BTH: Tensor, grad_final_state: State, *, record: Tensor | None = None) -> Gradients:
    """As `rnn.backward`: (n′) undoes forward line (n)."""
    gates_TBG, m_TBH, h_TBH, weight_hh_GH, _, alive_TB1, reset_after = saved
    T, _, H = m_TBH.shape
    dy_TBH = time_major(grad_y_BTH, alive_TB1)
    r, z, n = gates_TBG.chunk(GATES, dim=2)
    # local derivatives don't depend on the future, so they are computed for all steps at once. ∂h⟨t⟩/∂(before tanh,
    # before σ):
    slope_n = (1 - z) * (1 - n**2)  # (5′) (4′)
    slope_z = (h_TBH[:-1] - n) * z * (1 - z)  # (5′) (2′)
    slope_r = r * (1 - r) * (m_TBH if reset_after else h_TBH[:-1])  # (4′ or 3′) (1′), to be multiplied by n's gradient
    keep = z if alive_TB1 is None else z.masked_fill(~alive_TB1, 1)  # an ended row passes its gradient on
    if alive_TB1 is not None:
        slope_n.masked_fill_(~alive_TB1, 0)
        slope_z.masked_fill_(~alive_TB1, 0)
    dgates_TBG = torch.empty_like(gates_TBG)  # to x_r x_z x_n
    dhidden_TBG = torch.empty_like(gates_TBG) if reset_after else dgates_TBG  # to W_hh's products: n's part is ∂L/∂m
    weight_rz, weight_n = weight_hh_GH[: 2 * H], weight_hh_GH[2 * H :]
    dh_BH = grad_final_state["h"].clone()
    for t in reversed(range(T)):
        dh_BH += dy_TBH[t]  # h⟨t⟩ has two readers: the output y⟨t⟩ and step t+1
        if record is not None:
            record_norms(record, t, dh_BH, alive_TB1)
        dr, dz, dn = dgates_TBG[t].chunk(GATES, dim=1)
        torch.mul(dh_BH, slope_n[t], out=dn)  # (5′) (4′)
        torch.mul(dh_BH, slope_z[t], out=dz)  # (5′) (2′)
        dh_BH *= keep[t]  # (5′) straight to h⟨t−1⟩
        if reset_after:
            torch.mul(dn, slope_r[t], out=dr)  # (4′) (1′)
            dhidden_TBG[t, :, : 2 * H] = dgates_TBG[t, :, : 2 * H]
            torch.mul(dn, r[t], out=dhidden_TBG[t, :, 2 * H :])  # (4′) to m
            dh_BH.addmm_(dhidden_TBG[t], weight_hh_GH)  # (3′) (2′) (1′) to h⟨t−1⟩
        else:
            dm = dn @ weight_n  # (4′) to m
            torch.mul(dm, slope_r[t], out=dr)  # (3′) (1′)
            dh_BH.addcmul_(dm, r[t])  # (3′) to h⟨t−1⟩
            dh_BH.addmm_(dgates_TBG[t, :, : 2 * H], weight_rz)  # (2′) (1′) to h⟨t−1⟩
    return gradients(saved, dgates_TBG, dhidden_TBG, dh_BH)


def gradients(saved: Saved, dgates_TBG: Tensor, dhidden_TBG: Tensor, dh_BH: Tensor) -> Gradients:
    """The result of `backward` from the gradients of all input and recurrent products, and of h⟨0⟩."""
    _, m_TBH, h_TBH, _, bias_hh_G, _, reset_after = saved
    T, B, G = dgates_TBG.shape
    H = G // GATES
    dhidden_NG, h_NH = dhidden_TBG.view(T * B, G), h_TBH[:-1].view(T * B, H)
    if reset_after:
        grad_weight_GH = dhidden_NG.t() @ h_NH  # (1′) (2′) (3′) to W_hh, every step in one GEMM
    else:  # W_hn multiplies m, not h⟨t−1⟩
        grad_weight_GH = torch.cat(
            [dhidden_NG[:, : 2 * H].t() @ h_NH, dhidden_NG[:, 2 * H :].t() @ m_TBH.view(T * B, H)]
        )
    return Gradients(
        gates_x=dgates_TBG.transpose(0, 1),
        state={"h": dh_BH},
        weight_hh=grad_weight_GH,
        bias_hh=None if bias_hh_G is None else dhidden_NG.sum(0),
    )
