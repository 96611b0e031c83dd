"""The LSTM in which input and state first gate each other (Melis et al. 2020, arXiv:1909.01792); gate order i f g o."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from components.layers.base import State, one_hot
from components.layers.stepped_cell import SteppedCell


class MogrifierLSTM(SteppedCell):
    """An LSTM after several rounds in which x⟨t⟩ and h⟨t−1⟩ scale each other: x ← 2σ(Q_k h) ∘ x in odd rounds, h ←
    2σ(R_k x) ∘ h in even ones. `rounds`: number of rounds in which input and state scale each other. `forget_bias`:
    initial bias of the forget gate. `recurrent_dropout` applies to the gates' matrix, not to Q and R.
    """

    gates = 4
    state_names = ("h", "c")

    def __init__(
        self,
        input_size: int,
        /,
        *,
        rounds: Annotated[int, Field(ge=1, le=20)] = 5,
        forget_bias: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(input_size, **settings)
        H = self.hidden_size
        bound = 1 / math.sqrt(H)
        sizes = [(input_size, H), (H, input_size)]  # Q, R
        self.mogrifiers = nn.ParameterList(
            nn.Parameter(torch.empty(sizes[turn % 2]).uniform_(-bound, bound)) for turn in range(rounds)
        )
        with torch.no_grad():
            self.bias_ih[H : 2 * H].fill_(forget_bias)

    def read(self, x_BTI: Tensor) -> Tensor:
        if x_BTI.is_floating_point():
            return x_BTI.transpose(0, 1)
        # one-hot vectors are materialised, since they are scaled
        ids_TBS = (x_BTI.unsqueeze(2) if x_BTI.dim() == 2 else x_BTI).transpose(0, 1)
        return one_hot(ids_TBS, self.input_size, self.weight_ih)

    def advance(self, x_BX: Tensor, state: State, weight_hh: Tensor) -> tuple[Tensor, State]:
        x, h = x_BX, state["h"]
        for turn, weight in enumerate(self.mogrifiers):
            if turn % 2 == 0:
                x = 2 * torch.sigmoid(linear(h, weight)) * x
            else:
                h = 2 * torch.sigmoid(linear(x, weight)) * h
        i, f, g, o = (linear(x, self.weight_ih, self.bias_ih) + linear(h, weight_hh)).chunk(4, dim=1)
        c = torch.sigmoid(f) * state["c"] + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, {"h": h, "c": c}
