"""Weight averaging: the average is evaluated and saved instead of the last weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of a model's parameters (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).

    The decay at update n, from 0, is min(decay, (1 + n) / (10 + n)), so the first weights are forgotten quickly.
    """

    taken: int | None = 1  # updates in the average; None: it hasn't begun

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.values = {name: value.detach().clone() for name, value in self.parameters.items()}

    def update(self, step: int) -> None:
        """Add the current weights to the average, after update `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        self._draw_near(1 - decay)

    def evaluated(self, values: Sequence[float], lower: bool) -> None:
        """Called after each evaluation with the metric of all evaluations so far."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which the model has the averaged weights, if there is an average."""
        if not self.taken:
            yield
            return
        trained = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._set(self.values)
        try:
            yield
        finally:
            self._set(trained)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor], taken: int | None) -> None:
        """Continue from these averages of `taken` updates."""
        self.taken = taken
        for name, value in self.values.items():
            value.copy_(values[name])

    @torch.no_grad()
    def _draw_near(self, share: float) -> None:
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), share)

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])


class TriggeredAverage(Average):
    """NT-ASGD (Merity et al. 2018, arXiv:1708.02182): the mean of the weights after each update, beginning at the first
    evaluation that is worse than the best of all but the last `patience` before it."""

    def __init__(self, model: nn.Module, patience: int) -> None:
        super().__init__(model, 0.0)
        self.patience, self.taken = patience, None

    def update(self, step: int) -> None:
        if self.taken is not None:
            self.taken += 1
            self._draw_near(1 / self.taken)

    def evaluated(self, values: Sequence[float], lower: bool) -> None:
        *before, value = (value if lower else -value for value in values)
        earlier = [one for one in before[: len(before) - self.patience] if not math.isnan(one)]
        if self.taken is None and earlier and not value <= min(earlier):
            self.taken = 0
