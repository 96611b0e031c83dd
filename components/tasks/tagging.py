"""Tagging: a label for each step (many-to-many of equal length)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.examples import ExampleBatches
from components.datasets.store import Examples
from components.encodings.vocabulary import PAD, SPECIALS
from components.errors import UserError
from components.models.tagger import Tagger
from components.tasks.base import Finding, Table, Tally
from components.tasks.examples import ExampleTask

SHOWN = 500  # rows of the table of predictions


class Tagging(ExampleTask):
    """Every step has a label; steps labelled "" don't count. Metrics, over the steps that count: accuracy, nats, and
    the share of sequences that are right at every step."""

    model = Tagger
    primary = "accuracy"
    counted = "labels"
    lower_is_better = False
    loss_unit = "nats per label"

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> ExampleBatches:
        inputs, targets = split.fields["input"].lengths, split.fields["target"].lengths
        if (inputs != targets).any():
            row = int(np.flatnonzero(inputs != targets)[0])
            raise UserError(
                f"example {row} has {inputs[row]} steps and {targets[row]} labels",
                where="data",
                hint="one label a step",
            )
        return super().batches(split, batch_size=batch_size, window=window, seed=seed, training=training)

    def tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        nats = nn.functional.cross_entropy(
            outputs.flatten(0, 1).float(), targets.flatten(), ignore_index=PAD, reduction="sum"
        )
        return Tally(nats, (targets != PAD).sum().item())

    def metrics(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> dict[str, Tally]:
        loss, counts_BT = self.tally(outputs, targets, lengths_B), targets != PAD
        wrong_BT = (_likeliest(outputs) != targets) & counts_BT
        return {
            "accuracy": Tally(loss.count - wrong_BT.sum().item(), loss.count),
            "nats_per_label": Tally(loss.total.item(), loss.count),
            "whole_sequences_right": Tally((~wrong_BT.any(dim=1)).sum().item(), len(targets)),
        }

    def answers(self, model: nn.Module, outputs: Tensor, lengths_B: np.ndarray) -> list[list[str]]:
        said_BT = _likeliest(outputs).cpu().numpy()
        return [self.encoding.target.decode(row[:length]) for row, length in zip(said_BT, lengths_B, strict=True)]

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """Always the commonest label of training."""
        labels, test_labels = (split.fields["target"].tokens for split in (train, test))
        labels, test_labels = labels[labels != PAD], test_labels[test_labels != PAD]
        if not len(labels) or not len(test_labels):
            return {}
        return {"commonest label": float((test_labels == np.bincount(labels).argmax()).mean())}

    @torch.inference_mode()
    def findings(self, model: nn.Module, split: Examples) -> list[Finding]:
        """Predictions, sequences with the most wrong labels first."""
        if not len(split):
            return []
        model.eval()
        target, rows = self.encoding.target, []
        for batch in self.batches(split, batch_size=64, window=0, seed=0, training=False).epoch():
            outputs, _, _ = self.outputs(model, batch)
            answers = self.answers(model, outputs, batch.lengths_B)
            for row, answer, wanted_T, length in zip(
                batch.rows, answers, batch.targets, batch.target_lengths_B, strict=True
            ):
                wanted = target.decode(wanted_T[:length])
                wrong = sum(a != b for a, b in zip(answer, wanted, strict=True) if b)
                rows.append((wrong, int(row), self.shown_input(split, int(row)), " ".join(wanted), " ".join(answer)))
        rows.sort(key=lambda row: (-row[0], row[1]))
        names: dict[str, list[Any]] = {"wrong": [], "row": [], "input": [], "labels": [], "predicted": []}
        for row in rows[:SHOWN]:
            for column, cell in zip(names.values(), row, strict=True):
                column.append(cell)
        return [Table("predictions", names)]


def _likeliest(outputs: Tensor) -> Tensor:
    return outputs[..., len(SPECIALS) :].argmax(dim=-1) + len(SPECIALS)
