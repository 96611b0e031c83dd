"""Sampling in progress with the engine, for one request or for a batch of several.

Each sequence has its own random numbers and state, and its sums a fixed order, so that it doesn't depend on the other
sequences in the batch or the number of calls. That includes the prompt: the engine reads short prompts in a batch, the
model reads a long one alone. Shapes: N sequences in the batch, V vocabulary, S input streams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from components.encodings.base import Encoding
from components.encodings.vocabulary import BOS, EOS
from components.generation.draft import Draft
from components.generation.engine import Engine, Streams
from components.generation.settings import Settings
from components.models.sequence_model import SequenceModel

# Length of the longest prompt that the engine reads. The model packs its weights first: at H = 512 and two layers this
# takes as long as the engine takes for 25 tokens, or for some 150 tokens of each sequence in a batch of a hundred.
READ_BY_ENGINE = 64


class Drawing:
    """The `settings.count` sequences of one request. `ids` [N, T] are filled up to `at`. The prompt is read once, in
    one row of streams, which is then copied for each sequence. `place`: the streams, which may be shared with other
    drawings since the last call, and the rows in them."""

    @torch.inference_mode()
    def __init__(self, engine: Engine, model: SequenceModel, draft: Draft) -> None:
        self.engine, self.draft = engine, draft
        self.encoding, self.settings, self.framed = draft.encoding, draft.settings, draft.framed
        self.rngs = generators(draft.seed, draft.settings.count)
        self.ids, self.start = begun(draft)
        self.at, self.read = self.start, 0
        state = model.initial_state(1)
        # without the prompt's last token, which is read when the first token is sampled
        self.prompt = inputs(self.encoding, self.ids[:1], 0, self.start)[0, :-1].numpy()
        if len(self.prompt) > READ_BY_ENGINE:
            _, state = model(torch.from_numpy(self.prompt[None]), state)
            self.read = len(self.prompt)
        self.place = engine.begin(state), slice(0, 1)
        if not self.reading:
            self._begin()
        # whether several tokens can be sampled in one call: mask and context don't depend on them
        allowed = getattr(self.encoding.allowed, "__func__", None)
        self.free = allowed is Encoding.allowed and not self.encoding.context_sizes

    @property
    def reading(self) -> bool:
        """Whether part of the prompt is still to be read."""
        return self.read < len(self.prompt)

    @property
    def left(self) -> int:
        """Tokens that each sequence may still get; 0 when all have ended."""
        streams, rows = self.place
        return 0 if streams.ended[rows].all() else self.ids.shape[1] - self.at

    @property
    def manner(self) -> tuple[bool, bool, bool, float, int, float]:
        """Drawings with the same value can share a call: those that read a prompt, or have the same settings."""
        if self.reading:
            return True, False, False, 0.0, 0, 0.0
        settings = self.drawn_with
        return False, self.free, self.framed, settings.temperature, settings.top_k, settings.top_p

    @property
    def drawn_with(self) -> Settings:
        """The settings of the next token."""
        return self.settings.as_trained() if self.at <= self.encoding.prefix else self.settings

    def so_far(self) -> list[np.ndarray]:
        """Each sequence's ids without BOS and EOS, the prompt included. Safe while another thread samples."""
        streams, rows = self.place
        # tokens of a call in progress aren't in the ids yet
        stops = np.minimum(self.start + streams.made[rows] - streams.ended[rows], self.at)
        return [row[int(self.framed) : stop].copy() for row, stop in zip(self.ids, stops, strict=False)]

    def _begin(self) -> None:
        """Create a row for each sequence, with the state after the prompt."""
        whole = joined([self.place] * len(self.ids), self.engine)
        whole.made[:] = whole.nats[:] = whole.ended[:] = 0
        self.place = whole, slice(0, len(self.ids))


def advance(engine: Engine, drawings: Sequence[Drawing], most: int) -> None:
    """Sample up to `most` more tokens of every sequence of these drawings, or read as many of their prompts. They have
    the same `manner` and aren't finished."""
    (_read if drawings[0].reading else _draw)(engine, drawings, most)


def _read(engine: Engine, drawings: Sequence[Drawing], most: int) -> None:
    count, V = len(drawings), engine.vocabulary_size
    streams = _together(drawings, engine)
    for _ in range(min(most, *(len(drawing.prompt) - drawing.read for drawing in drawings))):
        here = np.stack([drawing.prompt[drawing.read] for drawing in drawings])
        tokens = np.stack([drawing.ids[0, drawing.read : drawing.read + 2] for drawing in drawings])
        only = np.zeros((count, V), bool)
        only[np.arange(count), tokens[:, 1]] = True  # only the prompt's next token can be sampled
        engine.advance(streams, tokens, np.zeros((count, 1)), only, here[:, 1:])
        for drawing in drawings:
            drawing.read += 1
    for drawing in drawings:
        if not drawing.reading:
            drawing._begin()


