"""Language models: a distribution over the next token.

Shapes: B batch, T time, S input streams (the token and context features), V vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field as Bounds
from torch import Tensor, nn

from components.encodings.base import Field
from components.errors import UserError
from components.layers.base import State
from components.layers.copying import CopySoftmax
from components.layers.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax
from components.models.backbone import Backbone


class SequenceModel(Backbone):
    """Backbone → logits.

    `tie_weights`: use the embedding as the output matrix (Press & Wolf 2017); needs embedding_size = hidden_size.
    `softmax`: for large vocabularies, another loss (components.layers.softmax): adaptive, with rare words in clusters,
    or sampled, on a sample of the words. `cutoffs`: ids at which the clusters of adaptive begin. `samples`: approximate
    number of words that sampled draws besides the target.

    `copy`: let the model copy earlier tokens (components.layers.copying), for encodings that provide candidates
    (`Encoding.copies`). The model reads the candidates too. The last 2 · `places` streams then are the candidates and
    their matches.
    """

    def __init__(
        self,
        vocabulary_size: int,
        context_sizes: Sequence[int] = (),
        places: int = 0,
        /,
        *,
        copy: bool = False,
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
                "needs an embedding of the output's size, in a model of one direction",
                where="model.tie_weights",
                hint="set model.input: embedding and model.bidirectional: false, and leave model.embedding_size at "
                "model.hidden_size",
            )
        self.places = places if copy else 0
        self.head: FullSoftmax | AdaptiveSoftmax | CopySoftmax
        if copy and (not places or softmax != "full"):
            unable = "the encoding" if not places else f"softmax {softmax}"
            what = f"{unable} doesn't support copying"
            raise UserError(what, where="model.copy", hint="set model.copy: false")
        if copy:
            self.head = CopySoftmax(width, vocabulary_size, places, self.context_sizes[-1])
        elif softmax == "adaptive":
            if tie_weights:
                raise UserError(
                    "can't be used with an adaptive softmax", where="model.tie_weights", hint="set it to false"
                )
            self.head = AdaptiveSoftmax(width, vocabulary_size, cutoffs)
        elif softmax == "sampled":
            self.head = SampledSoftmax(width, vocabulary_size, samples)
        else:
            self.head = FullSoftmax(width, vocabulary_size)
        if tie_weights:
            # unit-variance rows, torch's default, would saturate the softmax
            nn.init.normal_(self.embedding.weight, std=self.embedding_scale * width**-0.5)
            words = self.head.words if isinstance(self.head, CopySoftmax) else self.head
            words.weight = self.embedding.weight

    def forward(
        self, inputs_BTS: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits [B, T, V] of the token after each input, and the next state."""
        y_BTH, state = self.outputs(inputs_BTS, state, lengths_B)
        return self.head(y_BTH, *self.beside(inputs_BTS)), state

    def step(self, inputs_BS: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [B, V] after one more token."""
        y_BH, state = self.recurrent.step(self.rows(inputs_BS), state)
        return self.head(y_BH, *self.beside(inputs_BS)), state

    def token_rows(self) -> dict[str, tuple[int, str]] | None:
        rows = super().token_rows()
        if not self.places or rows is None:
            return rows
        if self.embedding is None:
            return None  # the candidates' columns follow the tokens', but a parameter can have one axis of rows only
        first = len(self.context_sizes) - 2 * self.places
        candidates = {f"context_embeddings.{first + n}.weight": (0, "input") for n in range(self.places)}
        return rows | candidates | {f"head.words.{name}": (0, "target") for name in ("weight", "bias")}

    def beside(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The head's further inputs: for a model that copies, the candidates and their matches, [..., L] each, from the
        inputs [..., S]."""
        if not self.places:
            return ()
        return inputs[..., -2 * self.places : -self.places], inputs[..., -self.places :]
