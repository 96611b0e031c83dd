"""A sequence in, a place on a scale out: one score for the sequence and a threshold between any two ratings.

Shapes: B batch, K thresholds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from components.encodings.base import Field
from components.models.pooled import Pooled


class Ordinal(Pooled):
    """Logits [B, K] of "more than the k-th rating": one score for all of them, and a bias each (the proportional odds
    of McCullagh 1980; CORAL, Cao, Mirjalili and Raschka 2020, arXiv:1901.07884). The biases begin in order, from 1 to
    −1.
    """

    def __init__(self, stream: Field, thresholds: int, /, **options: Any) -> None:
        super().__init__(stream, 1, **options)
        self.head.bias.requires_grad_(False).zero_()  # the thresholds' biases take its place
        self.bias_K = nn.Parameter(torch.linspace(1.0, -1.0, thresholds))

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> Tensor:
        return super().forward(inputs, lengths_B) + self.bias_K
