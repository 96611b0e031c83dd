"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate by Gers et al. 2000); gate order i f g o."""

from __future__ import annotations

from typing import Any

import torch

from components.layers.cell import Cell


class LSTM(Cell):
    """c⟨t⟩ = f ∘ c⟨t−1⟩ + i ∘ g,  h⟨t⟩ = o ∘ tanh(c⟨t⟩). State: h and c. `forget_bias`: initial bias of the forget
    gate."""

    gates = 4
    state_names = ("h", "c")
    kernel = "lstm"

    def __init__(self, input_size: int, /, *, forget_bias: float = 1.0, **settings: Any) -> None:
        self.forget_bias = forget_bias
        super().__init__(input_size, **settings)

    def reset_parameters(self) -> None:
        """As in `Cell`; the forget gate starts open (Jozefowicz et al. 2015)."""
        super().reset_parameters()
        with torch.no_grad():
            H = self.hidden_size
            self.bias_hh[H : 2 * H].zero_()
            self.bias_ih[H : 2 * H].fill_(self.forget_bias)
