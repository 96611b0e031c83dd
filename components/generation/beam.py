"""Beam search for the likeliest sequences of a model.

Shapes: B examples, K hypotheses for each, N = B·K rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from components.encodings.vocabulary import BOS, EOS, PAD, UNK
from components.layers.base import State, moved

Step = Callable[[Tensor, State], tuple[Tensor, State]]
EVERY = 16  # tokens between two checks for ended hypotheses, each of which synchronises with a GPU
LengthPenalty = Literal["wu", "average", "none"]


@dataclass(frozen=True)
class Hypothesis:
    """A sequence without BOS and EOS, its log-probability in nats (EOS included), and the score for ranking."""

    ids: np.ndarray
    log_probability: float
    score: float


def penalised(log_probability: float, length: int, penalty: LengthPenalty, alpha: float) -> float:
    """The score of a sequence of `length` tokens, EOS included.

    `none`: the log-probability, which favours short sequences; `average`: per token; `wu`: divided by
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
    """Up to `beam_size` finished sequences for each example, best first.

    `step(tokens_N, state)` returns logits [N, V] and the next state; `state` is a flat dict of batch-first tensors,
    before BOS. A finished sequence leaves the beam and makes it narrower by one (Sutskever et al. 2014): `beam_size` 1
    is greedy decoding, and a beam that holds all sequences finds the best one. After `max_lengths_B` tokens only EOS is
    allowed, so that every sequence ends; the log-probabilities are the model's, without this restriction.
    """
    B, K = len(max_lengths_B), beam_size
    device = next(iter(state.values())).device
    every = 1 if device.type == "cpu" else EVERY
    longest = max(max_lengths_B, default=-1)
    found: list[list[Hypothesis]] = [[] for _ in range(B)]
    rows = np.arange(B)  # the unfinished examples
    limits_B = moved(torch.tensor(list(max_lengths_B), dtype=torch.int64), device)
    state = {name: value.repeat_interleave(K, dim=0) for name, value in state.items()}
    tokens_N = torch.full((B * K,), BOS, device=device)
    # log-probabilities; −∞ for an empty place of the beam, as all but one are at first
    total_BK = torch.full((B, K), -torch.inf, dtype=torch.float64, device=device)
    total_BK[:, 0] = 0.0
    places_B = torch.full((B,), K, device=device)
    places_K = torch.arange(K, device=device)
    written: list[np.ndarray] = []  # for each length [2, B, K]: the tokens, and the places of their parents
    unseen: list[Tensor] = []
    for length in range(longest + 1):  # tokens so far
        logits_NV, state = step(tokens_N, state)
        V = logits_NV.shape[1]
        logp_BKV = torch.log_softmax(logits_NV.double(), dim=1).view(len(rows), K, V)
        for one in forbidden:
            logp_BKV[:, :, one] = -torch.inf
        others_V = torch.arange(V, device=device) != EOS
        logp_BKV.masked_fill_((length >= limits_B)[:, None, None] & others_V, -torch.inf)
        total_BK, best_BK = (total_BK[:, :, None] + logp_BKV).flatten(1).topk(K, dim=1)
        parent_BK, token_BK = best_BK // V, best_BK % V
        total_BK = total_BK.masked_fill(places_K >= places_B[:, None], -torch.inf)
        ended_BK = (token_BK == EOS) & (total_BK > -torch.inf)
        unseen.append(torch.stack([token_BK, parent_BK, ended_BK.long(), total_BK.view(torch.int64)]))
        total_BK = total_BK.masked_fill(ended_BK, -torch.inf)
        places_B = places_B - ended_BK.sum(dim=1)
        origin_BK = torch.arange(len(rows), device=device)[:, None] * K + parent_BK
        if len(unseen) == every or length == longest:
            for seen in torch.stack(unseen).cpu().numpy():
                written.append(np.zeros((2, B, K), dtype=np.int64))
                written[-1][:, rows] = seen[:2]
                ended, totals = seen[2].astype(bool), seen[3].view(np.float64)
                for b, k in np.argwhere(ended).tolist():
                    nats, ids = float(totals[b, k]), traced(written, rows[b], k)
                    score = penalised(nats, len(ids) + 1, length_penalty, alpha)
                    found[rows[b]].append(Hypothesis(ids, nats, score))
            unseen.clear()
            alive_B = (np.where(ended, -np.inf, totals) > -np.inf).any(axis=1)
            if not alive_B.any():
                break
            if not alive_B.all():
                rows, kept = rows[alive_B], moved(torch.from_numpy(np.flatnonzero(alive_B)), device)
                total_BK, places_B, limits_B = total_BK[kept], places_B[kept], limits_B[kept]
                token_BK, origin_BK = token_BK[kept], origin_BK[kept]
        state = {name: value.index_select(0, origin_BK.flatten()) for name, value in state.items()}
        tokens_N = token_BK.flatten()
    return [sorted(hypotheses, key=lambda one: -one.score) for hypotheses in found]


def traced(written: Sequence[np.ndarray], row: int, place: int) -> np.ndarray:
    """The tokens of the hypothesis at a place of the beam, without the last one (EOS): int64 [U]."""
    ids = np.empty(len(written) - 1, dtype=np.int64)
    for at in range(len(written) - 1, 0, -1):
        place = written[at][1, row, place]
        ids[at - 1] = written[at - 1][0, row, place]
    return ids
