"""Sampling new sequences from a language model, one token at a time.

Shapes: N sequences side by side, V vocabulary, S input streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from components.encodings.base import Encoding
from components.encodings.vocabulary import BOS, EOS
from components.models.sequence_model import SequenceModel

MAX_COUNT = 64
MAX_LENGTH = 100_000


@dataclass(frozen=True)
class Sampled:
    """One new sequence: its ids without BOS and EOS (the prompt included), the mean surprise of what was sampled,
    and whether the model ended it itself."""

    ids: np.ndarray
    nats_per_token: float
    ended: bool


class Settings:
    """How to sample: the recipe's generation section, and what the command may override.

    `temperature` divides the logits (0 = always the likeliest token); `top_k` keeps the k likeliest tokens (0 = all),
    `top_p` the fewest that hold this much probability (nucleus sampling, Holtzman et al. 2020).
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Field(gt=0, le=MAX_COUNT)] = 4,
        max_length: Annotated[int, Field(gt=0, le=MAX_LENGTH)] = 1000,
        temperature: Annotated[float, Field(ge=0, le=10)] = 1.0,
        top_k: Annotated[int, Field(ge=0)] = 0,
        top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
        prompt: str = "",
    ) -> None:
        self.count, self.max_length, self.temperature = count, max_length, temperature
        self.top_k, self.top_p, self.prompt = top_k, top_p, prompt


def distribution(logits_V: np.ndarray, allowed_V: np.ndarray, settings: Settings) -> np.ndarray:
    """The probabilities [V] that are sampled from, float64, summing to 1; 0 where not allowed."""
    logits = np.where(allowed_V, logits_V.astype(np.float64), -np.inf)
    if settings.temperature == 0:
        return np.eye(len(logits))[int(np.argmax(logits))]
    logits = logits / settings.temperature
    if 0 < settings.top_k < len(logits):
        kth = np.partition(logits, -settings.top_k)[-settings.top_k]
        logits = np.where(logits >= kth, logits, -np.inf)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    if settings.top_p < 1:
        order = np.argsort(-p, kind="stable")
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= settings.top_p]] = 0.0  # the likeliest token always stays
        p /= p.sum()
    return p


def draw(p_V: np.ndarray, uniform: float) -> int:
    """The token at `uniform` (0 to 1) of the cumulative distribution; never one of probability 0."""
    cumulative = np.cumsum(p_V)
    token = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(token, int(np.flatnonzero(p_V)[-1]))


@torch.inference_mode()
def sample(
    model: SequenceModel,
    encoding: Encoding,
    prompt_ids: Sequence[int],
    settings: Settings,
    /,
    *,
    seed: int,
    framed: bool,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Sampled]:
    """`settings.count` new sequences that go on from the prompt.

    `framed` sequences start with BOS and end with EOS; a text stream has neither and runs for `max_length` tokens.
    Sequence n draws from a generator of its own, seeded by (seed, n).
    """
    model.eval()
    count = settings.count
    device = next(model.parameters()).device
    rngs = [np.random.Generator(np.random.PCG64([seed, n])) for n in range(count)]
    start = np.array([BOS, *prompt_ids] if framed else list(prompt_ids), dtype=np.int64)
    if not len(start):
        raise ValueError("a stream needs a prompt of at least one token")
    ids = np.zeros((count, len(start) + settings.max_length), dtype=np.int64)
    ids[:, : len(start)] = start

    def streams(first: int, stop: int) -> torch.Tensor:
        tokens = ids[:, first:stop]
        if not encoding.context_sizes:
            return torch.from_numpy(tokens[..., None].copy()).to(device)
        context = np.stack([encoding.context(row[:stop])[first:] for row in ids])
        return torch.from_numpy(np.concatenate([tokens[..., None], context], axis=-1)).to(device)

    logits_NTV, state = model(streams(0, len(start)), model.initial_state(count))
    logits = logits_NTV[:, -1]
    length = np.full(count, len(start))
    ended = np.zeros(count, dtype=bool)
    nats = np.zeros(count)
    for t in range(len(start), ids.shape[1]):
        logits_NV = logits.float().cpu().numpy()
        for n in np.flatnonzero(~ended):
            allowed = encoding.allowed(ids[n, :t])
            allowed[EOS] &= framed
            p = distribution(logits_NV[n], allowed, settings)
            token = draw(p, rngs[n].random())
            # the model's own surprise at temperature 1, whatever it was sampled with
            row = logits_NV[n].astype(np.float64)
            nats[n] += np.log(np.exp(row - row.max()).sum()) + row.max() - row[token]
            ids[n, t] = token
            length[n] = t + 1
            ended[n] = token == EOS
        progress(t + 1 - len(start))
        if ended.all() or t + 1 == ids.shape[1]:
            break
        logits, state = model.step(streams(t, t + 1)[:, 0], state)
    begin = 1 if framed else 0
    return [
        Sampled(
            ids=ids[n, begin : length[n] - int(ended[n])].copy(),
            nats_per_token=float(nats[n] / max(1, length[n] - len(start))),
            ended=bool(ended[n]),
        )
        for n in range(count)
    ]
