"""Infilling: parts of a piece are regenerated given what comes before and after them, with a particle filter.

A left-to-right model has P(next | past). A gap is sampled from P(gap | before and after) ∝ P(gap | before) ·
P(after | before, gap) by sequential Monte Carlo (Doucet and Johansen 2011): N particles sample the gap's tokens from
the model, are weighted by the likelihood of the fixed tokens, and are resampled by weight when few of them have most of
the weight. One is chosen at the end. N → ∞ is exact; N = 1 is left-to-right sampling.

Shapes: N particles, V vocabulary, S input streams, T tokens, L fixed tokens in a row.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from components.encodings.base import Encoding
from components.encodings.timeline import Gap, gaps
from components.encodings.vocabulary import BOS, EOS
from components.generation.draft import Draft, Sampler
from components.generation.drawing import generators, inputs
from components.generation.region import Piece
from components.generation.sampling import distribution, draw
from components.generation.settings import Progress, Sampled, Settings
from components.layers.base import State

AHEAD = 512  # fixed tokens after the last gap that count for the weights
CHECKED = 8  # fixed tokens after a gap for which the constraints are checked
BROKEN = 5.0  # penalty in nats for each fixed token that violates a constraint
AT_ONCE = 64  # fixed tokens read in one call


class Particles:
    """N partial fillings of the gaps of a piece."""

    @torch.inference_mode()
    def __init__(
        self, model: nn.Module, encoding: Encoding, piece: Piece, settings: Settings, rng: np.random.Generator
    ) -> None:
        self.model, self.encoding, self.piece, self.settings, self.rng = model, encoding, piece, settings, rng
        self.copies = bool(getattr(model, "places", 0))
        self.device = next(model.parameters()).device
        # the temperature is already applied to the logits
        self.drawn_with = replace(settings, temperature=1.0)
        count = settings.particles
        self.ids = np.full((count, 1), BOS, dtype=np.int64)  # padded with −1
        self.length = np.ones(count, dtype=np.int64)
        self.log_weights, self._evidence = np.zeros(count), 0.0
        # at temperature 1: nats and number of the sampled tokens, log-likelihood of all tokens
        self.nats, self.made, self.total = np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count)
        self.state: State = model.initial_state(1)
        self.log_p = self.own = np.zeros((0, 0))

    @torch.inference_mode()
    def run(self, progress: Progress) -> None:
        """Fill all gaps, and weight the particles by the fixed tokens after each."""
        piece = self.piece
        found = gaps(piece.timeline, piece.free)
        self._begin(piece.ids[: found[0].first])
        after = [*(gap.first for gap in found[1:]), min(found[-1].last + AHEAD, len(piece.ids))]
        for gap, stop in zip(found, after, strict=True):
            self._fill(gap, progress)
            stays = piece.ids[gap.last : stop]
            self._read(np.append(stays, EOS) if stop == len(piece.ids) else stays)
            self._resample()

    def _begin(self, ids: np.ndarray) -> None:
        """Read the tokens before the first gap, once for all particles."""
        row, count = np.append(BOS, ids)[None], len(self.ids)
        logits, mixed, state = self._logits(inputs(self.encoding, row, 0, row.shape[1]), self.state)
        self.ids = np.repeat(row, count, axis=0)
        self.length[:] = row.shape[1]
        self.state = {name: value.expand(count, *value.shape[1:]).clone() for name, value in state.items()}
        self.own, self.log_p = (np.repeat(one[:, -1], count, axis=0) for one in (logits, mixed))

    def _fill(self, gap: Gap, progress: Progress) -> None:
        begun = self.length.copy()
        while True:
            masks = [self._choices(gap, n, int(begun[n])) for n in range(len(self.ids))]
            going = np.array([n for n, mask in enumerate(masks) if mask is not None], dtype=np.int64)
            if not len(going):
                return
            self._make_room(1)
            for n in going.tolist():
                mask = masks[n]
                p = distribution(self.log_p[n], mask, self.drawn_with)
                token = draw(p, self.rng.random())
                # importance weight: the probability that the model gives to the allowed tokens
                self.log_weights[n] += np.logaddexp.reduce(self.log_p[n][mask])
                self.nats[n] -= self.own[n, token]
                self.total[n] += self.own[n, token]
                self.made[n] += 1
                self.ids[n, self.length[n]] = token
                self.length[n] += 1
            self._step(going)
            if self.piece.timeline.takes_turns:  # all particles are at the same place
                self._resample()
            progress(int(self.made.max()))

    def _choices(self, gap: Gap, n: int, begun: int) -> np.ndarray | None:
        """The mask of the next token in a gap, bool [V], never empty; None at the end of the gap."""
        ids = self.ids[n, : self.length[n]]
        mask = self.piece.timeline.choices(gap, self.piece.free, ids, begun)
        if mask is None:
            return None
        mask[EOS] = False
        both = mask & self.encoding.allowed(ids)
        return both if both.any() else mask

    def _step(self, rows: np.ndarray) -> None:
        """Read the last token of some particles."""
        last = self.length[rows] - 1
        read = torch.cat([self._inputs(n, at, at + 1) for n, at in zip(rows.tolist(), last.tolist(), strict=True)])
        index = torch.from_numpy(rows).to(self.device)
        state = {name: value.index_select(0, index) for name, value in self.state.items()}
        logits, mixed, state = self._logits(read, state)
        self.state = {name: self.state[name].index_copy(0, index, value) for name, value in state.items()}
        self.own[rows], self.log_p[rows] = logits[:, -1], mixed[:, -1]

    def _read(self, stays: np.ndarray) -> None:
        """Read fixed tokens [L], and weight the particles by their likelihood. Equal particles are read once."""
        if not len(stays):
            return
        self._make_room(len(stays))
        _, first, which = np.unique(self.ids, axis=0, return_index=True, return_inverse=True)
        which = which.reshape(-1)
        self._go_on_from(first)
        found, total = self.log_p[:, stays[0]].copy(), self.own[:, stays[0]].copy()
        length = self.length[first].copy()
        for n in range(len(self.ids)):
            self.ids[n, self.length[n] : self.length[n] + len(stays)] = stays
        self.length += len(stays)
        if hasattr(self.encoding, "rules"):
            found -= BROKEN * np.array([self._broken(n, int(at)) for n, at in zip(first, length, strict=True)])
        for at in range(0, len(stays), AT_ONCE):
            chunk = stays[at : at + AT_ONCE]
            starts = (length + at).tolist()
            read = torch.cat([self._inputs(n, s, s + len(chunk)) for n, s in zip(first.tolist(), starts, strict=True)])
            logits, mixed, self.state = self._logits(read, self.state)
            for step, token in enumerate(stays[at + 1 : at + len(chunk) + 1]):
                found += mixed[:, step, token]
                total += logits[:, step, token]
            self.own, self.log_p = logits[:, -1], mixed[:, -1]
        self._go_on_from(which)
        self.log_weights += found[which]
        self.total += total[which]

    def _broken(self, n: int, start: int) -> int:
        """How many of the next fixed tokens violate a constraint."""
        stop = min(start + CHECKED, int(self.length[n]))
        return sum(not self.encoding.allowed(self.ids[n, :at])[self.ids[n, at]] for at in range(start, stop))

    def _inputs(self, n: int, first: int, stop: int) -> torch.Tensor:
        return inputs(self.encoding, self.ids[n : n + 1, :stop], first, stop)

    def _logits(self, read: torch.Tensor, state: State) -> tuple[np.ndarray, np.ndarray, State]:
        """Log-probabilities [N, L, V] after the inputs [N, L, S], float64: at temperature 1, and at the settings'
        temperature (also 1 for 0, where the likeliest particle is chosen at the end)."""
        read, temperature = read.to(self.device), self.settings.temperature or 1.0
        if self.copies:
            y, state = self.model.outputs(read, state)
            beside = self.model.beside(read)
            at = {"temperature": temperature, "gate_temperature": self.settings.gate_temperature}
            logits, mixed = self.model.head(y, *beside), self.model.head(y, *beside, **at)
        else:
            logits, state = self.model(read, state)
            mixed = logits / temperature
        own = logits.double().log_softmax(dim=-1)
        return own.cpu().numpy(), mixed.double().log_softmax(dim=-1).cpu().numpy(), state

    def _make_room(self, more: int) -> None:
        need = int(self.length.max()) + more
        if need > self.ids.shape[1]:
            room = np.full((len(self.ids), need + AT_ONCE - self.ids.shape[1]), -1, dtype=np.int64)
            self.ids = np.concatenate([self.ids, room], axis=1)

    def _resample(self) -> bool:
        """Resample the particles by their weights if the effective sample size is below half of them."""
        weights = self._weights()
        if 1 / (weights**2).sum() >= len(weights) / 2:
            return False
        self._evidence = self.evidence()
        self.log_weights[:] = 0.0
        places = (self.rng.random() + np.arange(len(weights))) / len(weights)
        chosen = np.minimum(np.searchsorted(np.cumsum(weights), places, side="right"), len(weights) - 1)
        self._go_on_from(chosen)
        for name in ("ids", "length", "nats", "made", "total"):
            setattr(self, name, getattr(self, name)[chosen])
        return True

    def _go_on_from(self, rows: np.ndarray) -> None:
        """Replace the states by those of these rows, and what the model predicts after them."""
        index = torch.from_numpy(rows).to(self.device)
        self.state = {name: value.index_select(0, index) for name, value in self.state.items()}
        self.own, self.log_p = self.own[rows], self.log_p[rows]

    def evidence(self) -> float:
        """The estimated log-likelihood of the fixed tokens read so far, given the tokens before the first gap,
        marginalised over the gaps."""
        return self._evidence + float(np.logaddexp.reduce(self.log_weights) - np.log(len(self.log_weights)))

    def _weights(self) -> np.ndarray:
        weights = np.exp(self.log_weights - self.log_weights.max())
        return weights / weights.sum()

    def chosen(self) -> Sampled:
        """One particle, sampled by weight, with the rest of the piece; at temperature 0 the likeliest one."""
        n = draw(self._weights(), self.rng.random())
        if self.settings.temperature == 0:
            n = int(np.argmax(self.total))
        last = gaps(self.piece.timeline, self.piece.free)[-1].last
        read = min(last + AHEAD, len(self.piece.ids))
        ids = self.ids[n, 1 : self.length[n]]
        ids = ids[ids != EOS]
        whole = np.concatenate([ids, self.piece.ids[read:]])
        return Sampled(ids=whole, nats_per_token=float(self.nats[n] / max(1, self.made[n])), ended=True)


def rewrite(model: nn.Module | Sampler, draft: Draft) -> list[Sampled]:
    """`settings.count` pieces with new free tokens and all other tokens unchanged. Piece n has its own particles and
    random generator, seeded by (seed, n), so that it doesn't depend on the count."""
    if isinstance(model, Sampler):
        return model.sample(draft)
    model.eval()
    made = []
    for rng in generators(draft.seed, draft.settings.count):
        particles = Particles(model, draft.encoding, draft.piece, draft.settings, rng)
        particles.run(draft.progress)
        made.append(particles.chosen())
    return made
