"""Transcription: logits for each step of a sequence, for CTC (many-to-many of unequal length)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from components.encodings.base import Field
from components.models.backbone import Backbone


class Transcriber(Backbone):
    """Backbone → linear head at every step: logits of the blank (id 0) and of the target's tokens."""

    def __init__(self, stream: Field, output_size: int, /, **options: Any) -> None:
        super().__init__([stream], **options)
        self.head = nn.Linear(self.recurrent.output_size, output_size)

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits [B, T, V] for frames [B, T, I] or ids [B, T, 1]."""
        return self.head(self.outputs(inputs, None, lengths_B)[0])
