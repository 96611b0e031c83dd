"""The average of the weights over training: what is evaluated and kept in place of the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a model's parameters (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).

    `decay` is reached gradually, min(decay, (1 + n) / (10 + n)) after n updates, so that the first weights don't count
    for long.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.parameters = dict(model.named_parameters())
        self.values = {name: value.detach().clone() for name, value in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after `step` updates in."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights for so long."""
        trained = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._set(self.values)
        try:
            yield
        finally:
            self._set(trained)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from these."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
