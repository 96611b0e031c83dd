"""Regression: a few numbers for a whole sequence (many-to-one)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.store import Examples
from components.models.pooled import Pooled
from components.tasks.base import Finding, Table, Tally
from components.tasks.examples import ExampleTask

SHOWN = 500  # rows of the table of predictions


class Regression(ExampleTask):
    """The mean squared error, over all numbers of all examples, in the units of the encoded target (which are the
    data's own unless the target's encoding standardises). Metrics: mse, and the mean absolute error, mae."""

    model = Pooled
    target_forms = ("frames",)
    primary = "mse"
    counted = "numbers"
    measured_in = "squared error"

    def tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        wanted_BK = targets[:, 0]
        return Tally((outputs.float() - wanted_BK).square().sum(), wanted_BK.numel())

    def metrics(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> dict[str, Tally]:
        wanted_BK = targets[:, 0]
        error_BK = (outputs.float() - wanted_BK).double()
        return {
            "mse": Tally(error_BK.square().sum().item(), wanted_BK.numel()),
            "mae": Tally(error_BK.abs().sum().item(), wanted_BK.numel()),
        }

    def answers(self, model: nn.Module, outputs: Tensor, lengths_B: np.ndarray) -> list[list[float]]:
        """The numbers, in the data's own units."""
        return self.encoding.target.decode(outputs.float().cpu().numpy()).tolist()

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """Always the mean of training."""
        values, test_values = train.fields["target"].tokens, test.fields["target"].tokens
        if not len(values) or not len(test_values):
            return {}
        return {"mean": float(((test_values - values.mean(0)) ** 2).mean())}

    @torch.inference_mode()
    def findings(self, model: nn.Module, split: Examples) -> list[Finding]:
        """Predictions, the largest errors first."""
        if not len(split):
            return []
        model.eval()
        rows: list[tuple[float, list[float], list[float]]] = []
        for batch in self.batches(split, batch_size=64, window=0, seed=0, training=False).epoch():
            outputs, targets, _ = self.outputs(model, batch)
            said = self.answers(model, outputs, batch.lengths_B)
            wanted = self.encoding.target.decode(targets[:, 0].cpu().numpy()).tolist()
            rows += [(float(np.abs(np.subtract(a, b)).max()), b, a) for a, b in zip(said, wanted, strict=True)]
        rows = sorted(rows, key=lambda row: -row[0])[:SHOWN]
        names = ("largest_error", "target", "predicted")
        return [Table("predictions", {name: [str(row[i]) for row in rows] for i, name in enumerate(names)})]
