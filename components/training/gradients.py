"""The gradient probe: how far back in time the gradient of one step's loss reaches.

For the loss L⟨e⟩ of one step e, the norm ‖∂L⟨e⟩/∂h⟨e−k⟩‖ against the lag k shows whether the gradient vanishes or
explodes (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013, arXiv:1211.5063). The probe also reports the
spectral radius and the largest singular value of the recurrent weights, which bound it. It doesn't affect training: it
draws no random numbers and restores parameter gradients and the model's mode.

B batch, T time, H hidden, G gate rows. Norms are per row, in nats (or the unit of the task's loss) per unit of h,
averaged over the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.batches.examples import ExampleBatch, ExampleBatches
from components.datasets.batches.truncated import Batch, Batches
from components.encodings.vocabulary import PAD
from components.errors import UserError
from components.layers.base import State
from components.training.spectrum import weight_figures
from components.training.state_gradients import Way, probes, recurrent_layers, state_gradients

LAGS = (0, 1, 8, 32, 128)  # those logged as metrics
FADED = 0.01  # relative to the norm at lag 1: below it the gradient counts as vanished
PROBE_ROWS = 8  # of the held-out batch: enough for a mean, cheap compared with an evaluation
KEPT_LAGS = 128  # points of a curve that are kept for the picture
AnyBatch = Batch | ExampleBatch


@dataclass
class LayerGradients:
    """The probe of one recurrent layer. `whole_loss_norm`: ‖∂L/∂h⟨t⟩‖ of the whole loss per token, averaged over t.

    The values of the weights are None if the layer has no recurrent matrix (minGRU). `spectral_radius` is the largest
    |eigenvalue| of the block of the candidate (all of W_hh in the rnn, W_hn in the gru, W_hg in the lstm);
    `spectral_radius_max` and `singular_max` are the largest over all gate blocks.
    """

    lag_norms: list[float]  # ‖∂L⟨e⟩/∂h⟨e−k⟩‖, k = 0, 1, …
    whole_loss_norm: float
    way: Way
    spectral_radius: float | None = None
    spectral_radius_max: float | None = None
    singular_max: float | None = None

    @property
    def reach_steps(self) -> int:
        """The first lag from which on the norm stays below 1 % of its value at lag 1; all lags, if there is none."""
        norms = self.lag_norms
        above = [lag for lag, norm in enumerate(norms) if norm >= FADED * norms[min(1, len(norms) - 1)] > 0]
        return above[-1] + 1 if above else 0


@dataclass
class Reading:
    """The result of one probe, layer by layer, from input to output."""

    global_step: int
    layers: dict[str, LayerGradients] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """The numbers for the tracker: gradients/lag_8, with several layers gradients/0/lag_8 …"""
        values: dict[str, float] = {}
        for name, layer in self.layers.items():
            prefix = f"gradients/{name}/" if len(self.layers) > 1 else "gradients/"
            own = {f"lag_{lag}": layer.lag_norms[lag] for lag in LAGS if lag < len(layer.lag_norms)}
            own |= {"reach_steps": float(layer.reach_steps), "whole_loss_norm": layer.whole_loss_norm}
            for weight in ("spectral_radius", "spectral_radius_max", "singular_max"):
                if (value := getattr(layer, weight)) is not None:
                    own[weight] = value
            values |= {prefix + key: value for key, value in own.items()}
        return values

    def curves(self) -> dict[str, Any]:
        """What the picture needs, as JSON-ready data: evenly chosen lags and their norms."""
        layers = {}
        for name, layer in self.layers.items():
            count = len(layer.lag_norms)
            lags = sorted({round(lag) for lag in np.linspace(0, count - 1, min(count, KEPT_LAGS))})
            layers[name] = {"lags": lags, "norms": [float(f"{layer.lag_norms[lag]:.4g}") for lag in lags]}
        return {"global_step": self.global_step, "layers": layers}


@dataclass
class GradientProbe:
    """Probes a model on the same batch each time.

    `loss(model, batch, state)` is that of a task: a sum over the targets that aren't PAD. The lag is counted back from
    each row's last target, or from step `at` in longer rows, or from the row's end if the row has a single target. With
    `way` None, the backward pass by hand is used if components.kernels supports the layer, otherwise "steps".

    Raises:
        UserError: the targets aren't aligned with the inputs step by step (for example in translation).
    """

    model: nn.Module
    loss: Callable[[nn.Module, Any, State | None], tuple[Any, State]]
    batch: AnyBatch
    _: KW_ONLY
    at: int | None = None
    way: Way | None = None

    def __post_init__(self) -> None:
        _, self.last_B = one_step(self.batch)
        self.last_only, self.ends_B = one_step(self.batch, self.at)

    def measure(self, global_step: int = 0) -> Reading:
        """The norms with the current weights. Two forward and two backward passes over the batch."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()  # no dropout, so no random number is drawn
        try:
            with torch.enable_grad():
                last = state_gradients(self.model, lambda: self._loss(self.last_only)[0], way=self.way)
                whole = state_gradients(self.model, self._per_token, way=self.way)
        finally:
            for module, training in modes:
                module.training = training
        layers = {}
        for name, layer in recurrent_layers(self.model).items():
            way, norms_TB = last[name]
            alive_TB = np.arange(len(norms_TB))[:, None] <= self.last_B
            overall = float(whole[name][1][alive_TB].mean()) if alive_TB.any() else 0.0
            layers[name] = LayerGradients(by_lag(norms_TB, self.ends_B), overall, way, **weight_figures(layer))
        return Reading(global_step, layers)

    def _loss(self, batch: AnyBatch) -> tuple[Tensor, float]:
        tally, _ = self.loss(self.model, batch, None)
        return tally.total, tally.count

    def _per_token(self) -> Tensor:
        total, count = self._loss(self.batch)
        return total / max(1, count)


