"""Batches of sequences with several ids at each step, one for each stream.

Shapes: B rows, T steps, S streams, C context features.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from components.datasets.batches.truncated import Batch, SequenceBatches
from components.datasets.store import Examples
from components.encodings.base import Encoding


@dataclass(frozen=True, kw_only=True)
class StepBatch(Batch):
    """`inputs_BTS` holds the S streams, then the context. `targets_BT` are the first stream's: steps where they are PAD
    are ignored; `others_BTS` are the other streams', PAD where a stream has no target."""

    others_BTS: np.ndarray


class StepBatches(SequenceBatches):
    """A split with several streams of equal length, in the encoding's order of fields."""

    def __init__(
        self, examples: Examples, encoding: Encoding, /, *, batch_size: int, window: int, seed: int, training: bool
    ) -> None:
        self.examples = examples
        first = examples.fields[next(iter(encoding.fields))]
        super().__init__(first, encoding, batch_size=batch_size, window=window, seed=seed, training=training)

    def at(self, epoch: int, index: int) -> StepBatch:
        _, ids, context = self._window(epoch, index)
        inputs = np.concatenate([ids[:, :-1], context], axis=-1)
        fresh = self._plan(epoch)[index][1] == 0
        return StepBatch(inputs, ids[:, 1:, 0], fresh=fresh, others_BTS=ids[:, 1:, 1:])

    @functools.lru_cache(maxsize=256)  # noqa: B019 - the windows of a group need the same rows
    def _sequence(self, epoch: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        """A row's ids [T, S] and its context [T, C]."""
        fields = [np.asarray(self.examples.fields[name][row], dtype=np.int64) for name in self.encoding.fields]
        ids = np.stack(fields, axis=-1)
        if self.training:
            ids = self.encoding.augment(ids, self.rng(epoch, row))
        return ids, self.encoding.context(ids)
