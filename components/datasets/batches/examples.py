"""Whole examples in batches: inputs and targets, padded to the longest of the batch.

The order is a pure function of (seed, epoch), as in `batches`. Shapes: B rows, T input steps, U target steps, I and K
features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from components.datasets.batches.truncated import Batches
from components.datasets.store import Examples, Sequences
from components.encodings.base import Encoding, Field


@dataclass(frozen=True)
class ExampleBatch:
    """Padding is 0 (PAD for ids). `rows`: the examples' indices in their split."""

    inputs: np.ndarray  # int64 [B, T] or [B, T, S], or float32 [B, T, I]
    lengths_B: np.ndarray
    targets: np.ndarray  # int64 [B, U], or float32 [B, U, K]
    target_lengths_B: np.ndarray
    rows: np.ndarray
    fresh: bool = True  # no state is carried between batches


Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class ExampleBatches(Batches):
    """A split of (input, target) examples; rows of similar length share a batch. `augment` makes a variant of each
    training input in every epoch, as a function of (seed, epoch, row).

    `classes` [N]: an epoch of training draws equally many examples of each class, N in all. Rows of a small class are
    repeated, each equally often, give or take one.
    """

    classes: np.ndarray | None = None

    def __init__(
        self,
        examples: Examples,
        /,
        *,
        batch_size: int,
        seed: int,
        training: bool,
        augment: Augment | None = None,
        classes: np.ndarray | None = None,
    ) -> None:
        self.inputs, self.targets = examples.fields["input"], examples.fields["target"]
        self.batch_size, self.seed, self.training = batch_size, seed, training
        self.augment, self.classes = (augment, classes) if training else (None, None)

    def count(self, epoch: int) -> int:
        """Batches in an epoch."""
        return -(-len(self.inputs) // self.batch_size)

    def at(self, epoch: int, index: int) -> ExampleBatch:
        """Batch `index` of an epoch."""
        rows = self._plan(epoch)[index]
        variants = None
        if self.augment:
            variants = []
            for slot, row in enumerate(rows):
                # repeated rows get different variants
                again = [] if self.classes is None else [index, slot]
                variants.append(self.augment(self.inputs[int(row)], self.rng(epoch, int(row), *again)))
        inputs, lengths_B = padded(self.inputs, rows, variants)
        targets, target_lengths_B = padded(self.targets, rows)
        return ExampleBatch(inputs, lengths_B, targets, target_lengths_B, rows)

    @functools.lru_cache(maxsize=2)  # noqa: B019 - lives as long as the run; two epochs at most
    def _plan(self, epoch: int) -> list[np.ndarray]:
        # targets break ties, so that long ones share a batch too
        lengths = self.inputs.lengths + self.targets.lengths / (1 + self.targets.lengths.max(initial=0))
        rng = self.rng(epoch)
        if not self.training:
            return self.groups(np.argsort(lengths, kind="stable"), rng)
        # shuffled, then sorted with noise: similar lengths share a batch, but not the same neighbours every epoch
        drawn = rng.permutation(len(lengths)) if self.classes is None else balanced(self.classes, rng)
        noise = rng.uniform(0.9, 1.1, len(lengths))
        noise = noise[drawn] if self.classes is None else noise  # for each draw, or repeats would share a batch
        return self.groups(drawn[np.argsort(lengths[drawn] * noise, kind="stable")], rng)


class FrameBatches(ExampleBatches):
    """Whole sequences of frames: the targets are the frames, the inputs the previous frames, beginning with silence."""

    def __init__(
        self, examples: Examples, encoding: Encoding, /, *, batch_size: int, seed: int, training: bool
    ) -> None:
        self.inputs = self.targets = examples.fields["frames"]
        self.encoding, self.batch_size, self.seed, self.training = encoding, batch_size, seed, training

    def at(self, epoch: int, index: int) -> ExampleBatch:
        rows = self._plan(epoch)[index]
        pieces = [self.targets[int(row)] for row in rows]
        if self.training:
            augment = self.encoding.augment
            pieces = [augment(piece, self.rng(epoch, int(row))) for piece, row in zip(pieces, rows, strict=True)]
        targets, lengths_B = pad(pieces, Field(width=self.targets.tokens.shape[1]))
        inputs = np.concatenate([np.zeros_like(targets[:, :1]), targets[:, :-1]], axis=1)
        return ExampleBatch(inputs, lengths_B, targets, lengths_B, rows)


def balanced(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows [N] in random order, with equally many draws of each class of `classes` [N], and of each row of a class,
    give or take one."""
    found = np.unique(classes)
    share, left = divmod(len(classes), len(found) or 1)
    more = set(rng.permutation(len(found))[:left].tolist())
    drawn = [
        np.resize(rng.permutation(np.flatnonzero(classes == one)), share + (at in more)) for at, one in enumerate(found)
    ]
    return rng.permutation(np.concatenate([np.zeros(0, dtype=np.int64), *drawn]))


def padded(
    sequences: Sequences, rows: np.ndarray, variants: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows' sequences, or these `variants` of them, as one padded array, and their lengths [B]."""
    tokens = sequences.tokens
    size = 0 if tokens.dtype.kind == "f" else 1  # the vocabulary size doesn't matter here
    field = Field(size=size, width=tokens.shape[1] if tokens.ndim > 1 else 0)
    return pad([sequences[int(row)] for row in rows] if variants is None else variants, field)


def pad(pieces: Sequence[np.ndarray], field: Field) -> tuple[np.ndarray, np.ndarray]:
    """Sequences as one array, padded with 0: int64 [B, T] or [B, T, width], or float32 [B, T, width]; and their lengths
    [B]."""
    lengths_B = np.array([len(piece) for piece in pieces], dtype=np.int64)
    features = (field.width,) if field.width else ()
    shape = (len(pieces), int(lengths_B.max(initial=0)), *features)
    array = np.zeros(shape, np.float32 if field.frames else np.int64)
    for slot, piece in enumerate(pieces):
        array[slot, : len(piece)] = piece
    return array, lengths_B
