"""The minimal gated recurrent unit (Feng et al. 2024, arXiv:2410.01201); gate order z n."""

from __future__ import annotations

import torch
from torch import Tensor

from components.layers.linear_cell import LinearCell, positive


class MinGRU(LinearCell):
    """h⟨t⟩ = (1 − z) ∘ h⟨t−1⟩ + z ∘ n, with z = σ(W_z x⟨t⟩ + b_z) and n = g(W_n x⟨t⟩ + b_n). Here z weighs the new
    value, as in the paper; in the GRU it weighs the old one."""

    gates = 2

    def coefficients(self, gates: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        z, n = gates
        return torch.sigmoid(-z), torch.sigmoid(z) * positive(n)
