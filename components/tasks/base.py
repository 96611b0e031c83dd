"""The Task contract: what is predicted, what is lost, what is measured.

The trainer and the evaluator know nothing else, so they never ask what they are training.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.batches import Batch, Batches
from components.datasets.store import Split
from components.generation.settings import Sampled
from components.layers.base import State, moved
from components.layers.ragged import lengths_on


def mean(total: Any, count: float) -> float:
    return float(total) / count


def exp_mean(total: Any, count: float) -> float:
    """Perplexity, from nats."""
    return math.exp(min(float(total) / count, 700.0))


@dataclass(frozen=True)
class Tally:
    """Sums over examples, and how a metric is made of them. Sums add up over batches and are put together once, at
    the end: a mean of means is wrong for ragged batches. `total` may be a vector or matrix of sums (true positives and
    errors, a confusion matrix) that `of` knows to read. A loss may count on the device, so that nobody waits for it."""

    total: Any
    count: Any
    of: Callable[[Any, float], float] = mean

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.total + other.total, self.count + other.count, self.of)

    @property
    def value(self) -> float:
        """The metric; NaN when nothing was counted."""
        return math.nan if self.count == 0 else self.of(self.total, self.count)


@dataclass(frozen=True)
class Table:
    """Something to look through, row by row: columns of equal length."""

    name: str
    columns: dict[str, list[Any]]


@dataclass(frozen=True)
class Matrix:
    """Numbers in a grid, to be drawn dark where they are large; `cells`: write each number into its cell."""

    name: str
    title: str
    values: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_axis: str
    column_axis: str
    cells: bool = False


@dataclass(frozen=True)
class Surprise:
    """A held-out sequence, int64 [T + 1], and the nats of each of ids[1:], float64 [T]."""

    name: str
    title: str
    ids: np.ndarray
    nats: np.ndarray


Finding = Table | Matrix | Surprise


@dataclass(frozen=True)
class Made:
    """New items (texts, scores) with how each was sampled, and what the person who asked should know."""

    items: list[Any]
    sampled: list[Sampled]
    warnings: list[str]


class Task(ABC):
    """Made with the encoding and the store's framing; keyword-only parameters are its recipe schema."""

    encoding: Any
    form: ClassVar[str]  # of the encodings that it reads: tokens, frames, pairs
    # keyword-only parameters are the recipe's generation section; None: the task answers, it doesn't write. What
    # writes does so step by step, so its model may not read the future.
    settings: ClassVar[type | None] = None
    # of the answers of a task that has no settings: name → text, number, whole, texts or numbers
    columns: ClassVar[dict[str, str]] = {}
    # reads long sequences in windows: training.tbptt_length and evaluation.window say how long they are
    windowed: ClassVar[bool] = True
    primary: str  # the metric that decides: early stopping, best weights, promotion
    lower_is_better: ClassVar[bool] = True
    loss_unit: str = ""  # of the training loss, where that isn't the primary metric
    counted: str = "tokens"  # what the loss counts
    measured_in: str = "nats"  # the loss

    @classmethod
    @abstractmethod
    def model_kinds(cls) -> dict[str, list[Any]]:
        """What `model.kind` may be, and the classes whose keyword-only parameters are then the model's settings."""

    @classmethod
    def check_graph(cls, options: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
        """The options of `model.kind: graph`, where `model_kinds` has it, with every layer's defaults; problems are
        appended."""
        raise NotImplementedError(f"{cls.__name__} takes no graph")

    @abstractmethod
    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """The model that the recipe's model section describes."""

    def initialise(self, model: nn.Module) -> dict[str, float]:
        """What a new run's model begins with beside random numbers: word vectors, where its recipe names some. Called
        before the first update only; gives figures to log."""
        reader = getattr(model, "encoder", model)  # of two networks the one that reads
        encoding = self.encoding.input if self.form == "pairs" else self.encoding
        return reader.take_vectors(encoding.vocabulary) if getattr(reader, "vectors", None) else {}

    @abstractmethod
    def batches(self, split: Split, *, batch_size: int, window: int, seed: int, training: bool) -> Batches:
        """A split as batches."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[Tally, State]:
        """What training minimises, as a sum and a count, and the state to carry into the next window."""

    def capturable(self, model: nn.Module) -> bool:
        """Whether `loss` never waits for the device and makes no tensor elsewhere: then a GPU can record it."""
        return False

    @abstractmethod
    def measure(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[dict[str, Tally], State]:
        """The metrics of one window."""

    def generate(
        self, model: nn.Module, settings: Any, *, seed: int, progress: Callable[[int], None] = lambda done: None
    ) -> Made:
        """New sequences; same seed, same sequences. Only of a task that has `settings`."""
        raise NotImplementedError(f"{type(self).__name__} doesn't write")

    def rehearse(self, settings: Any) -> list[str]:
        """All of `generate` but the writing, before there is a model: what a person should know.

        Raises:
            UserError: nothing could be written with these settings.
        """
        return []

    def beginning(self, train: Split) -> str:
        """A prompt that any model of these data can start from; "" where none is needed."""
        return ""

    def originals(self, split: Split) -> list[Any]:
        """The items (texts, scores) that a split of a task that writes was made of."""
        return []

    @abstractmethod
    def baselines(self, train: Split, test: Split) -> dict[str, float]:
        """What answers that don't look at the input, or hardly, reach on `test` in the primary metric, by name: the
        commonest label, the mean. At least one unless there is nothing to measure; no model that isn't better than all
        becomes champion by itself."""

    def persistence(self, test: Split, columns: Sequence[int]) -> dict[str, float]:
        """As `baselines`, where the numbers of a target go on from these columns of its input: that nothing changes any
        more."""
        return {}

    def final_metrics(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Figures that are too dear to follow in training (beam search): of the best weights, once for each split."""
        return {}

    def findings(self, model: nn.Module, split: Split) -> list[Finding]:
        """What one wants to look at beside the metrics."""
        return []


def to_device(array: Any, model: nn.Module) -> Tensor:
    """An array as a tensor where the model is; what is there already stays."""
    return moved(torch.as_tensor(array), next(model.parameters()).device)


def lengths_to_device(lengths_B: np.ndarray, model: nn.Module) -> Tensor:
    """The rows' lengths where the model is; its layers still know them on the CPU."""
    return lengths_on(next(model.parameters()).device, torch.from_numpy(lengths_B))
