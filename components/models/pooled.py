"""A sequence in, one vector out (many-to-one).

Shapes: B batch, T time, S ids per step, H outputs of a layer, O outputs of the model.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from components.encodings.base import Field
from components.errors import UserError
from components.models.backbone import Backbone


class Pooled(Backbone):
    """Backbone → one vector for the whole sequence → linear head. Several ids per step (a word and its stem) are
    embedded with one table and summed.

    `pooling`: the output at each row's last step (`last`; for a bidirectional stack, with the backward output at the
    first step), the `mean` or `max` over its steps, or `attention`: a weighted mean with weights from a softmax of
    vᵀ tanh(W y⟨t⟩) (Yang et al. 2016).
    """

    def __init__(
        self,
        stream: Field,
        output_size: int,
        /,
        *,
        pooling: Literal["last", "mean", "max", "attention"] = "last",
        **options: Any,
    ) -> None:
        several = bool(stream.size and stream.width)
        if several and options.get("input") == "one_hot":
            raise UserError(
                "several ids per step need an embedding", where="model.input", hint="set model.input: embedding"
            )
        super().__init__([stream], **options)
        self.several, self.pooling = several, pooling
        size = self.recurrent.output_size
        self.score = (
            nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1)) if pooling == "attention" else None
        )
        self.head = nn.Linear(size, output_size)

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> Tensor:
        """Outputs [B, O] for ids [B, T, S] or frames [B, T, I]; `lengths_B` are at least 1."""
        y_BTH, _ = self.outputs(inputs, None, lengths_B)
        return self.head(self.pool(y_BTH, lengths_B))

    def rows(self, inputs: Tensor) -> Tensor:
        if not self.several or inputs.is_floating_point():
            return super().rows(inputs)
        return self.dropout(self.embedded(inputs).sum(dim=-2))

    def pool(self, y_BTH: Tensor, lengths_B: Tensor) -> Tensor:
        """One vector [B, H] from each row's steps."""
        alive_BT1 = (torch.arange(y_BTH.shape[1], device=y_BTH.device) < lengths_B[:, None]).unsqueeze(2)
        if self.pooling == "last":
            last_BH = y_BTH[torch.arange(len(y_BTH), device=y_BTH.device), (lengths_B - 1).clamp(min=0)]
            if self.causal:
                return last_BH
            half = y_BTH.shape[2] // 2  # the backward direction ends at the first step
            return torch.cat([last_BH[:, :half], y_BTH[:, 0, half:]], dim=1)
        if self.pooling == "max":
            return y_BTH.masked_fill(~alive_BT1, -torch.inf).amax(dim=1)
        if self.score is None:
            return (y_BTH * alive_BT1).sum(dim=1) / lengths_B.clamp(min=1).unsqueeze(1)
        weights_BT1 = self.score(y_BTH).masked_fill(~alive_BT1, -torch.inf).softmax(dim=1)
        return (weights_BT1 * y_BTH).sum(dim=1)
