"""Sampling new sequences from a language model: `sample`, natively where it can be, and the plain loop beside it.

Shapes: N sequences side by side, V vocabulary, S input streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from components.encodings.base import Encoding
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.generation.engine import Engine, engine_for, obstacle
from components.models.sequence_model import SequenceModel

MAX_COUNT = 64
MAX_LENGTH = 100_000
STEPS = 256  # most tokens in one native call; then progress is told
WORK = 1 << 31  # most multiply-adds in one native call: some tenths of a second


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
    `top_p` the fewest that hold this much probability (nucleus sampling, Holtzman et al. 2020). `precision: int8`
    rounds the weights to 8 bits for speed, on the CPU; what is sampled from then differs a little. `constraints` are
    rules of music that a score keeps, the most important first (components.generation.constraints). `given` are token
    ids that stand fast, −1 where the model chooses, and `given_ends` ends a sequence after them: what commands make of
    a melody or a beginning in a file.
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
        precision: Literal["float32", "int8"] = "float32",
        constraints: tuple[Annotated[str, Field(max_length=200)], ...] = (),
        given: tuple[int, ...] = (),
        given_ends: bool = False,
    ) -> None:
        self.count, self.max_length, self.temperature = count, max_length, temperature
        self.top_k, self.top_p, self.prompt = top_k, top_p, prompt
        self.precision, self.constraints = precision, constraints
        self.given, self.given_ends = given, given_ends


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
    Sequence n draws from a generator of its own, seeded by (seed, n). `progress` is told now and then how many tokens
    each has.

    In float32 the native loop draws the plain loop's tokens but where a random number falls on the border between two
    tokens: sums are rounded in another order, logits differ by some 1e-6, and so do the borders. That was seen at one
    token in 10⁵ (V = 96); from there on the two sequences differ. Each loop by itself gives the same ones every time.

    Raises:
        UserError: precision int8 for a model that the engine can't decode.
    """
    model.eval()
    engine = engine_for(model, settings.precision)
    if engine is None and settings.precision != "float32":
        what = f"precision {settings.precision} can't be used: {obstacle(model, settings.precision)}"
        raise UserError(what, where="generation.precision", hint="use float32")
    if engine is None:
        return sample_plainly(model, encoding, prompt_ids, settings, seed=seed, framed=framed, progress=progress)
    return _sample_natively(engine, model, encoding, prompt_ids, settings, seed, framed, progress)


