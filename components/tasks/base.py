"""The Task contract: what is predicted, what is lost, what is measured.

The trainer and the evaluator know nothing else, so they never ask what they are training.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from components.datasets.batches import Batch, Batches
from components.datasets.store import Sequences
from components.layers.base import State


@dataclass(frozen=True)
class Tally:
    """A sum and what to divide it by. Sums add up over batches and are divided once, at the end: a mean of means
    is wrong for ragged batches."""

    total: Tensor | float
    count: float
    of: Literal["mean", "exp_mean"] = "mean"

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.total + other.total, self.count + other.count, self.of)

    @property
    def value(self) -> float:
        """The metric; NaN when nothing was counted."""
        if self.count == 0:
            return math.nan
        mean = float(self.total) / self.count
        return math.exp(min(mean, 700.0)) if self.of == "exp_mean" else mean


class Task(ABC):
    """Keyword-only parameters of a task's constructor are its recipe schema."""

    primary: str  # the metric that decides: early stopping, best weights, promotion
    lower_is_better: ClassVar[bool] = True

    @abstractmethod
    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """The model that the recipe's model section describes."""

    @abstractmethod
    def batches(self, sequences: Sequences, *, batch_size: int, window: int, seed: int, training: bool) -> Batches:
        """A split as batches."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[Tally, State]:
        """What training minimises, as a sum and a count, and the state to carry into the next window."""

    @abstractmethod
    def measure(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[dict[str, Tally], State]:
        """The metrics of one window."""


def to_device(array: Any, model: nn.Module) -> Tensor:
    """A numpy array as a tensor where the model is."""
    device = next(model.parameters()).device
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
