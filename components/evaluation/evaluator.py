"""The evaluation loop: every window of a split once, sums divided by counts at the end."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from components.datasets.store import Sequences
from components.layers.base import detach
from components.tasks.base import Tally, Task


@dataclass(eq=False)
class Evaluator:
    """Evaluates a split. `every`: optimizer updates between evaluations. `batch_size` rows are read at once, in windows
    of `window` steps."""

    task: Task
    _: KW_ONLY
    every: Annotated[int, Field(gt=0)] = 500
    batch_size: Annotated[int, Field(gt=0)] = 32
    window: Annotated[int, Field(gt=0)] = 256

    def evaluate(self, model: nn.Module, sequences: Sequences) -> dict[str, float]:
        """The metrics of a split, without those that have a count of 0."""
        batches = self.task.batches(sequences, batch_size=self.batch_size, window=self.window, seed=0, training=False)
        tallies: dict[str, Tally] = {}
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            state = None
            for batch in batches.epoch():
                measured, state = self.task.measure(model, batch, None if batch.fresh else state)
                state = detach(state)
                for name, tally in measured.items():
                    tallies[name] = tallies[name] + tally if name in tallies else tally
        model.train(was_training)
        return {name: tally.value for name, tally in tallies.items() if tally.count}