def _draw(engine: Engine, drawings: Sequence[Drawing], most: int) -> None:
    first, free = drawings[0], drawings[0].free
    settings = first.drawn_with
    steps = min(most, *(drawing.left for drawing in drawings)) if free else 1
    streams = _together(drawings, engine)
    if free:
        allowed, context = allowed_after(first.encoding, first.ids[0, : first.at], first.framed), None
    else:
        rows = [(drawing, row) for drawing in drawings for row in drawing.ids]
        allowed = np.zeros((len(rows), len(first.encoding.vocabulary)), bool)
        for n in np.flatnonzero(streams.ended == 0):
            drawing, row = rows[n]
            allowed[n] = allowed_after(drawing.encoding, row[: drawing.at], drawing.framed)
        read = [inputs(one.encoding, one.ids, one.at - 1, one.at)[:, 0, 1:].numpy() for one in drawings]
        context = np.concatenate(read)
    tokens = np.concatenate([drawing.ids[:, drawing.at - 1 : drawing.at + steps] for drawing in drawings])
    engine.advance(
        streams,
        tokens,
        np.stack([rng.random(steps) for drawing in drawings for rng in drawing.rngs]),
        allowed,
        context,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        eos=EOS,
    )
    for drawing in drawings:
        drawing.ids[:, drawing.at : drawing.at + steps] = tokens[drawing.place[1], 1:]
        drawing.at += steps


def _together(drawings: Sequence[Drawing], engine: Engine) -> Streams:
    """The streams of all these drawings, in their order; reused if they are those of the last call."""
    streams, end = drawings[0].place[0], 0
    for drawing in drawings:
        there, rows = drawing.place
        if there is not streams or rows.start != end:
            break
        end = rows.stop
    else:
        if end == len(streams.made):
            return streams
    streams, end = joined([drawing.place for drawing in drawings], engine), 0
    for drawing in drawings:
        rows = drawing.place[1]
        drawing.place = streams, slice(end, end + rows.stop - rows.start)
        end = drawing.place[1].stop
    return streams


def joined(parts: Sequence[tuple[Streams, slice]], engine: Engine) -> Streams:
    """A copy of rows of several streams as one."""
    count, first = sum(rows.stop - rows.start for _, rows in parts), parts[0][0]
    whole = Streams(count, len(first.h), engine.H, engine.V, first.start.shape[1])
    for name in ("h", "bytes"):
        getattr(whole, name)[:, 0] = np.concatenate([getattr(s, name)[:, s.phase, rows] for s, rows in parts], axis=1)
    whole.c[:] = np.concatenate([s.c[:, rows] for s, rows in parts], axis=1)
    for name in ("nats", "made", "ended"):
        getattr(whole, name)[:] = np.concatenate([getattr(s, name)[rows] for s, rows in parts])
    return whole


def begun(draft: Draft) -> tuple[np.ndarray, int]:
    """An array for the ids of all sequences [N, T] that starts with BOS and the prompt, and their length."""
    settings = draft.settings
    start = np.array([BOS, *draft.prompt_ids] if draft.framed else list(draft.prompt_ids), dtype=np.int64)
    if not len(start):
        raise ValueError("a stream needs a prompt of at least one token")
    ids = np.zeros((settings.count, len(start) + settings.max_length), dtype=np.int64)
    ids[:, : len(start)] = start
    return ids, len(start)


def inputs(encoding: Encoding, ids: np.ndarray, first: int, stop: int) -> torch.Tensor:
    """The model's inputs for the ids [N, first … stop−1], int64 [N, ·, S]."""
    tokens = ids[:, first:stop, None]
    if not encoding.context_sizes:
        return torch.from_numpy(tokens.copy())
    context = np.stack([encoding.context(row[:stop])[first:] for row in ids])
    return torch.from_numpy(np.concatenate([tokens, context], axis=-1))


def allowed_after(encoding: Encoding, ids: np.ndarray, framed: bool) -> np.ndarray:
    """Which tokens may follow the ids, bool [V]; only framed sequences end."""
    allowed = encoding.allowed(ids)
    allowed[EOS] &= framed
    return allowed


def generators(seed: int, count: int) -> list[np.random.Generator]:
    """A random generator for each sequence n, which doesn't depend on `count`."""
    return [np.random.Generator(np.random.PCG64([seed, n])) for n in range(count)]
