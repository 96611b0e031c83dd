"""Windows of a stored split as batches for truncated backpropagation through time.

The order is a pure function of (seed, epoch, index), without other random state, so a resumed run reads the same
batches as an uninterrupted one. Shapes: B rows, T steps, S input streams.
"""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from components.datasets.store import Sequences
from components.encodings.base import Encoding
from components.encodings.vocabulary import PAD


@dataclass(frozen=True)
class Batch:
    """One window. PAD targets are ignored. `fresh`: the state is reset; else it is carried over."""

    inputs_BTS: np.ndarray
    targets_BT: np.ndarray
    fresh: bool
    units: dict[str, int] = field(default_factory=dict)  # counts of other units than tokens that end in this window


class Batches(ABC):
    """A split cut into windows of at most `window` steps, `batch_size` rows at a time."""

    def __init__(
        self, sequences: Sequences, encoding: Encoding, /, *, batch_size: int, window: int, seed: int, training: bool
    ) -> None:
        self.sequences, self.encoding = sequences, encoding
        self.batch_size, self.window, self.seed, self.training = batch_size, window, seed, training

    @abstractmethod
    def count(self, epoch: int) -> int:
        """Windows in an epoch."""

    @abstractmethod
    def at(self, epoch: int, index: int) -> Batch:
        """The window `index` of an epoch."""

    def epoch(self, epoch: int = 0) -> Iterator[Batch]:
        """All windows of an epoch."""
        return (self.at(epoch, index) for index in range(self.count(epoch)))

    def groups(self, order: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """The rows in this order as batches; in training the batches are shuffled."""
        found = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return [found[i] for i in rng.permutation(len(found))] if self.training else found

    def rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])


class StreamBatches(Batches):
    """One long sequence as `batch_size` contiguous lanes, read in parallel with the state carried over.

    In training the lanes start at an offset below `window` drawn per epoch, so that windows differ. In evaluation every
    token but the first of the split is predicted once; each lane starts from a zero state.
    """

    def _lanes(self, epoch: int) -> tuple[int, int, int]:
        """Number of lanes, start of the first lane, and steps per lane."""
        steps = max(0, len(self.sequences.tokens) - 1)
        rows = max(1, min(self.batch_size, steps // self.window))
        if not self.training:
            return rows, 0, -(-steps // rows)
        spare = max(1, min(self.window, steps - rows * self.window))
        offset = int(self.rng(epoch).integers(0, spare))
        return rows, offset, (steps - offset) // rows

    def count(self, epoch: int) -> int:
        _, _, length = self._lanes(epoch)
        return -(-length // self.window)

    def at(self, epoch: int, index: int) -> Batch:
        rows, offset, length = self._lanes(epoch)
        start = index * self.window
        stop = min(start + self.window, length)
        tokens = self.sequences.tokens
        ids = np.full((rows, stop - start + 1), PAD, dtype=np.int64)
        for row in range(rows):
            first = offset + row * length + start
            # a lane's last target is the first input of the next lane
            piece = tokens[first : min(first + stop - start + 1, len(tokens))]
            ids[row, : len(piece)] = piece
        return Batch(ids[:, :-1, None], ids[:, 1:], fresh=index == 0)


class SequenceBatches(Batches):
    """Sequences of similar length in the same batch, each group of rows read to its end in windows of equal length."""

    @functools.lru_cache(maxsize=2)  # noqa: B019 - lives as long as the run; two epochs at most
    def _plan(self, epoch: int) -> list[tuple[np.ndarray, int, int]]:
        """(rows, start, stop) of every window, in order."""
        lengths = np.diff(self.sequences.offsets) - 1  # steps: inputs are all tokens but the last
        rng = self.rng(epoch)
        # with noise, similar lengths share a batch, but not the same neighbours every epoch
        noise = rng.uniform(0.9, 1.1, len(lengths)) if self.training else 1.0
        plan = []
        for rows in self.groups(np.argsort(lengths * noise, kind="stable"), rng):
            longest = int(lengths[rows].max(initial=0))
            windows = max(1, -(-longest // self.window))
            edges = np.linspace(0, longest, windows + 1).round().astype(int)
            plan += [(rows, int(a), int(b)) for a, b in itertools.pairwise(edges)]
        return plan

    def count(self, epoch: int) -> int:
        return len(self._plan(epoch))

    def at(self, epoch: int, index: int) -> Batch:
        fresh = self._plan(epoch)[index][1] == 0
        whole, ids, context = self._window(epoch, index)
        units: dict[str, int] = {}
        for sequence in whole if not self.training else ():
            # a sequence's units are counted in its first window; every window has the keys
            for unit, count in self.encoding.counts(sequence).items():
                units[unit] = units.get(unit, 0) + (count if fresh else 0)
        inputs = np.concatenate([ids[:, :-1, None], context], axis=-1)
        return Batch(inputs, ids[:, 1:], fresh=fresh, units=units)

    def _window(self, epoch: int, index: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """The whole sequences of a window's rows, its ids [B, W + 1, …], padded, and its context [B, W, C]."""
        rows, start, stop = self._plan(epoch)[index]
        found = [self._sequence(epoch, int(row)) for row in rows]
        ids = np.full((len(rows), stop - start + 1, *found[0][0].shape[1:]), PAD, dtype=np.int64)
        context = np.zeros((len(rows), stop - start, len(self.encoding.context_sizes)), dtype=np.int64)
        for slot, (whole, beside) in enumerate(found):
            piece, part = whole[start : stop + 1], beside[start:stop]
            ids[slot, : len(piece)], context[slot, : len(part)] = piece, part
        return [whole for whole, _ in found], ids, context

    @functools.lru_cache(maxsize=256)  # noqa: B019 - the windows of a group need the same rows
    def _sequence(self, epoch: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        ids = np.asarray(self.sequences[row], dtype=np.int64)
        if self.training:
            ids = self.encoding.augment(ids, self.rng(epoch, row))
        return ids, self.encoding.context(ids)


def batches(
    framing: str,
    sequences: Sequences,
    encoding: Encoding,
    /,
    *,
    batch_size: int,
    window: int,
    seed: int,
    training: bool,
) -> Batches:
    """The batches for a store's framing ("stream" or "sequences")."""
    kind = StreamBatches if framing == "stream" else SequenceBatches
    return kind(sequences, encoding, batch_size=batch_size, window=window, seed=seed, training=training)
