"""Sequence to sequence: an input sequence, an output sequence of another length (many-to-many, unequal).

Shapes: B batch, T input steps, U target steps, E embedding, H decoder outputs, M encoder outputs, A features of the
head's input, V target vocabulary.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from components.encodings.base import Field
from components.errors import UserError
from components.layers.attention import Attention
from components.layers.base import State, part_of
from components.layers.dropout import make_dropout
from components.models.backbone import Backbone
from components.options import options_of

BOTH = ("kind", "num_layers", "dropout", "dropout_kind", "residual", "layer_norm")  # shared with the encoder


class EncoderDecoder(nn.Module):
    """One Backbone encodes the input; another, of the same cells, generates the target, a token at a time.

    The decoder's initial state is tanh(W s), where s are the encoder's last states of the same layer (of both
    directions, if there are two: Bahdanau et al. 2015). `attention`: scores (dot or additive) with which the decoder
    attends to all encoder outputs at each step, or none: it has the last states only (Sutskever et al. 2014). The head
    reads tanh(W [context, output]) (Luong et al. 2015). Attention is applied to the decoder's outputs, so with teacher
    forcing all steps run at once; `input_feeding` adds the head's input to the next step's input, which makes steps
    sequential. `tie_weights`: use the target's embedding as the output matrix (Press & Wolf 2017). `input`,
    `embedding_scale`, `embedding_dropout`, `bidirectional` and `learn_initial_state` apply to the encoder.

    A state is a flat dict of batch-first tensors with all that `step` needs: `memory`, `keys` and `absent` for the
    encoder's outputs, `decoder.…`, and with input feeding `fed`.
    """

    def __init__(
        self,
        stream: Field,
        vocabulary_size: int,
        /,
        *,
        attention: Literal["dot", "additive", "none"] = "dot",
        input_feeding: bool = False,
        tie_weights: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.input_feeding = input_feeding
        E = options.get("embedding_size") or options["hidden_size"]
        if tie_weights and attention == "none" and options["hidden_size"] != E:
            hint = "set model.embedding_size to model.hidden_size"
            raise UserError("needs outputs of the embedding's size", where="model.tie_weights", hint=hint)
        A = E if tie_weights else options["hidden_size"]
        own = {name: value for name, value in options.items() if name in BOTH or name not in options_of(Backbone)}
        self.encoder = Backbone([stream], **options)
        self.encoder.recurrent.causal = False  # the whole input precedes the output, so the model is causal
        self.embedding = nn.Embedding(vocabulary_size, E)
        self.decoder = Backbone([Field(width=E + A * input_feeding)], **own)
        self.dropout = make_dropout(options.get("dropout_kind", "plain"), options.get("dropout", 0.0))
        before, after = self.encoder.initial_state(1), self.decoder.initial_state(1)
        self.sources = {name: [one for one in before if _same(one, name)] for name in after}
        self.bridge = nn.ModuleList(
            nn.Linear(sum(before[one].shape[1] for one in self.sources[name]), value.shape[1])
            for name, value in after.items()
        )
        self.attention = self.combine = None
        if attention != "none":
            H, M = self.decoder.recurrent.output_size, self.encoder.recurrent.output_size
            self.attention = Attention(H, M, kind=attention)
            self.combine = nn.Linear(H + M, A, bias=False)
        self.head = nn.Linear(A, vocabulary_size)
        if tie_weights:
            # unit-variance rows, torch's default, would saturate the softmax
            nn.init.normal_(self.embedding.weight, std=E**-0.5)
            self.head.weight = self.embedding.weight

    def token_rows(self) -> dict[str, tuple[int, str]]:
        """See `Backbone.token_rows`."""
        rows = {f"encoder.{name}": place for name, place in (self.encoder.token_rows() or {}).items()}
        return rows | dict.fromkeys(("embedding.weight", "head.weight", "head.bias"), (0, "target"))

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> State:
        """The decoder's initial state, for ids [B, T, 1] or frames [B, T, I]."""
        memory_BTM, last = self.encoder.outputs(inputs, None, lengths_B)
        state = {
            f"decoder.{name}": torch.tanh(layer(torch.cat([last[one] for one in sources], dim=1)))
            for (name, sources), layer in zip(self.sources.items(), self.bridge, strict=True)
        }
        if self.attention is not None:
            steps_T = torch.arange(inputs.shape[1], device=inputs.device)
            absent_BT = steps_T >= lengths_B[:, None]
            state |= {"memory": memory_BTM, "keys": self.attention.keys(memory_BTM), "absent": absent_BT}
        if self.input_feeding:
            state["fed"] = memory_BTM.new_zeros(len(memory_BTM), self.head.in_features)
        return state

    def forced(self, state: State, tokens_BU: Tensor, *, own: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """The head's input at each step [B, U, A] and the attention weights [B, U, T], with the target's tokens as
        inputs, BOS first (teacher forcing).

        `own`: share of the tokens replaced by the most likely token of the step before (scheduled sampling, Bengio et
        al. 2015). This and input feeding run step by step, with a new recurrent dropout mask at each step.
        """
        x_BUE = self.dropout(self.embedding(tokens_BU))
        if not self.input_feeding and not own:
            y_BUH, _ = self.decoder.outputs(x_BUE, part_of(state, "decoder"))
            return self._look(y_BUH, state)
        ys, looks = [], []
        for u, x_BE in enumerate(x_BUE.unbind(1)):
            if own and u:
                said_B = self.head(ys[-1]).detach().argmax(dim=1)
                instead_B1 = torch.rand(len(x_BE), 1, device=x_BE.device) < own
                x_BE = torch.where(instead_B1, self.dropout(self.embedding(said_B)), x_BE)
            y_BA, weights_BT, state = self._advance(x_BE, state)
            ys.append(y_BA)
            looks.append(weights_BT)
        return torch.stack(ys, dim=1), torch.stack(looks, dim=1) if self.attention is not None else None

    def step(self, tokens_B: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [B, V] after one more token of the target."""
        y_BA, _, state = self._advance(self.dropout(self.embedding(tokens_B)), state)
        return self.head(y_BA), state

    def _advance(self, x_BE: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        x = torch.cat([x_BE, state["fed"]], dim=1) if self.input_feeding else x_BE
        y_BH, after = self.decoder.recurrent.step(x, part_of(state, "decoder"))
        y_B1A, weights_B1T = self._look(self.decoder.dropout(y_BH).unsqueeze(1), state)
        y_BA = y_B1A.squeeze(1)
        state = state | {f"decoder.{name}": value for name, value in after.items()}
        if self.input_feeding:
            state["fed"] = y_BA
        return y_BA, None if weights_B1T is None else weights_B1T.squeeze(1), state

    def _look(self, y_BUH: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        """The head's input for the decoder's outputs, and the attention weights."""
        if self.attention is None or self.combine is None:
            return y_BUH, None
        context_BUM, weights_BUT = self.attention(y_BUH, state["memory"], state["keys"], state["absent"])
        return self.dropout(torch.tanh(self.combine(torch.cat([context_BUM, y_BUH], dim=2)))), weights_BUT


def _same(one: str, other: str) -> bool:
    """Whether two states have the same layer and kind, as "0.forward.h" and "0.h"."""
    a, b = one.split("."), other.split(".")
    return (a[0], a[-1]) == (b[0], b[-1])
