"""Attention: a weighted mean of the encoder's outputs, with weights that depend on the decoder's queries.

Shapes: B batch, U queries, T steps of the memory, Q query features, M memory features, A features compared.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """The context of each query and its attention weights.

    `additive`: the score of a step is vᵀ tanh(W q + U m) (Bahdanau et al. 2015). `dot`: qᵀ W m, what Luong et al. 2015
    call "general": query and memory may differ in size. The part that depends on the memory only is computed by `keys`.
    """

    def __init__(self, query_size: int, memory_size: int, /, *, kind: Literal["additive", "dot"] = "dot") -> None:
        super().__init__()
        self.key = nn.Linear(memory_size, query_size, bias=kind == "additive")
        self.query = nn.Linear(query_size, query_size, bias=False) if kind == "additive" else None
        self.score = nn.Linear(query_size, 1, bias=False) if kind == "additive" else None

    def keys(self, memory_BTM: Tensor) -> Tensor:
        """The projected memory to which queries are compared, [B, T, A]."""
        return self.key(memory_BTM)

    def forward(
        self, query_BUQ: Tensor, memory_BTM: Tensor, keys_BTA: Tensor, absent_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Contexts [B, U, M] and weights [B, U, T]; a step that is `absent` has the weight 0."""
        scores_BUT = self._scores(query_BUQ, keys_BTA)
        # not −∞, which would give NaN in rows without steps; their memory is zero
        lowest = torch.finfo(scores_BUT.dtype).min
        weights_BUT = scores_BUT.masked_fill(absent_BT.unsqueeze(1), lowest).softmax(dim=2)
        return weights_BUT @ memory_BTM, weights_BUT

    def _scores(self, query_BUQ: Tensor, keys_BTA: Tensor) -> Tensor:
        if self.query is None or self.score is None:
            return query_BUQ @ keys_BTA.transpose(1, 2)
        return self.score(torch.tanh(self.query(query_BUQ).unsqueeze(2) + keys_BTA.unsqueeze(1))).squeeze(3)
