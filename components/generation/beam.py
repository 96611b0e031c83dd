"""Beam search: the likeliest sequences that a model can write, as far as a beam of them sees.

Shapes: B examples, K hypotheses side by side for each, N = B·K rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from components.encodings.vocabulary import BOS, EOS, PAD, UNK
from components.layers.base import State

Step = Callable[[Tensor, State], tuple[Tensor, State]]
LengthPenalty = Literal["wu", "average", "none"]


@dataclass(frozen=True)
class Hypothesis:
    """A sequence without BOS and EOS, its log-probability in nats (EOS included), and by what it was ranked."""

    ids: np.ndarray
    log_probability: float
    score: float


def penalised(log_probability: float, length: int, penalty: LengthPenalty, alpha: float) -> float:
    """The score of a sequence of `length` tokens, EOS included.

    `none`: its log-probability, which favours short ones; `average`: that per token; `wu`: that divided by
    ((5 + length) / 6)^alpha (Wu et al. 2016, equation 14).
    """
    if penalty == "wu":
        return log_probability / ((5 + length) / 6) ** alpha
    return log_probability / length if penalty == "average" else log_probability


@torch.inference_mode()
def beam_search(
    step: Step,
    state: State,
    max_lengths_B: Sequence[int],
    /,
    *,
    beam_size: int = 5,
    length_penalty: LengthPenalty = "wu",
    alpha: float = 0.6,
    forbidden: Sequence[int] = (PAD, UNK, BOS),
) -> list[list[Hypothesis]]:
    """For each example up to `beam_size` finished sequences, the best first.

    `step(tokens_N, state)` gives logits [N, V] and the next state; `state` is a flat dict of batch-first tensors, as it
    is before BOS. A sequence that ends leaves the beam, which is narrower by one from then on (Sutskever et al. 2014):
    with `beam_size` 1 this is greedy decoding, and a beam as wide as the space finds the best sequence there is. After
    `max_lengths_B` tokens only EOS may follow, so every sequence ends and its probability is the model's own.
    """
    B, K = len(max_lengths_B), beam_size
    device = next(iter(state.values())).device
    found: list[list[Hypothesis]] = [[] for _ in range(B)]
    limits = torch.tensor(list(max_lengths_B), device=device)
    rows = torch.arange(B, device=device)  # the examples still searched
    state = {name: value.repeat_interleave(K, dim=0) for name, value in state.items()}
    tokens_N = torch.full((B * K,), BOS, device=device)
    # log-probabilities; −∞ where a place of the beam is empty, as all but one are at first
    total_BK = torch.full((B, K), -torch.inf, dtype=torch.float64, device=device)
    total_BK[:, 0] = 0.0
    places_B = torch.full((B,), K, device=device)
    written_BKU = torch.zeros((B, K, 0), dtype=torch.int64, device=device)
    length = 0  # written so far
    while len(rows):
        logits_NV, state = step(tokens_N, state)
        V = logits_NV.shape[1]
        logp_BKV = torch.log_softmax(logits_NV.double(), dim=1).view(len(rows), K, V)
        for one in forbidden:
            logp_BKV[:, :, one] = -torch.inf
        others_V = torch.arange(V, device=device) != EOS
        logp_BKV.masked_fill_((length >= limits[rows])[:, None, None] & others_V, -torch.inf)
        total_BK, best_BK = (total_BK[:, :, None] + logp_BKV).flatten(1).topk(K, dim=1)
        parent_BK, token_BK = best_BK // V, best_BK % V
        total_BK = total_BK.masked_fill(torch.arange(K, device=device) >= places_B[:, None], -torch.inf)
        written_BKU = written_BKU.gather(1, parent_BK[:, :, None].expand(-1, -1, length))
        ended_BK = (token_BK == EOS) & (total_BK > -torch.inf)
        for b, k in ended_BK.nonzero().tolist():
            nats = float(total_BK[b, k])
            score = penalised(nats, length + 1, length_penalty, alpha)
            found[int(rows[b])].append(Hypothesis(written_BKU[b, k].cpu().numpy(), nats, score))
        total_BK = total_BK.masked_fill(ended_BK, -torch.inf)
        places_B = places_B - ended_BK.sum(dim=1)
        alive_B = (total_BK > -torch.inf).any(dim=1)
        origin_BK = torch.arange(len(rows), device=device)[:, None] * K + parent_BK
        state = {name: value.index_select(0, origin_BK[alive_B].flatten()) for name, value in state.items()}
        rows, total_BK, places_B, token_BK = rows[alive_B], total_BK[alive_B], places_B[alive_B], token_BK[alive_B]
        written_BKU = torch.cat([written_BKU[alive_B], token_BK[:, :, None]], dim=2)
        tokens_N, length = token_BK.flatten(), length + 1
    return [sorted(hypotheses, key=lambda one: -one.score) for hypotheses in found]
