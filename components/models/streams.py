"""Models of several ids per step: a joint distribution over the ids of the next step.

Shapes: B batch, T time, S streams, C context features, H outputs of the recurrent stack, N = B·T steps, V ids of a
stream, L copy candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from components.encodings.base import Field
from components.encodings.vocabulary import PAD
from components.errors import UserError
from components.layers.base import State
from components.layers.copying import CopySoftmax
from components.models.backbone import Backbone, Size


class StreamsModel(Backbone):
    """Backbone → P(step) = Π_s P(x_s | the streams before it in this step, the steps before).

    The chain rule is applied within the step, as in NADE: embeddings of the ids already drawn are added to the stack's
    output. Stream s has the logits W_s relu(U_s y + Σ_{r<s} E_{s,r}[x_r]). `head_size`: width of U and E.

    `copy`: let the model copy earlier steps (components.layers.copying), for encodings that provide candidates
    (`Encoding.copies`). A candidate is a whole step; each stream is a mixture with its own gates, which also depend on
    whether the streams drawn before it are the candidate's. The model reads the candidates too: the last (S + 1) ·
    `places` context features are the candidates, stream after stream, and their matches.
    """

    def __init__(
        self,
        streams: Sequence[Field],
        context_sizes: Sequence[int] = (),
        places: int = 0,
        /,
        *,
        copy: bool = False,
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
        if copy and not places:
            raise UserError("the encoding doesn't support copying", where="model.copy", hint="set model.copy: false")
        self.places = places if copy else 0
        self.matches = context_sizes[-1] if copy else 0
        self.heads = nn.ModuleList(
            CopySoftmax(head_size, size, places, 2 * self.matches) if copy else nn.Linear(head_size, size)
            for size in self.sizes
        )

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

    def beside(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The heads' further inputs, from the inputs [..., S + C]: for a model that copies, the candidates [..., S, L]
        and their matches [..., L]."""
        if not self.places:
            return ()
        steps = inputs[..., -(len(self.sizes) + 1) * self.places : -self.places]
        return steps.unflatten(-1, (len(self.sizes), self.places)), inputs[..., -self.places :]

    def logits(self, y_NH: Tensor, drawn_NS: Tensor, *beside: Tensor, **temperatures: float) -> Tensor:
        """Logits [N, V] of the stream after the first S ones, drawn [N, S]. `beside`: as in the method; `temperatures`,
        of a model that copies: those of `CopySoftmax`."""
        return self.heads[drawn_NS.shape[-1]](*self._read(y_NH, drawn_NS, *beside), **temperatures)

    def nats(self, y_NH: Tensor, steps_NS: Tensor, *beside: Tensor) -> Tensor:
        """−log P of each stream of the steps given the stack's outputs before them, [N, S]; 0 for PAD."""
        losses = []
        for stream, head in enumerate(self.heads):
            read, targets_N = self._read(y_NH, steps_NS[:, :stream], *beside), steps_NS[:, stream]
            if beside:
                losses.append(head.nats(*read, targets_N).masked_fill(targets_N == PAD, 0.0))
            else:
                logits_NV = head(*read).float()
                losses.append(nn.functional.cross_entropy(logits_NV, targets_N, ignore_index=PAD, reduction="none"))
        return torch.stack(losses, dim=1)

    def _read(self, y_NH: Tensor, drawn_NS: Tensor, *beside: Tensor) -> tuple[Tensor, ...]:
        """The inputs of the head of the stream after the first S ones, drawn [N, S]: features, and for a model that
        copies this stream's candidates and the classes of their matches, [N, L] each."""
        stream = drawn_NS.shape[-1]
        hidden = self.hidden[stream](y_NH)
        for before, table in enumerate(self.drawn[stream]):
            hidden = hidden + table(drawn_NS[..., before])
        if not beside:
            return (torch.relu(hidden),)
        steps_NSL, matches_NL = beside
        same_NL = (steps_NSL[..., :stream, :] == drawn_NS[..., None]).all(dim=-2)
        return torch.relu(hidden), steps_NSL[..., stream, :], 2 * matches_NL + same_NL
