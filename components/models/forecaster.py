"""Forecasting: for each input step, the parameters of the distribution of its value.

Shapes: B batch, T steps, I inputs of a step, P parameters.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from components.encodings.base import Field
from components.layers.base import State
from components.models.backbone import Backbone


class Forecaster(Backbone):
    """Backbone → linear head. `begun`: (an input, a parameter): the input is added to the parameter, so that the head
    gives its change. `input`, `embedding_size`, `embedding_scale` and `vectors` are ignored: there are no tokens."""

    def __init__(self, inputs: Field, parameters: int, begun: tuple[int, int] | None = None, /, **options: Any) -> None:
        super().__init__([inputs], **options)
        self.head = nn.Linear(self.recurrent.output_size, parameters)
        self.begun = begun

    def forward(self, inputs_BTI: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The parameters [B, T, P] of the distribution of each step's value, and the state."""
        y_BTH, state = self.outputs(inputs_BTI, state)
        return self._head_of(y_BTH, inputs_BTI), state

    def step(self, inputs_BI: Tensor, state: State) -> tuple[Tensor, State]:
        """The parameters [B, P] of one more step, and the state."""
        y_BH, state = self.recurrent.step(self.rows(inputs_BI), state)
        return self._head_of(self.dropout(y_BH), inputs_BI), state

    def _head_of(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        raw = self.head(outputs)
        if self.begun is None:
            return raw
        read, moved = self.begun
        begun = inputs[..., read : read + 1].to(raw.dtype)
        return raw + nn.functional.pad(begun, (moved, raw.shape[-1] - moved - 1))
