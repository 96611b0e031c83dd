"""Regression: one or more numbers for a whole sequence (many-to-one)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.batches.examples import ExampleBatches
from components.datasets.store import Examples
from components.encodings.frames import Frames
from components.encodings.pair import Pair
from components.errors import UserError
from components.layers.base import moved
from components.models.ensemble import mean_numbers
from components.models.pooled import Pooled
from components.tasks.base import Finding, Table, Tally
from components.tasks.examples import SHOWN, ExampleTask
from components.tasks.explanation import Explanation, contributed


class Regression(ExampleTask):
    """Metrics, over all numbers of all examples, in the data's units: the mean squared error, mse, and the mean
    absolute error, mae. If the target's encoding standardises, training minimises the squared error in standard
    deviations of the training targets, standardised_mse. That is the primary metric for several numbers, which may have
    different units."""

    model = Pooled
    join = staticmethod(mean_numbers)
    columns = {"values": "numbers"}
    target_forms = ("frames",)
    primary = "mse"
    counted = "numbers"
    measured_in = "squared error"

    def __init__(self, encoding: Pair, framing: str, /) -> None:
        super().__init__(encoding, framing)
        if type(encoding.target) is not Frames:  # not a subclass, such as pictures or motion
            raise UserError("the task regression needs the target encoding {kind: frames}", where="encoding.target")
        if encoding.target.standardise:
            self.measured_in = self.loss_unit = "standardised squared error"
            if self.target_field.width > 1:
                self.primary = "standardised_mse"

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> ExampleBatches:
        lengths = split.fields["target"].lengths
        if (lengths != 1).any():
            row = int(np.flatnonzero(lengths != 1)[0])
            what = f"example {row} has a target of {lengths[row]} frames"
            raise UserError(what, where="data", hint="regression predicts one list of numbers per sequence")
        return super().batches(split, batch_size=batch_size, window=window, seed=seed, training=training)

    def tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        wanted_BK = moved(targets[:, 0], outputs.device)
        return Tally((outputs.float() - wanted_BK).square().sum(), wanted_BK.numel())

    def metrics(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> dict[str, Tally]:
        target = self.encoding.target
        error_BK = (outputs.float().cpu() - targets[:, 0]).double().numpy()
        own_BK = error_BK * target.deviation_W
        sums = {"mse": np.square(own_BK).sum(), "mae": np.abs(own_BK).sum()}
        if target.standardise:
            sums["standardised_mse"] = np.square(error_BK).sum()
        return {name: Tally(float(total), error_BK.size) for name, total in sums.items()}

    def answers(self, model: nn.Module, outputs: Tensor, lengths_B: np.ndarray) -> list[list[float]]:
        """The numbers, in the data's units, rounded to float32's precision."""
        return self.encoding.target.rounded(outputs.float().cpu().numpy())

    def explain(self, model: nn.Module, item: Any, best: int | None = None) -> Explanation:
        """The contribution of each step to each number, in the data's units."""
        target = self.encoding.target
        scale_K, mean_K = (torch.from_numpy(array) for array in (target.deviation_W, target.mean_W))

        def numbers(outputs: Tensor, _: Tensor) -> Tensor:
            return outputs.double() * moved(scale_K, outputs.device) + moved(mean_K, outputs.device)

        steps, found = self.contributions(model, item, numbers)
        count = self.target_field.width
        names = ["value"] if count == 1 else [f"value {k}" for k in range(1, count + 1)]
        return contributed(self.encoding.input, item, steps, found, names, "units of the data")

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """The mean of the training data."""
        values, test_values = train.fields["target"].tokens, test.fields["target"].tokens
        if not len(values) or not len(test_values):
            return {}
        error_BK = test_values.astype(np.float64) - values.mean(0, dtype=np.float64)
        return {"mean": self._of_errors(error_BK * self.encoding.target.deviation_W)}

    def persistence(self, test: Examples, columns: Sequence[int]) -> dict[str, float]:
        """The last value of each column."""
        inputs, targets = test.fields["input"], test.fields["target"]
        if not len(test) or type(self.encoding.input) is not Frames:
            return {}
        last_BK = self.encoding.input.decode(inputs.tokens[inputs.offsets[1:] - 1])[:, list(columns)]
        return {"last value": self._of_errors(self.encoding.target.decode(targets.tokens) - last_BK)}

    def _of_errors(self, error_BK: np.ndarray) -> float:
        """The primary metric, from errors in the data's units."""
        if self.primary != "mse":
            error_BK = error_BK / self.encoding.target.deviation_W
        return float(np.square(error_BK).mean())

    @torch.inference_mode()
    def findings(self, model: nn.Module, split: Examples) -> list[Finding]:
        """Predictions, with the largest errors first."""
        if not len(split):
            return []
        model.eval()
        rows: list[tuple[float, list[float], list[float]]] = []
        for batch in self.each_once(split):
            outputs, targets, _ = self.outputs(model, batch)
            said = self.answers(model, outputs, batch.lengths_B)
            wanted = self.encoding.target.rounded(targets[:, 0].numpy())
            rows += [(float(np.abs(np.subtract(a, b)).max()), b, a) for a, b in zip(said, wanted, strict=True)]
        rows = sorted(rows, key=lambda row: -row[0])[:SHOWN]
        names = ("largest_error", "target", "predicted")
        return [Table("predictions", {name: [str(row[i]) for row in rows] for i, name in enumerate(names)})]
