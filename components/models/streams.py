"""Models of several ids per step: a joint distribution over the ids of the next step.

Shapes: B batch, T time, S streams, C context features, H outputs of the recurrent stack, N = B·T steps, V ids of a
stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from components.encodings.base import Field
from components.encodings.vocabulary import PAD
from components.layers.base import State
from components.models.backbone import Backbone, Size


class StreamsModel(Backbone):
    """Backbone → P(step) = Π_s P(x_s | the streams before it in this step, the steps before).

    The chain rule is applied within the step, as in NADE: embeddings of the ids already drawn are added to the stack's
    output. Stream s has the logits W_s relu(U_s y + Σ_{r<s} E_{s,r}[x_r]). `head_size`: width of U and E.
    """

    def __init__(
        self,
        streams: Sequence[Field],
        context_sizes: Sequence[int] = (),
        /,
        *,
        head_size: Size = 128,
        **options: Any,
    ) -> None:
        super().__init__([*streams, *(Field(size=size) for size in context_sizes)], **options)
        self.sizes = [stream.size for stream in streams]
        width = self.recurrent.output_size
        self.hidden = nn.ModuleList(nn.Linear(width, head_size) for _ in self.sizes)
        self.drawn = nn.ModuleList(
            nn.ModuleList(nn.Embedding(size, head_size) for size in self.sizes[:s]) for s in range(len(self.sizes))
        )
        self.heads = nn.ModuleList(nn.Linear(head_size, size) for size in self.sizes)

    def token_rows(self) -> None:
        """None: several vocabularies share a table, so rows can't be matched to tokens."""
        return

    def forward(self, inputs_BTS: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The stack's outputs [B, T, H] after each step [B, T, S + C], the head's input; and the state."""
        return self.outputs(inputs_BTS, state)

    def step(self, inputs_BS: Tensor, state: State) -> tuple[Tensor, State]:
        """The stack's outputs [B, H] after one more step, and the state."""
        y_BH, state = self.recurrent.step(self.rows(inputs_BS), state)
        return self.dropout(y_BH), state

    def logits(self, y_NH: Tensor, drawn_NS: Tensor) -> Tensor:
        """Logits [N, V] of the stream after the first S ones, drawn [N, S]."""
        stream = drawn_NS.shape[-1]
        hidden = self.hidden[stream](y_NH)
        for before, table in enumerate(self.drawn[stream]):
            hidden = hidden + table(drawn_NS[..., before])
        return self.heads[stream](torch.relu(hidden))

    def nats(self, y_NH: Tensor, steps_NS: Tensor) -> Tensor:
        """−log P of each stream of the steps given the stack's outputs before them, [N, S]; 0 for PAD."""
        losses = [
            nn.functional.cross_entropy(
                self.logits(y_NH, steps_NS[:, :stream]).float(),
                steps_NS[:, stream],
                ignore_index=PAD,
                reduction="none",
            )
            for stream in range(len(self.sizes))
        ]
        return torch.stack(losses, dim=1)
