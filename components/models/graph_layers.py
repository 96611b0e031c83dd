"""The layers of the functional API.

Shapes: B batch, T time, I input features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from components.errors import UserError
from components.kernels.sequence import zero_after_end
from components.layers import base
from components.layers.bidirectional import Bidirectional
from components.layers.stack import Stack
from components.models.graph_symbols import Add, Input, Layer, Multiply, Size, Symbol, bounded
from components.options import options_of
from components.registry import resolve

__all__ = [
    "Activation", "Add", "Concat", "Dropout", "Embedding", "Input", "Last", "LayerNorm", "Linear", "Max", "Mean",
    "Multiply", "Recurrent", "Repeat",
]  # fmt: skip


class Recurrent(Layer):
    """A recurrent layer: a registered cell by name, `num_layers` deep, with the options of the cell and of Stack; or a
    function that makes a layer for an input size; or a layer that implements the Recurrent interface.

    Calls share the weights; each call has its own state. Ids are read as one-hot vectors.
    """

    ids = None
    time = True

    def __init__(
        self,
        cell: str | base.Recurrent | Callable[[int], base.Recurrent],
        /,
        *,
        num_layers: Annotated[int, Field(gt=0, le=64)] = 1,
        bidirectional: bool = False,
        **options: Any,
    ) -> None:
        self.kind = cell if isinstance(cell, str) else "recurrent"
        self.num_layers, self.bidirectional = num_layers, bidirectional
        stack = options_of(Stack)
        self._stack = {name: options.pop(name) for name in stack if name in options}
        # a single plain cell needs no stack: shorter names of weights and states
        self._plain = num_layers == 1 and all(value == stack[name][1] for name, value in self._stack.items())
        self._given = isinstance(cell, base.Recurrent)
        if self._given:
            if options or bidirectional or not self._plain:
                raise UserError("an existing layer can't be given settings", where=self.kind)
            self._make = lambda size: cell
        else:
            make = resolve("cell", cell) if isinstance(cell, str) else cell
            self._make = lambda size: make(size, **options)

    def build(self, source: Symbol) -> nn.Module:
        make = self._make
        if self.bidirectional:
            make = lambda size: Bidirectional(self._make(size), self._make(size))  # noqa: E731
        module = make(source.size) if self._plain else Stack.of(make, source.size, self.num_layers, **self._stack)
        if module.input_size != source.size:
            raise UserError(f"needs {module.input_size} features, not {source}", where=self.label)
        if source.ids and not self._given:
            base.widen_one_hot(module if self._plain else module.layers[0])
        return module

    @property
    def causal(self) -> bool:
        return self.module is None or self.module.causal

    def size_of(self, source: Symbol) -> int:
        return self.module.output_size


class Embedding(Layer):
    """A learned vector for each id."""

    kind = "embedding"
    ids = True

    def __init__(self, size: Size) -> None:
        self.size = bounded(size, self.kind)

    def build(self, source: Symbol) -> nn.Module:
        return nn.Embedding(source.size, self.size)

    def size_of(self, source: Symbol) -> int:
        return self.size


class Linear(Layer):
    """W x + b at every step."""

    kind = "linear"

    def __init__(self, size: Size | None = None, *, bias: bool = True) -> None:
        self.size, self.bias = size, bias

    def build(self, source: Symbol) -> nn.Module:
        if self.size is None:
            raise UserError("needs a size", where=self.label, hint="only output layers get theirs from the task")
        return nn.Linear(source.size, bounded(self.size, self.label), bias=self.bias)

    def size_of(self, source: Symbol) -> int:
        return self.size


class LayerNorm(Layer):
    """Each step's features, normalised by their mean and variance (Ba et al. 2016)."""

    kind = "layer_norm"

    def build(self, source: Symbol) -> nn.Module:
        return nn.LayerNorm(source.size)


class Dropout(Layer):
    """In training, each number is set to 0 with probability `rate`, and the others are scaled up."""

    kind = "dropout"

    def __init__(self, rate: Annotated[float, Field(ge=0, lt=1)] = 0.5) -> None:
        self.rate = rate

    def build(self, source: Symbol) -> nn.Module:
        return nn.Dropout(self.rate)


class Activation(Layer):
    """An elementwise function."""

    kind = "activation"

    def __init__(self, function: Literal["tanh", "sigmoid", "relu", "gelu", "silu"] = "tanh") -> None:
        self.function = function

    def run(self, values: Sequence[Tensor], steps: int | None, lengths_B: Tensor | None) -> Tensor:
        where = torch if self.function in ("tanh", "sigmoid") else nn.functional
        return getattr(where, self.function)(values[0])


class Concat(Layer):
    """The inputs' features, concatenated."""

    kind = "concat"
    merges = True

    def size_of(self, *inputs: Symbol) -> int:
        return sum(symbol.size for symbol in inputs)

    def run(self, values: Sequence[Tensor], steps: int | None, lengths_B: Tensor | None) -> Tensor:
        return torch.cat(list(values), dim=-1)


class Repeat(Layer):
    """One vector per row, repeated at every step (one-to-many)."""

    kind = "repeat"
    time = False

    def gives_time(self, time: bool) -> bool:
        return True

    def run(self, values: Sequence[Tensor], steps: int | None, lengths_B: Tensor | None) -> Tensor:
        (x_BI,) = values
        return x_BI if steps is None else x_BI.unsqueeze(1).expand(-1, steps, -1)


class Pool(Layer):
    """A sequence [B, T, I] reduced to one vector [B, I] (many-to-one). It needs the whole sequence; a row of length 0
    gives zeros."""

    time = True
    causal = False

    def gives_time(self, time: bool) -> bool:
        return False

    def run(self, values: Sequence[Tensor], steps: int | None, lengths_B: Tensor | None) -> Tensor:
        (x_BTI,) = values
        if lengths_B is None:
            lengths_B = torch.full((x_BTI.shape[0],), x_BTI.shape[1], device=x_BTI.device)
        empty_B1 = (lengths_B == 0).unsqueeze(1)
        return self.pool(x_BTI, lengths_B).masked_fill(empty_B1, 0.0)

    def pool(self, x_BTI: Tensor, lengths_B: Tensor) -> Tensor:
        """Pool over the first lengths_B steps; the result for length 0 is ignored."""
        raise NotImplementedError


class Last(Pool):
    """The last step of each row."""

    kind = "last"

    def pool(self, x_BTI: Tensor, lengths_B: Tensor) -> Tensor:
        rows_B = torch.arange(x_BTI.shape[0], device=x_BTI.device)
        return x_BTI[rows_B, (lengths_B - 1).clamp(min=0)]


class Mean(Pool):
    """The mean of each row's steps."""

    kind = "mean"

    def pool(self, x_BTI: Tensor, lengths_B: Tensor) -> Tensor:
        return zero_after_end(x_BTI, lengths_B).sum(dim=1) / lengths_B.clamp(min=1).unsqueeze(1)


class Max(Pool):
    """The maximum of each feature over a row's steps."""

    kind = "max"

    def pool(self, x_BTI: Tensor, lengths_B: Tensor) -> Tensor:
        ended_BT = torch.arange(x_BTI.shape[1], device=x_BTI.device) >= lengths_B.unsqueeze(1)
        return x_BTI.masked_fill(ended_BT.unsqueeze(2), -torch.inf).amax(dim=1)


LAYERS: dict[str, type[Layer]] = {
    one.kind: one
    for one in (Embedding, Linear, LayerNorm, Dropout, Activation, Concat, Add, Multiply, Repeat, Last, Mean, Max)
}
