"""The minimal LSTM (Feng et al. 2024, arXiv:2410.01201); gate order i f g."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from components.layers.linear_cell import LinearCell, positive


class MinLSTM(LinearCell):
    """h⟨t⟩ = f′ ∘ h⟨t−1⟩ + i′ ∘ g, with i = σ(W_i x⟨t⟩ + b_i), f likewise, f′ = f / (f + i), i′ = i / (f + i) and the
    candidate g = g(W_g x⟨t⟩ + b_g). There is no output gate and no second state. `forget_bias`: initial bias b_f."""

    gates = 3

    def __init__(self, input_size: int, /, *, forget_bias: float = 1.0, **settings: Any) -> None:
        self.forget_bias = forget_bias
        super().__init__(input_size, **settings)

    def reset_parameters(self) -> None:
        """As in `LinearCell`; the forget gate starts open."""
        super().reset_parameters()
        with torch.no_grad():
            self.bias_ih[self.hidden_size : 2 * self.hidden_size].fill_(self.forget_bias)

    def coefficients(self, gates: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        i, f, g = gates
        # f′ = σ(ln f − ln i): the quotient is 0/0 if both gates are closed
        odds = softplus(-i) - softplus(-f)
        return torch.sigmoid(odds), torch.sigmoid(-odds) * positive(g)
