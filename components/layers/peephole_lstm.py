"""The LSTM with peepholes: gates that read the memory cell (Gers, Schraudolph & Schmidhuber 2002)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn

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
        self, input_size: int, /, *, backend: Literal["auto", "by_hand", "triton"] = "auto", **settings: Any
    ) -> None:
        super().__init__(input_size, backend=backend, **settings)
        bound = 1 / math.sqrt(self.hidden_size)
        self.peepholes = nn.Parameter(torch.empty(3, self.hidden_size).uniform_(-bound, bound))