@torch.inference_mode()
def sample_plainly(
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
    """The obvious loop: `model.step` on any device, one token of each sequence at a time."""
    model.eval()
    count = settings.count
    device = next(model.parameters()).device
    rngs = _generators(seed, count)
    ids, start = _begun(prompt_ids, settings, framed)
    logits_NTV, state = model(_inputs(encoding, ids, 0, start).to(device), model.initial_state(count))
    logits = logits_NTV[:, -1]
    length = np.full(count, start)
    ended = np.zeros(count, dtype=bool)
    nats = np.zeros(count)
    for t in range(start, ids.shape[1]):
        logits_NV = logits.float().cpu().numpy()
        for n in np.flatnonzero(~ended):
            p = distribution(logits_NV[n], _allowed(encoding, ids[n, :t], framed), settings)
            token = draw(p, rngs[n].random())
            # the model's own surprise at temperature 1, whatever it was sampled with
            row = logits_NV[n].astype(np.float64)
            nats[n] += np.log(np.exp(row - row.max()).sum()) + row.max() - row[token]
            ids[n, t] = token
            length[n] = t + 1
            ended[n] = token == EOS
        progress(t + 1 - start)
        if ended.all() or t + 1 == ids.shape[1]:
            break
        logits, state = model.step(_inputs(encoding, ids, t, t + 1)[:, 0].to(device), state)
    return _sampled(ids, length - start, nats, ended, settings, framed)


@torch.inference_mode()
def _sample_natively(
    engine: Engine,
    model: SequenceModel,
    encoding: Encoding,
    prompt_ids: Sequence[int],
    settings: Settings,
    seed: int,
    framed: bool,
    progress: Callable[[int], None],
) -> list[Sampled]:
    count = settings.count
    rngs = _generators(seed, count)
    ids, start = _begun(prompt_ids, settings, framed)
    state = model.initial_state(1)
    if start > 1:  # the prompt but for its last token, which the engine reads; once for all sequences
        _, state = model(_inputs(encoding, ids[:1], 0, start - 1), state)
    streams = engine.begin({name: value.expand(count, -1) for name, value in state.items()})
    # where nothing depends on the tokens drawn, many can be drawn in one call
    free = getattr(encoding.allowed, "__func__", None) is Encoding.allowed and not encoding.context_sizes
    most = max(1, min(STEPS, WORK // (count * engine.work))) if free else 1
    allowed = _allowed(encoding, ids[0, :start], framed) if free else np.zeros((count, len(encoding.vocabulary)), bool)
    for t in range(start, ids.shape[1], most):
        steps, alive = min(most, ids.shape[1] - t), np.flatnonzero(streams.ended == 0)
        context = None
        if not free:
            for n in alive:
                allowed[n] = _allowed(encoding, ids[n, :t], framed)
            context = _inputs(encoding, ids, t - 1, t)[:, 0, 1:].numpy()
        tokens = np.ascontiguousarray(ids[:, t - 1 : t + steps])
        engine.advance(
            streams,
            tokens,
            np.stack([rng.random(steps) for rng in rngs]),
            allowed,
            context,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            eos=EOS,
        )
        ids[:, t : t + steps] = tokens[:, 1:]
        progress(int(streams.made.max()))
        if streams.ended.all():
            break
    return _sampled(ids, streams.made, streams.nats, streams.ended.astype(bool), settings, framed)


def _begun(prompt_ids: Sequence[int], settings: Settings, framed: bool) -> tuple[np.ndarray, int]:
    """Room for the ids of all sequences [N, T], with the beginning in place, and its length."""
    start = np.array([BOS, *prompt_ids] if framed else list(prompt_ids), dtype=np.int64)
    if not len(start):
        raise ValueError("a stream needs a prompt of at least one token")
    ids = np.zeros((settings.count, len(start) + settings.max_length), dtype=np.int64)
    ids[:, : len(start)] = start
    return ids, len(start)


def _inputs(encoding: Encoding, ids: np.ndarray, first: int, stop: int) -> torch.Tensor:
    """What the model reads for the ids [N, first … stop−1], int64 [N, ·, S]."""
    tokens = ids[:, first:stop, None]
    if not encoding.context_sizes:
        return torch.from_numpy(tokens.copy())
    context = np.stack([encoding.context(row[:stop])[first:] for row in ids])
    return torch.from_numpy(np.concatenate([tokens, context], axis=-1))


def _allowed(encoding: Encoding, ids: np.ndarray, framed: bool) -> np.ndarray:
    """Which tokens may follow the ids, bool [V]; only framed sequences end."""
    allowed = encoding.allowed(ids)
    allowed[EOS] &= framed
    return allowed


def _generators(seed: int, count: int) -> list[np.random.Generator]:
    """Sequence n's random numbers are its own, whatever the number of sequences."""
    return [np.random.Generator(np.random.PCG64([seed, n])) for n in range(count)]


def _sampled(
    ids: np.ndarray, made: np.ndarray, nats: np.ndarray, ended: np.ndarray, settings: Settings, framed: bool
) -> list[Sampled]:
    begin = 1 if framed else 0
    stop = ids.shape[1] - settings.max_length + made - ended  # without EOS
    return [
        Sampled(
            ids=ids[n, begin : stop[n]].copy(),
            nats_per_token=float(nats[n] / max(1, made[n])),
            ended=bool(ended[n]),
        )
        for n in range(settings.count)
    ]
