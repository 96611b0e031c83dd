"""The LSTM with a matrix memory (mLSTM, Beck et al. 2024, arXiv:2405.04517); row order q k v o i f.

Shapes: B batch, K heads, D units per head, H = K · D.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from components.layers.base import State, product, zeros_like_parameters
from components.layers.cell import Size
from components.layers.stepped_cell import SteppedCell


class MLSTM(SteppedCell):
    """C⟨t⟩ = f C⟨t−1⟩ + i v kᵀ and n⟨t⟩ = f n⟨t−1⟩ + i k; y⟨t⟩ = o ∘ C⟨t⟩ q / max(|n⟨t⟩ᵀ q|, 1), for each head, with
    scalars i = exp(s_i) and f = σ(s_f), and o = σ(s_o). q, k · √D, v and all s are affine in x⟨t⟩; C and n are 0 at
    first. State: log s, where s⟨t⟩ = f s⟨t−1⟩ + i and s = 1 at first, and C / s and n / s. These are weighted means
    that can't overflow, so the paper's stabiliser isn't needed:

        keep = f s⟨t−1⟩ / s⟨t⟩,  C/s⟨t⟩ = keep · C/s⟨t−1⟩ + (1 − keep) · v kᵀ

    The gates don't depend on the state, so as with minGRU a second layer is needed. `heads`: number of independent
    matrices; more need less memory, since backpropagation keeps the D · H numbers of C for every step of a window.
    `forget_bias`: initial bias of the forget gate.
    """

    state_names = ("matrix", "normalizer", "log_s")

    def __init__(
        self,
        input_size: int,
        /,
        *,
        hidden_size: Size = 256,
        heads: Annotated[int, Field(ge=1, le=1024)] = 1,
        forget_bias: float = 3.0,
    ) -> None:
        super().__init__(input_size, heads, 4 * hidden_size + 2 * heads, hidden_size=hidden_size)
        self.heads = heads
        with torch.no_grad():
            self.bias_ih[-heads:].fill_(forget_bias)

    def initial_state(self, batch_size: int) -> State:
        sizes = (self.hidden_size * self.hidden_size // self.heads, self.hidden_size, self.heads)
        return {
            name: zeros_like_parameters(self, batch_size, size)
            for name, size in zip(self.state_names, sizes, strict=True)
        }

    def read(self, x_BTI: Tensor) -> Tensor:
        return product(x_BTI, self.weight_ih, self.bias_ih)

    def advance(self, x_BX: Tensor, state: State, weight_hh: Tensor | None) -> tuple[Tensor, State]:
        H, K = self.hidden_size, self.heads
        D = H // K
        *vectors, s_o, s_i_BK, s_f_BK = x_BX.split([H, H, H, H, K, K], dim=1)
        q_BKD, k_BKD, v_BKD = (vector.unflatten(1, (K, D)) for vector in vectors)
        kept_BK = logsigmoid(s_f_BK) + state["log_s"]  # log(f s)
        keep_BK1, new_BK1 = (torch.sigmoid(value).unsqueeze(2) for value in (kept_BK - s_i_BK, s_i_BK - kept_BK))
        log_s_BK = torch.logaddexp(kept_BK, s_i_BK)
        k_BKD = new_BK1 * k_BKD / math.sqrt(D)
        C_BKDD = keep_BK1.unsqueeze(3) * state["matrix"].unflatten(1, (K, D, D))
        C_BKDD = C_BKDD + v_BKD.unsqueeze(3) * k_BKD.unsqueeze(2)
        n_BKD = keep_BK1 * state["normalizer"].unflatten(1, (K, D)) + k_BKD
        # 1 / s, clamped where y is 0 anyway
        least_BK1 = torch.exp(-log_s_BK.clamp(min=-80)).unsqueeze(2)
        divisor_BK1 = torch.maximum((n_BKD * q_BKD).sum(2, keepdim=True).abs(), least_BK1)
        read_BKD = (C_BKDD @ q_BKD.unsqueeze(3)).squeeze(3) / divisor_BK1
        after = {"matrix": C_BKDD.flatten(1), "normalizer": n_BKD.flatten(1), "log_s": log_s_BK}
        return torch.sigmoid(s_o) * read_BKD.flatten(1), after
