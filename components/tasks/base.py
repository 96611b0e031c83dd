"""The Task contract: model, loss, metrics, generation and prediction.

Trainer and evaluator use only this contract and don't depend on the kind of task.
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

from components.datasets.batches.truncated import Batch, Batches
from components.datasets.store import Split
from components.encodings.sections import Sections
from components.generation.settings import Progress, Sampled, unwatched
from components.layers.base import State, moved
from components.layers.ragged import lengths_on
from components.models.backbone import Backbone
from components.registry import names, resolve


def mean(total: Any, count: float) -> float:
    return float(total) / count


def exp_mean(total: Any, count: float) -> float:
    """Perplexity, from nats."""
    return math.exp(min(float(total) / count, 700.0))


@dataclass(frozen=True)
class Tally:
    """A metric as a sum over examples and a count.

    Sums are added over batches and divided once, at the end; a mean of batch means is wrong for ragged batches. `total`
    can be a vector or matrix of sums (true positives and errors, a confusion matrix) that `of` evaluates. A loss can
    keep its count on the device, so the CPU doesn't wait for it.
    """

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
    """A table to show with the results: columns of equal length."""

    name: str
    columns: dict[str, list[Any]]


@dataclass(frozen=True)
class Matrix:
    """A matrix to draw as a heat map; with `cells`, each cell shows its number. `counts`: if the values are shares, the
    numbers they are computed from, so that those of several runs can be added."""

    name: str
    title: str
    values: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_axis: str
    column_axis: str
    cells: bool = False
    counts: np.ndarray | None = None


@dataclass(frozen=True)
class Surprise:
    """A held-out sequence, int64 [T + 1], and the nats of each of ids[1:], float64 [T]."""

    name: str
    title: str
    ids: np.ndarray
    nats: np.ndarray


@dataclass(frozen=True)
class Future:
    """A forecast with the actual values: `history` [T], then H steps of `actual`, `naive`, and `quantiles` [Q, H] at
    `levels`. `times` [T + H] as datetime64."""

    name: str
    times: np.ndarray
    history: np.ndarray
    actual: np.ndarray
    naive: np.ndarray
    quantiles: np.ndarray
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Fan:
    """Forecasts to draw as a fan chart, one panel for each."""

    name: str
    title: str
    futures: tuple[Future, ...]


@dataclass(frozen=True)
class Thresholds:
    """Scores of examples for the class `positive` (float [N]) and whether they belong to it (bool [N]), to draw curves
    over the threshold. Both classes occur."""

    name: str
    title: str
    positive: str
    scores: np.ndarray
    is_positive: np.ndarray


Finding = Table | Matrix | Surprise | Fan | Thresholds


@dataclass(frozen=True)
class Made:
    """Generated items (texts, scores), how each was sampled, warnings for the user, and the requested form."""

    items: list[Any]
    sampled: list[Sampled]
    warnings: list[str]
    sections: Sections | None = None


class Task(ABC):
    """Base class of tasks. Created from the encoding and the store's framing; keyword-only parameters define the
    settings of the recipe's task section."""

    encoding: Any
    form: ClassVar[str]  # form of its encodings: tokens, frames, pairs
    model: ClassVar[type[Backbone]]
    # keyword-only parameters are the recipe's generation section; None: the task predicts, it doesn't generate.
    # Generation is step by step, so its model must be causal.
    settings: ClassVar[type | None] = None
    # a setting, and its values, for comparing samples
    varied: ClassVar[tuple[str, tuple[float, ...]]] = ("temperature", (0.5, 0.8, 1.0, 1.2))
    prompted = True  # whether its model may start from a prompt, if there is such a setting
    # of the answers of a task that predicts: name → text, number, whole, texts or numbers
    columns: ClassVar[dict[str, str]] = {}
    # the columns are lists of equal length: a table of answers has a row for each of their entries
    by_step: ClassVar[bool] = False
    past_only: ClassVar[bool] = False  # its model must be causal, though it doesn't generate
    # reads long sequences in windows of training.tbptt_length and evaluation.window steps
    windowed: ClassVar[bool] = True
    primary: str  # the metric for early stopping, best weights and promotion
    lower_is_better: ClassVar[bool] = True
    loss_unit: str = ""  # unit of the training loss, if that isn't the primary metric
    counted: str = "tokens"  # what the loss is averaged over
    measured_in: str = "nats"  # unit of the loss

    @classmethod
    def model_kinds(cls) -> dict[str, list[Any]]:
        """The values of `model.kind`, and the classes of each; their keyword-only parameters are the settings of the
        model section."""
        return {name: [cls.model, Backbone, resolve("cell", name)] for name in names("cell")}

    @classmethod
    def check_graph(cls, options: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
        """The options of `model.kind: graph` with every layer's defaults, if `model_kinds` has it. Problems are
        appended."""
        raise NotImplementedError(f"{cls.__name__} doesn't support graphs")

    @abstractmethod
    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """The model that the recipe's model section describes."""

    def initialise(self, model: nn.Module) -> dict[str, float]:
        """Initialise the model of a new run beyond random numbers, for example with word vectors. Called once, before
        the first update. Returns metrics to log."""
        reader = getattr(model, "encoder", model)
        encoding = self.encoding.input if self.form == "pairs" else self.encoding
        return reader.take_vectors(encoding.vocabulary) if getattr(reader, "vectors", None) else {}

    def prepare(self, train: Split) -> list[str]:
        """Compute what training needs from the training data, before any batch. Returns notes for the user.

        Raises:
            UserError: a setting doesn't fit the data.
        """
        return []

    def learned(self) -> dict[str, Any]:
        """The part of what `prepare` computed that predictions need too, as JSON. It is saved with a trained model."""
        return {}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore what `learned` returned, instead of `prepare`."""
        if learned:
            raise ValueError(f"the task stored {', '.join(learned)}, which this version doesn't support")

    @abstractmethod
    def batches(self, split: Split, *, batch_size: int, window: int, seed: int, training: bool) -> Batches:
        """A split as batches."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[Tally, State]:
        """The training loss as a sum and a count, and the state to carry to the next window."""

    def capturable(self, model: nn.Module) -> bool:
        """Whether `loss` never waits for the device and creates no tensors elsewhere, so a GPU can record it as a
        graph."""
        return False

    @abstractmethod
    def measure(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[dict[str, Tally], State]:
        """The metrics of one window."""

    def generate(self, model: nn.Module, settings: Any, *, seed: int, progress: Progress = unwatched) -> Made:
        """Generate sequences. The same seed gives the same sequences. Only for tasks with `settings`."""
        raise NotImplementedError(f"{type(self).__name__} doesn't write")

    def rehearse(self, settings: Any) -> list[str]:
        """Check generation settings before there is a model. Returns warnings for the user.

        Raises:
            UserError: nothing can be generated with these settings.
        """
        return []

    def beginning(self, train: Split) -> str:
        """A prompt that any model of these data can start from; "" if none is needed."""
        return ""

    def originals(self, split: Split) -> list[Any]:
        """The items (texts, scores) of a split. Only for tasks that generate."""
        return []

    @abstractmethod
    def baselines(self, train: Split, test: Split) -> dict[str, float]:
        """Primary metric on `test` of trivial predictors, by name: the most common label, the mean. At least one,
        unless there is nothing to measure. A model that isn't better than all of them never becomes champion
        automatically."""

    def persistence(self, test: Split, columns: Sequence[int]) -> dict[str, float]:
        """As `baselines`, for targets that continue these columns of the input: predict the last value."""
        return {}

    def final_metrics(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Metrics that are too slow to compute during training (beam search): for the best weights, once per split."""
        return {}

    def explain(self, model: nn.Module, item: Any, best: int | None = None) -> Any:
        """Explain the model's answer to an input: an `Explanation` without its `answer`, with at most `best` choices.
        Only for tasks that support it; the model is in evaluation mode.

        Raises:
            UserError: there aren't that many choices, or the input is too long.
        """
        raise NotImplementedError(f"{type(self).__name__} explains nothing")

    def states(self, model: nn.Module, item: Any) -> dict[str, np.ndarray]:
        """The model's activations while it reads an item, see `components.models.states`. Only for tasks that support
        it; the model is in evaluation mode."""
        raise NotImplementedError(f"{type(self).__name__} gives no states")

    def findings(self, model: nn.Module, split: Split) -> list[Finding]:
        """Further results to show next to the metrics."""
        return []


def cut_off(sampled: Sequence[Sampled], settings: Any) -> list[str]:
    """A warning about pieces that reached `max_length` before their end."""
    if not (unfinished := sum(not one.ended for one in sampled)):
        return []
    limit = f"generation.max_length ({settings.max_length})"
    return [f"{unfinished} of {len(sampled)} pieces were cut off at {limit}"]


def to_device(array: Any, model: nn.Module) -> Tensor:
    """Convert an array to a tensor on the model's device; a tensor that is already there is returned as it is."""
    return moved(torch.as_tensor(array), next(model.parameters()).device)


def lengths_to_device(lengths_B: np.ndarray, model: nn.Module) -> Tensor:
    """The lengths of the rows on the model's device; the layers keep them on the CPU as well."""
    return lengths_on(next(model.parameters()).device, torch.from_numpy(lengths_B))
