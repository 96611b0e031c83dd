"""The LSTM with exponential gating (sLSTM, Beck et al. 2024, arXiv:2405.04517); gate order i f z o."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from components.layers.base import State, product
from components.layers.stepped_cell import SteppedCell


class SLSTM(SteppedCell):
    """c⟨t⟩ = f ∘ c⟨t−1⟩ + i ∘ z and n⟨t⟩ = f ∘ n⟨t−1⟩ + i, with i = exp(s_i), f = σ(s_f), z = tanh(s_z);
    h⟨t⟩ = o ∘ c⟨t⟩ / n⟨t⟩, o = σ(s_o). State: h, c / n and log n; c and n themselves may overflow. So the
    paper's stabiliser isn't needed:

        log n⟨t⟩ = log(f n⟨t−1⟩ + i),  keep = f n⟨t−1⟩ / n⟨t⟩,  c/n⟨t⟩ = keep ∘ c/n⟨t−1⟩ + (1 − keep) ∘ z

    At first c = 0 and n = 1. `heads`: number of blocks of units; recurrent connections exist only within a block.
    `forget_bias`: initial bias of the forget gate.
    """

    gates = 4
    state_names = ("h", "quotient", "log_n")

    def __init__(
        self,
        input_size: int,
        /,
        *,
        heads: Annotated[int, Field(ge=1, le=1024)] = 1,
        forget_bias: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(input_size, heads, **settings)
        self.heads = heads
        with torch.no_grad():
            self.bias_ih[self.hidden_size : 2 * self.hidden_size].fill_(forget_bias)

    def read(self, x_BTI: Tensor) -> Tensor:
        return product(x_BTI, self.weight_ih, self.bias_ih)

    def advance(self, x_BX: Tensor, state: State, weight_hh: Tensor) -> tuple[Tensor, State]:
        s_i, s_f, s_z, s_o = (x_BX + self._recurrent(state["h"], weight_hh)).chunk(4, dim=1)
        kept = logsigmoid(s_f) + state["log_n"]  # log(f n)
        keep = torch.sigmoid(kept - s_i)
        quotient = keep * state["quotient"] + (1 - keep) * torch.tanh(s_z)
        h = torch.sigmoid(s_o) * quotient
        return h, {"h": h, "quotient": quotient, "log_n": torch.logaddexp(kept, s_i)}

    def _recurrent(self, h_BH: Tensor, weight_hh: Tensor) -> Tensor:
        """W_hh h, [B, G], head by head (K heads of D units)."""
        if self.heads == 1:
            return h_BH @ weight_hh.t()
        blocks_gKDD = weight_hh.view(self.gates, self.heads, *[self.hidden_size // self.heads] * 2)
        return torch.einsum("bkd,gked->bgke", h_BH.unflatten(1, (self.heads, -1)), blocks_gKDD).flatten(1)
