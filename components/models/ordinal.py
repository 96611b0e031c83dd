"""Ordinal regression of a sequence: one score for the sequence, and a threshold between adjacent ratings.

Shapes: B batch, K thresholds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from components.encodings.base import Field
from components.models.pooled import Pooled


class Ordinal(Pooled):
    """Logits [B, K] of "more than the k-th rating": one shared score and a bias for each (the proportional odds model
    of McCullagh 1980; CORAL, Cao, Mirjalili and Raschka 2020, arXiv:1901.07884). The initial biases decrease from 1 to
    −1.
    """

    def __init__(self, stream: Field, thresholds: int, /, **options: Any) -> None:
        super().__init__(stream, 1, **options)
        self.head.bias.requires_grad_(False).zero_()  # replaced by the thresholds' biases
        self.bias_K = nn.Parameter(torch.linspace(1.0, -1.0, thresholds))

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> Tensor:
        return super().forward(inputs, lengths_B) + self.bias_K
