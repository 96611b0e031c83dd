"""Tokens in, a distribution over the next token out.

Shapes: B batch, T time, S input streams (the token and what the encoding tells beside it), V vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field as Bounds
from torch import Tensor, nn

from components.encodings.base import Field
from components.errors import UserError
from components.layers.base import State
from components.layers.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax
from components.models.backbone import Backbone


class SequenceModel(Backbone):
    """Backbone → logits.

    `tie_weights` uses the embedding as the output matrix (Press & Wolf 2017) and needs embedding_size = hidden_size.
    For vocabularies of many words `softmax` is learned in another way (components.layers.softmax): `adaptive`, with
    clusters that begin at the ids `cutoffs`, or `sampled`, with some `samples` words beside the target.
    """

    def __init__(
        self,
        vocabulary_size: int,
        context_sizes: Sequence[int] = (),
        /,
        *,
        tie_weights: bool = False,
        softmax: Literal["full", "adaptive", "sampled"] = "full",
        cutoffs: tuple[int, ...] | None = None,
        samples: Annotated[int, Bounds(gt=0, le=1 << 20)] = 8192,
        **options: Any,
    ) -> None:
        super().__init__([Field(size=size) for size in (vocabulary_size, *context_sizes)], **options)
        self.vocabulary_size, self.context_sizes = vocabulary_size, tuple(context_sizes)
        width = self.recurrent.output_size
        if tie_weights and (self.embedding is None or self.embedding.embedding_dim != width or not self.causal):
            raise UserError(
                "tie_weights uses the embedding as the output matrix",
                where="model.tie_weights",
                hint="set model.input: embedding and model.bidirectional: false, and leave model.embedding_size at "
                "model.hidden_size",
            )
        self.head: FullSoftmax | AdaptiveSoftmax
        if softmax == "adaptive":
            if tie_weights:
                raise UserError(
                    "an adaptive softmax has no one output matrix to tie", where="model.tie_weights", hint="set false"
                )
            self.head = AdaptiveSoftmax(width, vocabulary_size, cutoffs)
        elif softmax == "sampled":
            self.head = SampledSoftmax(width, vocabulary_size, samples)
        else:
            self.head = FullSoftmax(width, vocabulary_size)
        if tie_weights:
            # unit-variance rows, torch's default, would saturate the softmax
            nn.init.normal_(self.embedding.weight, std=self.embedding_scale * width**-0.5)
            self.head.weight = self.embedding.weight

    def forward(
        self, inputs_BTS: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits [B, T, V] of the token after each input, and the state to go on from."""
        y_BTH, state = self.outputs(inputs_BTS, state, lengths_B)
        return self.head(y_BTH), state

    def step(self, inputs_BS: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [B, V] after one more token."""
        y_BH, state = self.recurrent.step(self.rows(inputs_BS), state)
        return self.head(y_BH), state
