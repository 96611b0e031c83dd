"""Sampling from a language model: `sample`, with the engine if it supports the model, else with a plain loop.

Shapes: N sequences in a batch, V vocabulary, S input streams.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from components.encodings.base import Encoding
from components.encodings.vocabulary import EOS
from components.errors import UserError
from components.generation.draft import Draft, Sampler
from components.generation.drawing import Drawing, advance, allowed_after, begun, generators, inputs
from components.generation.engine import NOT_COMPILED, Engine, engine_for, obstacle
from components.generation.settings import Sampled, Settings
from components.models.sequence_model import SequenceModel

STEPS = 256  # maximum tokens in one native call, between two calls of progress
WORK = 1 << 31  # maximum multiply-adds in one native call: some tenths of a second


def distribution(logits_V: np.ndarray, allowed_V: np.ndarray, settings: Settings) -> np.ndarray:
    """The probabilities [V] to sample from, float64, summing to 1; 0 where not allowed."""
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
        p[order[before >= settings.top_p]] = 0.0  # the likeliest token is always kept
        p /= p.sum()
    return p


def draw(p_V: np.ndarray, uniform: float) -> int:
    """The token at `uniform` (0 to 1) of the cumulative distribution, never one with probability 0."""
    cumulative = np.cumsum(p_V)
    token = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(token, int(np.flatnonzero(p_V)[-1]))


def sample(model: SequenceModel | Sampler, draft: Draft) -> list[Sampled]:
    """Sample sequences that continue the draft's prompt.

    Each loop is deterministic. In float32 the engine gives the plain loop's tokens, unless a random number falls on the
    border between two tokens: sums are rounded in another order, so that logits differ by some 1e-6. That was seen at
    one token in 10⁵ (V = 96); from there on the two sequences differ.

    Raises:
        UserError: precision int8 for a model that the engine doesn't support.
    """
    if isinstance(model, Sampler):
        return model.sample(draft)
    model.eval()
    engine = engine_for(model, draft.settings.precision)
    if engine is None:
        check_plain(model, draft.settings)
        return sample_plainly(model, draft)
    drawing = Drawing(engine, model, draft)
    most = steps_at_once(engine, draft.settings.count)
    while drawing.left:
        advance(engine, [drawing], most)
        draft.progress(drawing.at - drawing.start)
    return drawn(drawing)


def check_plain(model: SequenceModel, settings: Settings) -> None:
    """Check that a model without an engine uses float32. If the engine couldn't be compiled, float32 replaces int8, and
    a warning was logged.

    Raises:
        UserError: the engine doesn't support the model with another precision.
    """
    why = None if settings.precision == "float32" else obstacle(model, settings.precision)
    if why not in (None, NOT_COMPILED):
        what = f"precision {settings.precision} can't be used: {why}"
        raise UserError(what, where="generation.precision", hint="use float32")


@torch.inference_mode()
def sample_plainly(model: SequenceModel, draft: Draft) -> list[Sampled]:
    """The plain loop: `model.step` on any device, one token of each sequence at a time."""
    model.eval()
    encoding, settings, framed = draft.encoding, draft.settings, draft.framed
    count = settings.count
    device = next(model.parameters()).device
    rngs = generators(draft.seed, count)
    ids, start = begun(draft)
    copies, drawn_with = bool(getattr(model, "places", 0)), settings
    if copies and settings.temperature:  # the temperatures are applied to the parts of the mixture
        drawn_with = replace(settings, temperature=1.0)
    read = inputs(encoding, ids, 0, start).to(device)
    if copies:
        y, state = model.outputs(read, model.initial_state(count))
        logits, mixed = _mixtures(model, y[:, -1], read[:, -1], settings, _leanings(encoding, ids[:, :start]))
    else:
        logits, state = model(read, model.initial_state(count))
        logits = mixed = logits[:, -1]
    length = np.full(count, start)
    ended = np.zeros(count, dtype=bool)
    nats = np.zeros(count)
    for t in range(start, ids.shape[1]):
        logits_NV, mixed_NV = logits.float().cpu().numpy(), mixed.float().cpu().numpy()
        rows_NV, how = (logits_NV, settings.as_trained()) if t <= encoding.prefix else (mixed_NV, drawn_with)
        for n in np.flatnonzero(~ended):
            p = distribution(rows_NV[n], allowed_after(encoding, ids[n, :t], framed), how)
            token = draw(p, rngs[n].random())
            # at temperature 1, whatever the settings
            row = logits_NV[n].astype(np.float64)
            nats[n] += np.log(np.exp(row - row.max()).sum()) + row.max() - row[token]
            ids[n, t] = token
            length[n] = t + 1
            ended[n] = token == EOS
        draft.progress(t + 1 - start)
        if ended.all() or t + 1 == ids.shape[1]:
            break
        read = torch.zeros_like(read if read.ndim == 2 else read[:, 0])  # ended rows get any input
        read[~ended] = inputs(encoding, ids[~ended], t, t + 1)[:, 0].to(device)
        if copies:
            y, state = model.recurrent.step(model.rows(read), state)
            logits, mixed = _mixtures(model, y, read, settings, _leanings(encoding, ids[:, : t + 1], ended))
        else:
            logits, state = model.step(read, state)
            mixed = logits
    return _sampled(draft, ids, length - start, nats, ended)


def _mixtures(
    model: SequenceModel,
    y_NH: torch.Tensor,
    read_NS: torch.Tensor,
    settings: Settings,
    leanings_NL: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [N, V] of a model that copies: the model's own, and with the leanings at the settings'
    temperatures (at temperature 0 unchanged, as the likeliest token is chosen)."""
    beside = model.beside(read_NS)
    at = {"temperature": settings.temperature, "gate_temperature": settings.gate_temperature}
    at = at if settings.temperature else {}
    leaning = None if leanings_NL is None else leanings_NL.to(y_NH)
    return model.head(y_NH, *beside), model.head(y_NH, *beside, **at, leanings_NL=leaning)


def _leanings(encoding: Encoding, ids: np.ndarray, ended: np.ndarray | None = None) -> torch.Tensor | None:
    """The encoding's leanings, added to the gates' logits, after the ids [N, T]: float64 [N, L]; 0 for ended
    sequences."""
    found = [encoding.leanings(row) for row in ids]
    if found[0] is None:
        return None
    leanings_NL = np.stack(found)
    leanings_NL[np.zeros(len(ids), dtype=bool) if ended is None else ended] = 0.0
    return torch.from_numpy(leanings_NL)


def steps_at_once(engine: Engine, count: int) -> int:
    """Maximum number of tokens of each of `count` sequences in one native call."""
    return max(1, min(STEPS, WORK // (count * engine.work)))


def drawn(drawing: Drawing) -> list[Sampled]:
    """The sequences of a finished drawing."""
    streams, rows = drawing.place
    ended = streams.ended[rows].astype(bool)
    return _sampled(drawing.draft, drawing.ids, streams.made[rows], streams.nats[rows], ended)


def _sampled(draft: Draft, ids: np.ndarray, made: np.ndarray, nats: np.ndarray, ended: np.ndarray) -> list[Sampled]:
    begin = 1 if draft.framed else 0
    stop = ids.shape[1] - draft.settings.max_length + made - ended  # without EOS
    return [
        Sampled(
            ids=ids[n, begin : stop[n]].copy(),
            nats_per_token=float(nats[n] / max(1, made[n])),
            ended=bool(ended[n]),
        )
        for n in range(draft.settings.count)
    ]
