"""A sequence in, one vector for each of its steps out (many-to-many of equal length)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from components.encodings.base import Field
from components.models.backbone import Backbone


class Tagger(Backbone):
    """Backbone → linear head at every step."""

    def __init__(self, stream: Field, output_size: int, /, **options: Any) -> None:
        super().__init__([stream], **options)
        self.head = nn.Linear(self.recurrent.output_size, output_size)

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> Tensor:
        """Outputs [B, T, O] for ids [B, T, 1] or frames [B, T, I]."""
        return self.head(self.outputs(inputs, None, lengths_B)[0])
