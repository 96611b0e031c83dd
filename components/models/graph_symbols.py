"""Symbols and layers: a layer called on symbols gives a symbol; a Graph runs it on tensors. Also the layers of + and *
between symbols.

Shapes: B batch, T time, I input features. A symbol stands for ids [B, T] or numbers [B, T, I]; without time, for ids
[B] or numbers [B, I]. In a single step all are [B] or [B, I].
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from components.errors import UserError

Node = TypeVar("Node", bound=Hashable)
MAX_FEATURES = 1 << 20
MAX_INPUTS = 64  # inputs of one merging layer
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
Size = Annotated[int, Field(gt=0, le=MAX_FEATURES)]
_order = itertools.count()


@dataclass(frozen=True, eq=False)
class Symbol:
    """The future output of an input or a layer: `size` features, or ids below `size`."""

    size: int
    ids: bool
    time: bool  # one per step, or one per row
    name: str  # of the input or the layer; default: the layer's kind
    layer: Layer | None = None
    parents: tuple[Symbol, ...] = ()
    call: str = ""  # the name of this call, if a recipe gives one
    order: int = field(default_factory=_order.__next__)  # parents come before children

    def __add__(self, other: Symbol) -> Symbol:
        return Add()(self, other)

    def __mul__(self, other: Symbol) -> Symbol:
        return Multiply()(self, other)

    def __str__(self) -> str:
        what = f"ids below {self.size}" if self.ids else f"{self.size} features"
        return f"{self.name!r} ({what}{'' if self.time else ', one per sequence'})"


def Input(name: str, size: int, *, ids: bool = False, time: bool = True) -> Symbol:
    """A graph's input `name`: numbers [B, T, size], or int64 ids [B, T] below `size`; without `time` one per row,
    [B, size] or [B]."""
    return Symbol(bounded(size, f"input {name!r}"), ids, time, checked_name(name))


def ancestors(ends: Iterable[Node], parents: Callable[[Node], Iterable[Node]]) -> set[Node]:
    """These nodes of a graph and all that they depend on."""
    found: set[Node] = set()
    ahead = list(ends)
    while ahead:
        node = ahead.pop()
        if node not in found:
            found.add(node)
            ahead += parents(node)
    return found


def checked_name(name: str) -> str:
    """Check that a name is valid in recipes, state keys and torch's module names.

    Raises:
        UserError: it isn't valid.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{name!r} isn't a valid name: use at most 64 letters, digits and _, beginning with a letter")
    if hasattr(nn.ModuleDict(), name):
        raise UserError(f"the name {name!r} is taken by torch's own modules", hint=f"for example {name}_layer")
    return name


def bounded(size: int, where: str) -> int:
    """Check a number of features."""
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_FEATURES:
        raise UserError(f"the size must be a whole number from 1 to {MAX_FEATURES}, not {size!r}", where=where)
    return size


class Layer:
    """Base class of layers: functions of symbols. Weights are made at the first call and shared by further calls.

    The parameters of a layer's constructor are its settings in a recipe.
    """

    kind: ClassVar[str]
    ids: ClassVar[bool | None] = False  # takes ids (None: both ids and numbers)
    time: ClassVar[bool | None] = None  # takes sequences (True), one vector per row (False), or both (None)
    merges: ClassVar[bool] = False  # takes two or more inputs
    causal: bool = True  # False: a step's output depends on later steps, so there is no `step`
    name: str | None = None
    module: nn.Module | None = None
    made_for: tuple[tuple[int, bool], ...] = ()

    def __call__(self, *inputs: Symbol, name: str | None = None) -> Symbol:
        """The symbol of the layer's output for `inputs`. `name` names the layer, at any of its calls.

        Raises:
            UserError: the inputs don't fit the layer, each other, or its existing weights.
        """
        if name is not None and self.name not in (None, name):
            raise UserError(f"already has a name, so it can't be called {name!r}", where=self.label)
        self.name = self.name if name is None else checked_name(name)
        self._check(inputs)
        made_for = tuple((symbol.size, symbol.ids) for symbol in inputs)
        if not self.made_for:
            self.module, self.made_for = self.build(*inputs), made_for
        elif made_for != self.made_for and self.module is not None and any(True for _ in self.module.parameters()):
            ours = " and ".join(str(size) for size, _ in self.made_for)
            raise UserError(
                f"its weights, which all calls share, are for {ours} features, not {listed(inputs)}",
                where=self.label,
            )
        size = bounded(self.size_of(*inputs), self.label)
        return Symbol(size, False, self.gives_time(inputs[0].time), self.name or self.kind, self, inputs)

    @property
    def label(self) -> str:
        """The layer in error messages: "add 'both'"."""
        return f"{self.kind} {self.name!r}" if self.name else self.kind

    def build(self, *inputs: Symbol) -> nn.Module | None:
        """The module with the weights, made for the first inputs."""
        return None

    def size_of(self, *inputs: Symbol) -> int:
        """Number of output features."""
        return inputs[0].size

    def gives_time(self, time: bool) -> bool:
        """Whether the output is a sequence, given whether the input is."""
        return time

    def run(self, values: Sequence[Tensor], steps: int | None, lengths_B: Tensor | None) -> Tensor:
        """The output for tensors; `steps` is T, or None for a single step."""
        assert self.module is not None
        return self.module(*values)

    def _check(self, inputs: Sequence[Symbol]) -> None:
        low, high = (2, MAX_INPUTS) if self.merges else (1, 1)
        if not low <= len(inputs) <= high:
            wanted = f"{low} to {high} inputs" if self.merges else "one input"
            raise UserError(f"takes {wanted}, not {len(inputs)}", where=self.label)
        for symbol in inputs:
            if not isinstance(symbol, Symbol):
                raise UserError(f"must be called on symbols, not on {type(symbol).__name__}", where=self.label)
            if self.ids is not None and symbol.ids != self.ids:
                wanted, hint = ("ids", None) if self.ids else ("numbers", "an embedding converts ids to numbers")
                raise UserError(f"takes {wanted}, not {symbol}", where=self.label, hint=hint)
            if self.time is not None and symbol.time != self.time:
                wanted, hint = "one vector per sequence", None
                if self.time:
                    wanted, hint = "a sequence", "use repeat to give one vector to every step"
                raise UserError(f"takes {wanted}, not {symbol}", where=self.label, hint=hint)
        if len({symbol.time for symbol in inputs}) > 1:
            raise UserError(
                f"can't combine a sequence with one vector per sequence: {listed(inputs)}",
                where=self.label,
                hint="use repeat to give the vector to every step",
            )


def listed(inputs: Sequence[Symbol]) -> str:
    """The inputs in error messages."""
    return " and ".join(map(str, inputs))


class _Elementwise(Layer):
    merges = True
    operation: ClassVar[Callable[[Tensor, Tensor], Tensor]]

    def size_of(self, *inputs: Symbol) -> int:
        if len({symbol.size for symbol in inputs}) > 1:
            sizes = " and ".join(f"{symbol.size} ({symbol.name!r})" for symbol in inputs)
            raise UserError(f"the sizes differ: {sizes} features", where=self.label)
        return inputs[0].size

    def run(self, values: Sequence[Tensor], steps: int | None, lengths_B: Tensor | None) -> Tensor:
        total = values[0]
        for value in values[1:]:
            total = type(self).operation(total, value)
        return total


class Add(_Elementwise):
    """The sum of inputs of equal size."""

    kind = "add"
    operation = torch.add


class Multiply(_Elementwise):
    """The elementwise product of inputs of equal size."""

    kind = "multiply"
    operation = torch.mul
