"""Batches of strokes: each point with the next one as target, and the text, if any.

Shapes: B rows, T steps, U characters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.datasets.batches.examples import ExampleBatch, ExampleBatches, padded
from components.datasets.store import Examples


@dataclass(frozen=True, kw_only=True)
class StrokeBatch(ExampleBatch):
    """`inputs` float32 [B, T, 3]: the points but the last. `targets` [B, T]: 1 for steps that count, 0 in the padding.
    `next_BT4` float32: the next point, and 1 if it is the last of its piece. `text_BU`: ids, padded with PAD; None if
    there is no text."""

    next_BT4: np.ndarray
    text_BU: np.ndarray | None


class StrokeBatches(ExampleBatches):
    """Whole pieces; those of similar length share a batch."""

    def __init__(self, examples: Examples, /, *, batch_size: int, seed: int, training: bool) -> None:
        self.inputs = self.targets = examples.fields["points"]
        self.texts = examples.fields.get("text")
        self.batch_size, self.seed, self.training = batch_size, seed, training

    def at(self, epoch: int, index: int) -> StrokeBatch:
        rows = self._plan(epoch)[index]
        points_BT3, lengths_B = padded(self.inputs, rows)
        steps_B = lengths_B - 1
        places_T = np.arange(points_BT3.shape[1] - 1)
        last_BT = (places_T == steps_B[:, None] - 1).astype(np.float32)
        next_BT4 = np.concatenate([points_BT3[:, 1:], last_BT[..., None]], axis=-1)
        return StrokeBatch(
            inputs=points_BT3[:, :-1],
            lengths_B=steps_B,
            targets=(places_T < steps_B[:, None]).astype(np.int64),
            target_lengths_B=steps_B,
            rows=rows,
            next_BT4=next_BT4,
            text_BU=padded(self.texts, rows)[0] if self.texts else None,
        )
