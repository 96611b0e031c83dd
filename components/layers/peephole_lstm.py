"""The LSTM with peepholes: gates that read the memory cell (Gers, Schraudolph & Schmidhuber 2002)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from components.layers.cell import Rate, Size
from components.layers.lstm import LSTM


class PeepholeLSTM(LSTM):
    """An LSTM with p_i ∘ c⟨t−1⟩, p_f ∘ c⟨t−1⟩ and p_o ∘ c⟨t⟩ added inside the gates i, f and o. torch has no
    peepholes.

    `backend`: implementation of the cell: by_hand (the equations in Python) or triton (on a GPU; needs `pip install
    triton`); auto takes the one measured fastest.
    """

    backends = ("by_hand", "triton")
    parameter_names = (*LSTM.parameter_names, "peepholes")

    def __init__(
        self,
        input_size: int,
        /,
        *,
        hidden_size: Size = 256,
        forget_bias: float = 1.0,
        recurrent_dropout: Rate = 0.0,
        backend: Literal["auto", "by_hand", "triton"] = "auto",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size=hidden_size,
            forget_bias=forget_bias,
            recurrent_dropout=recurrent_dropout,
            backend=backend,
        )
        bound = 1 / math.sqrt(hidden_size)
        self.peepholes = nn.Parameter(torch.empty(3, hidden_size).uniform_(-bound, bound))
