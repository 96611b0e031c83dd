"""The base class of the models: ids or frames in, a stack of recurrent layers.

Shapes: B batch, T time, S input streams (the token and context features), I features, H hidden.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field as Bounds
from torch import Tensor, nn

from components.datasets.vectors import read_vectors
from components.encodings.base import Field
from components.encodings.vocabulary import Vocabulary
from components.errors import UserError
from components.layers.base import Recurrent, State, widen_one_hot
from components.layers.bidirectional import Bidirectional
from components.layers.dropout import DropoutKind, make_dropout
from components.layers.stack import Stack
from components.options import UserPath
from components.registry import resolve

Size = Annotated[int, Bounds(gt=0, le=16384)]


class Backbone(nn.Module):
    """Inputs → stack of `num_layers` recurrent layers of one `kind`. Subclasses add the head.

    `input`: how ids are read: as the sum of learned vectors of each stream (embedding) or as the streams' one-hot
    vectors, stacked (one_hot, computed as row look-ups); ignored for frames. `embedding_size`: size of the learned
    vectors (default: the hidden size). `embedding_scale` multiplies the initial, random embeddings. `vectors`: a file
    of word vectors to initialise the tokens' embedding (components.datasets.vectors); read once, when training begins.
    `freeze_vectors`: don't train the embedding. `embedding_dropout`: share of the vocabulary whose vectors are set to 0
    in training, drawn once per window (Gal & Ghahramani 2016).

    `dropout` applies to embedded input, between layers and to the output, but not to frames. `dropout_kind`: a new mask
    at each step (plain), or one mask for all steps of a window (locked). `residual`: add a layer's input to its output,
    from the second layer on. `layer_norm`: normalise each layer's output, after the residual sum, before it is read.
    `learn_initial_state`: make the initial states parameters. `bidirectional`: each layer has two directions of
    `hidden_size`; the outputs then depend on the future, so such a model can't generate. `beside`: features that a
    subclass's `rows` appends to the embedded input.
    """

    def __init__(
        self,
        streams: Sequence[Field],
        beside: int = 0,
        /,
        *,
        kind: str = "lstm",
        num_layers: Annotated[int, Bounds(gt=0, le=64)] = 1,
        dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.0,
        dropout_kind: DropoutKind = "plain",
        residual: bool = False,
        layer_norm: bool = False,
        learn_initial_state: bool = False,
        bidirectional: bool = False,
        input: Literal["embedding", "one_hot"] = "embedding",
        embedding_size: Size | None = None,
        embedding_scale: Annotated[float, Bounds(gt=0, le=100)] = 1.0,
        vectors: Annotated[str | None, UserPath()] = None,
        freeze_vectors: bool = False,
        embedding_dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.0,
        **cell: Any,
    ) -> None:
        super().__init__()
        self.streams, self.embedding_scale, self.vectors = tuple(streams), embedding_scale, vectors
        self.embedding_dropout = embedding_dropout

        def make(size: int) -> Recurrent:
            return resolve("cell", kind)(size, **cell)

        sizes = [stream.size for stream in streams]
        self.frames = streams[0].frames
        self.embedding = None
        self.context_embeddings = nn.ModuleList()
        first = streams[0].width if self.frames else sum(sizes)
        if not self.frames and input == "embedding":
            first = embedding_size or cell["hidden_size"]
            self.embedding = nn.Embedding(sizes[0], first)
            self.context_embeddings.extend(nn.Embedding(size, first) for size in sizes[1:])
            with torch.no_grad():
                for table in (self.embedding, *self.context_embeddings):
                    table.weight.mul_(embedding_scale)
            self.embedding.weight.requires_grad_(not freeze_vectors)
        if self.embedding is None and vectors:
            raise UserError(
                "needs a model with an embedding", where="model.vectors", hint="only words can have vectors"
            )
        if freeze_vectors and not vectors:
            raise UserError("needs model.vectors", where="model.freeze_vectors", hint="set model.vectors")
        if embedding_dropout and self.embedding is None:
            what = "needs a model with an embedding"
            raise UserError(what, where="model.embedding_dropout", hint="set it to 0")
        first += beside
        # each stream's offset in the stacked one-hot vector
        starts = [0, *itertools.accumulate(sizes)][:-1]
        self.register_buffer("starts_S", torch.tensor(starts), persistent=False)
        self.dropout = make_dropout(dropout_kind, dropout)
        self.recurrent: Recurrent = Stack.of(
            (lambda size: Bidirectional(make(size), make(size))) if bidirectional else make,
            first,
            num_layers,
            dropout=dropout,
            dropout_kind=dropout_kind,
            residual=residual,
            layer_norm=layer_norm,
            learn_initial_state=learn_initial_state,
        )
        if not self.frames and self.embedding is None:
            widen_one_hot(self.recurrent.layers[0])

    @staticmethod
    def is_causal(options: Mapping[str, Any]) -> bool:
        """Whether a model with these options ignores the future, so that it can generate. Doesn't build it."""
        return resolve("cell", options["kind"]).causal and not options.get("bidirectional", False)

    @property
    def causal(self) -> bool:
        return self.recurrent.causal

    def take_vectors(self, vocabulary: Vocabulary) -> dict[str, float]:
        """Initialise the tokens' embedding from the file `vectors`, if set. Returns the share of the vocabulary's
        tokens that have a vector, as a metric.

        Raises:
            UserError: the file can't be read, its vectors have another size, or it has none of the tokens.
        """
        if not self.vectors:
            return {}
        ids, rows = read_vectors(Path(self.vectors), vocabulary, self.embedding.embedding_dim)
        with torch.no_grad():
            weight = self.embedding.weight
            weight[torch.from_numpy(ids).to(weight.device)] = torch.from_numpy(rows).to(weight)
        return {"train/tokens_with_vectors": len(ids) / len(vocabulary)}

    def token_rows(self) -> dict[str, tuple[int, str]] | None:
        """Parameters with a row for each token: name → (axis, "input" or "target": which tokens). None if tokens can't
        be matched to rows."""
        rows = {"head.weight": (0, "target"), "head.bias": (0, "target")}
        found = rows if isinstance(getattr(self, "head", None), nn.Linear) else {}
        if self.embedding is not None:
            return {**found, "embedding.weight": (0, "input")}
        if self.frames:
            return found
        first = self.recurrent.layers[0].named_parameters()
        return {**found, **{f"recurrent.layers.0.{n}": (1, "input") for n, _ in first if n.endswith("weight_ih")}}

    def initial_state(self, batch_size: int) -> State:
        """The state before the first step."""
        return self.recurrent.initial_state(batch_size)

    def outputs(
        self, inputs: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """The last layer's outputs [B, T, H] after dropout, for ids [B, T, S] or frames [B, T, I]; and the state."""
        y_BTH, state = self.recurrent(self.rows(inputs), state, lengths_B)
        return self.dropout(y_BTH), state

    def rows(self, inputs: Tensor) -> Tensor:
        """The first layer's input: vectors [..., I], or row indices [..., S] of stacked one-hot vectors. Floats are
        returned unchanged."""
        if self.frames or inputs.is_floating_point():
            return inputs
        if self.embedding is None:
            return inputs + self.starts_S
        embedded = self.embedded(inputs[..., 0])
        for stream, table in enumerate(self.context_embeddings, 1):
            embedded = embedded + table(inputs[..., stream])
        return self.dropout(embedded)

    def embedded(self, ids: Tensor) -> Tensor:
        """The embeddings [..., E] of ids [...], after `embedding_dropout`."""
        vectors = self.embedding(ids)
        if not self.training or not self.embedding_dropout:
            return vectors
        kept_V = nn.functional.dropout(vectors.new_ones(len(self.embedding.weight)), self.embedding_dropout)
        return vectors * kept_V[ids].unsqueeze(-1)
