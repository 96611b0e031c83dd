"""Base class of tasks on (input, target) examples: batches of whole examples, without state between them.

Shapes: B batch, T input steps, U target steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.batches.examples import ExampleBatch, ExampleBatches, pad
from components.datasets.store import Examples
from components.encodings.base import Field
from components.encodings.pair import Pair
from components.errors import UserError
from components.layers.base import State
from components.models.attribution import Contributions, first_inputs, integrated_gradients
from components.models.ensemble import Ensemble, members
from components.models.states import arrays, watched
from components.tasks.base import Tally, Task, lengths_to_device, to_device

PREDICT_ROWS = 64  # batch size of predictions
SHOWN = 500  # rows of the table of predictions


class ExampleTask(Task):
    """A subclass defines the model (`model`), the loss and metrics of its outputs, and how to decode them
    (`answers`)."""

    form = "pairs"
    windowed = False
    # combines the outputs of an ensemble's members; None: the task has no ensembles
    join: ClassVar[Callable[[Tensor], Tensor] | None] = None
    target_forms: ClassVar[tuple[str, ...]] = ("tokens",)  # forms of the target's encoding

    def __init__(self, encoding: Pair, framing: str, /) -> None:
        self.encoding = encoding
        if encoding.target.form not in self.target_forms:
            raise UserError(
                f"{encoding.target.kind} gives {encoding.target.form}, but this task needs {self.target_forms[0]}",
                where="encoding.target",
            )

    @classmethod
    def model_kinds(cls) -> dict[str, list[Any]]:
        several = [Ensemble] if cls.join else []
        return {name: [*parts, *several] for name, parts in super().model_kinds().items()}

    @property
    def input_field(self) -> Field:
        return self.encoding.fields["input"]

    @property
    def target_field(self) -> Field:
        return self.encoding.fields["target"]

    @property
    def output_size(self) -> int:
        """Output size of the model."""
        return self.target_field.size or self.target_field.width

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        own = {name: value for name, value in options.items() if name != "ensemble"}
        count = options.get("ensemble", 1)  # missing in models of earlier versions
        if count == 1:
            return self.build_member(own)
        return Ensemble(lambda: self.build_member(own), type(self).join, ensemble=count)

    def build_member(self, options: Mapping[str, Any]) -> nn.Module:
        """One model: the whole of it, or a member of an ensemble."""
        return self.model(self.input_field, self.output_size, **options)

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> ExampleBatches:
        """Whole examples; `window` is ignored."""
        return ExampleBatches(
            split, batch_size=batch_size, seed=seed, training=training, augment=self.encoding.input.augment
        )

    def each_once(self, split: Examples) -> Iterator[ExampleBatch]:
        """The batches of a split's examples, each once, in any order."""
        return self.batches(split, batch_size=PREDICT_ROWS, window=0, seed=0, training=False).epoch()

    def outputs(self, model: nn.Module, batch: ExampleBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The model's outputs on its device; the targets and the input lengths [B] on the CPU, where they are counted
        without synchronising with a GPU."""
        (outputs,), targets, lengths_B = self.outputs_of([model], batch)
        return outputs, targets, lengths_B

    def outputs_of(self, models: Sequence[nn.Module], batch: ExampleBatch) -> tuple[list[Tensor], Tensor, Tensor]:
        """As `outputs`, for several models on one device."""
        inputs, lengths_B = self._inputs(models[0], batch.inputs), lengths_to_device(batch.lengths_B, models[0])
        outputs = [model(inputs, lengths_B) for model in models]
        return outputs, torch.from_numpy(batch.targets), torch.from_numpy(batch.lengths_B)

    def predict(self, model: nn.Module, items: Sequence[Any]) -> list[Any]:
        """The prediction for each input item, in order."""
        arrays = [self.encoding.input.encode(item) for item in items]
        answers: list[Any] = [None] * len(arrays)
        order = np.argsort([len(array) for array in arrays], kind="stable")
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), PREDICT_ROWS):
                rows = order[start : start + PREDICT_ROWS]
                inputs, lengths_B = pad([arrays[row] for row in rows], self.input_field)
                outputs = model(self._inputs(model, inputs), lengths_to_device(lengths_B, model))
                for row, answer in zip(rows, self.answers(model, outputs, lengths_B), strict=True):
                    answers[row] = answer
        return answers

    def alone(self, model: nn.Module, item: Any) -> tuple[np.ndarray, Tensor, np.ndarray]:
        """An input encoded [T, …], as a batch for the model [1, T, …], and its length [1]."""
        steps = self.encoding.input.encode(item)
        inputs, lengths_B = pad([steps], self.input_field)
        return steps, self._inputs(model, inputs), lengths_B

    def contributions(
        self, model: nn.Module, item: Any, said: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[np.ndarray, Contributions]:
        """An input encoded [T, …], and the contribution of each of its steps to `said`, a function of the model's
        outputs for N inputs and their lengths [N] that gives float [N, O]."""
        steps, inputs, _ = self.alone(model, item)

        def output(x_NTI: Tensor) -> Tensor:
            lengths = np.full(len(x_NTI), len(steps))
            return said(model(x_NTI, lengths_to_device(lengths, model)), torch.from_numpy(lengths))

        with torch.enable_grad():
            return steps, integrated_gradients(output, first_inputs(model, inputs)[0])

    def states(self, model: nn.Module, item: Any) -> dict[str, np.ndarray]:
        _, inputs, lengths_B = self.alone(model, item)
        with torch.inference_mode(), watched(model) as found:
            model(inputs, lengths_to_device(lengths_B, model))
        pieces = self.encoding.input.pieces(item)
        tokens = {"tokens": np.array(pieces)} if len(pieces) == lengths_B[0] else {}
        return tokens | arrays(found)

    @abstractmethod
    def answers(self, model: nn.Module, outputs: Tensor, lengths_B: np.ndarray) -> list[Any]:
        """Decode the model's outputs for a batch, one answer for each row."""

    @abstractmethod
    def tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        """The loss of a batch, from the results of `outputs`."""

    @abstractmethod
    def metrics(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> dict[str, Tally]:
        """The metrics of a batch, from the results of `outputs`."""

    def training_tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        """The loss of a batch in training, which may be weighted."""
        return self.tally(outputs, targets, lengths_B)

    def loss(self, model: nn.Module, batch: ExampleBatch, state: State | None) -> tuple[Tally, State]:
        """The training loss. For an ensemble it has the value of the members' mean loss and the gradient of their sum,
        so that each member is trained as if it was alone."""
        parts = members(model)
        if len(parts) == 1:
            return self.training_tally(*self.outputs(model, batch)), {}
        outputs, *judged = self.outputs_of(parts, batch)
        tallies = [self.training_tally(own, *judged) for own in outputs]
        total = torch.stack([tally.total for tally in tallies]).sum()
        return Tally(total - total.detach() + total.detach() / len(tallies), tallies[0].count), {}

    def measure(self, model: nn.Module, batch: ExampleBatch, state: State | None) -> tuple[dict[str, Tally], State]:
        return self.metrics(*self.outputs(model, batch)), {}

    def shown_input(self, split: Examples, row: int) -> str:
        """An input as one line, for tables."""
        steps = split.fields["input"][row]
        if self.input_field.frames:
            return f"row {row}, {len(steps)} steps"
        item = self.encoding.input.decode(steps)
        return item if isinstance(item, str) else " ".join(item)

    def _inputs(self, model: nn.Module, inputs: np.ndarray) -> Tensor:
        """Inputs on the model's device; ids get an axis for their one stream."""
        tensor = to_device(inputs, model)
        return tensor if self.input_field.width else tensor.unsqueeze(2)
