"""Language model: P(x⟨t⟩ | x⟨1⟩ … x⟨t−1⟩) for the next token of a text or a piece of music (one-to-many).

Metrics: nats per token (by its unit: nats_per_char, nats_per_word, nats_per_token), the same in bits, per other
units of the encoding (nats_per_frame), perplexity, accuracy. All of a sequence's tokens count, its end included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from components.datasets.batches import Batch, Batches, batches
from components.datasets.store import Sequences
from components.encodings.base import Encoding
from components.encodings.vocabulary import PAD
from components.layers.base import State
from components.models.sequence_model import SequenceModel
from components.tasks.base import Tally, Task, to_device


class LanguageModel(Task):
    """`framing` is the store's: "stream" for one long text, "sequences" for pieces of their own."""

    def __init__(self, encoding: Encoding, framing: str, /) -> None:
        self.encoding, self.framing = encoding, framing
        self.primary = f"nats_per_{encoding.unit}"

    def build_model(self, options: Mapping[str, Any]) -> SequenceModel:
        return SequenceModel(len(self.encoding.vocabulary), self.encoding.context_sizes, **options)

    def batches(self, sequences: Sequences, *, batch_size: int, window: int, seed: int, training: bool) -> Batches:
        return batches(
            self.framing,
            sequences,
            self.encoding,
            batch_size=batch_size,
            window=window,
            seed=seed,
            training=training,
        )

    def loss(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[Tally, State]:
        nats, _, count, state = self._forward(model, batch, state)
        return Tally(nats, count), state

    def measure(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[dict[str, Tally], State]:
        nats, logits_BTV, count, state = self._forward(model, batch, state)
        targets_BT = to_device(batch.targets_BT, model)
        correct = ((logits_BTV.argmax(dim=-1) == targets_BT) & (targets_BT != PAD)).sum().item()
        nats, unit = nats.item(), self.encoding.unit
        metrics = {
            f"nats_per_{unit}": Tally(nats, count),
            f"bits_per_{unit}": Tally(nats / math.log(2), count),
            "perplexity": Tally(nats, count, "exp_mean"),
            "accuracy": Tally(correct, count),
        }
        for other, units in batch.units.items():
            metrics[f"nats_per_{other}"] = Tally(nats, units)
        return metrics, state

    def _forward(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, int, State]:
        """Summed nats, logits, how many targets count, and the state after the window."""
        # no lengths: a causal model's outputs don't see the padding after a row's end, and an ended row's state
        # is never read again
        logits_BTV, state = model(to_device(batch.inputs_BTS, model), state)
        targets_BT = to_device(batch.targets_BT, model)
        nats = torch.nn.functional.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=PAD, reduction="sum"
        )
        return nats, logits_BTV, int((batch.targets_BT != PAD).sum()), state
