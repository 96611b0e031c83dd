"""Tokens in, a distribution over the next token out.

Shapes: B batch, T time, S input streams (the token and what the encoding tells beside it), V vocabulary, H hidden.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from components.errors import UserError
from components.layers.base import Recurrent, State
from components.layers.stack import Stack
from components.registry import resolve


class SequenceModel(nn.Module):
    """Input rows → stack of recurrent layers → logits.

    With `input: embedding` each stream has learned vectors, which are added up. With `input: one_hot` the first layer
    reads the streams' one-hot vectors, stacked; the product is a row look-up, so no one-hot vector is ever made.
    `tie_weights` uses the embedding as the output matrix (Press & Wolf 2017) and needs embedding_size = hidden_size.
    """

    def __init__(
        self,
        vocabulary_size: int,
        context_sizes: Sequence[int] = (),
        /,
        *,
        kind: str = "lstm",
        num_layers: Annotated[int, Field(gt=0, le=64)] = 1,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        input: Literal["embedding", "one_hot"] = "embedding",
        embedding_size: Annotated[int, Field(gt=0, le=16384)] | None = None,
        tie_weights: bool = False,
        **cell: Any,
    ) -> None:
        super().__init__()
        self.vocabulary_size, self.context_sizes = vocabulary_size, tuple(context_sizes)
        make = resolve("cell", kind)
        width = embedding_size or cell["hidden_size"]
        if tie_weights and (input != "embedding" or width != cell["hidden_size"]):
            raise UserError(
                "tie_weights uses the embedding as the output matrix",
                where="model.tie_weights",
                hint="set model.input: embedding and leave model.embedding_size at model.hidden_size",
            )
        self.embedding = None
        self.context_embeddings = nn.ModuleList()
        first = vocabulary_size + sum(context_sizes)
        if input == "embedding":
            first = width
            self.embedding = nn.Embedding(vocabulary_size, width)
            self.context_embeddings.extend(nn.Embedding(size, width) for size in context_sizes)
        # where each stream's rows begin in the stacked one-hot vector
        starts = [0, *itertools.accumulate([vocabulary_size, *context_sizes])][:-1]
        self.register_buffer("starts_S", torch.tensor(starts), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.recurrent: Recurrent = Stack.of(lambda size: make(size, **cell), first, num_layers, dropout=dropout)
        if self.embedding is None:
            # only S of a one-hot input's entries are 1: a fan-in of S, not of the vocabulary's size
            nn.init.uniform_(self.recurrent.layers[0].weight_ih, -1.0, 1.0)
        self.head = nn.Linear(self.recurrent.output_size, vocabulary_size)
        if tie_weights:
            # unit-variance rows, torch's default, would saturate the softmax
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
            self.head.weight = self.embedding.weight

    def initial_state(self, batch_size: int) -> State:
        """The state before the first token."""
        return self.recurrent.initial_state(batch_size)

    def forward(
        self, inputs_BTS: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits [B, T, V] of the token after each input, and the state to go on from."""
        y_BTH, state = self.recurrent(self._rows(inputs_BTS), state, lengths_B)
        return self.head(self.dropout(y_BTH)), state

    def step(self, inputs_BS: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [B, V] after one more token."""
        y_BH, state = self.recurrent.step(self._rows(inputs_BS), state)
        return self.head(y_BH), state

    def _rows(self, inputs_S: Tensor) -> Tensor:
        """The first layer's input: embedded tokens [..., I], or row indices [..., S] of stacked one-hot vectors."""
        if self.embedding is None:
            return inputs_S + self.starts_S
        embedded = self.embedding(inputs_S[..., 0])
        for stream, table in enumerate(self.context_embeddings, 1):
            embedded = embedded + table(inputs_S[..., stream])
        return self.dropout(embedded)