def held_out_probe(
    model: nn.Module, loss: Callable[[nn.Module, Any, State | None], tuple[Any, State]], batches: Any, /
) -> GradientProbe | None:
    """The probe of a training run; None if there is nothing to probe: no data, no recurrent layer, a layer that reads
    the future, or targets that aren't aligned with the inputs."""
    batch = probe_batch(batches) if probes(model) else None
    if batch is not None and (batch.inputs if isinstance(batch, ExampleBatch) else batch.inputs_BTS).shape[1] < 2:
        return None  # one-to-one: there are no earlier steps
    try:
        return None if batch is None else GradientProbe(model, loss, batch)
    except UserError:
        return None


def probe_batch(batches: Batches | ExampleBatches) -> AnyBatch | None:
    """The window to probe: one without carried state, of the longest sequences (they come last); None without data."""
    count = batches.count(0)
    recent = (batches.at(0, index) for index in reversed(range(max(0, count - 64), count)))
    return next((batch for batch in recent if batch.fresh), batches.at(0, 0) if count else None)


def one_step(batch: AnyBatch, at: int | None = None) -> tuple[AnyBatch, np.ndarray]:
    """The batch with only the last target of each row counted (none after step `at`), and the steps [B] of these
    targets; −1 for rows without targets."""
    examples = isinstance(batch, ExampleBatch)
    targets, inputs = (batch.targets, batch.inputs) if examples else (batch.targets_BT, batch.inputs_BTS)
    if examples and targets.shape[1] == 1 and at is None:
        return batch, batch.lengths_B - 1
    if targets.shape != inputs.shape[:2]:
        hint = "the probe needs one target for each step, or one for the whole sequence"
        raise UserError(
            f"targets of shape {targets.shape} don't fit inputs of shape {inputs.shape}",
            where="gradient probe",
            hint=hint,
        )
    steps = np.arange(targets.shape[1])
    counts = (targets != PAD) & (steps <= (len(steps) if at is None else at))
    ends_B = np.where(counts, steps, -1).max(axis=1, initial=-1)
    only = np.where(steps == ends_B[:, None], targets, PAD)
    return dataclasses.replace(batch, **{"targets" if examples else "targets_BT": only}), ends_B


def by_lag(norms_TB: np.ndarray, ends_B: np.ndarray) -> list[float]:
    """The mean over rows of the norms k steps before each row's end (−1: no end), for every k that occurs."""
    rows = np.arange(len(ends_B))
    means = []
    for lag in range(int(ends_B.max(initial=-1)) + 1):
        known = ends_B >= lag
        means.append(float(norms_TB[ends_B[known] - lag, rows[known]].mean()))
    return means
