"""Symbols, and what a layer is: called on symbols it says what it will give; a Graph runs it on tensors. The layers
that + and * of symbols stand for are here, too.

Shapes: B batch, T time, I input features. A symbol stands for ids [B, T] or numbers [B, T, I], and without time, one
of them a row, for ids [B] or numbers [B, I]. At one step all are [B] or [B, I].
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from components.errors import UserError

MAX_FEATURES = 1 << 20
MAX_INPUTS = 64  # of one merging layer
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
Size = Annotated[int, Field(gt=0, le=MAX_FEATURES)]
_order = itertools.count()


@dataclass(frozen=True, eq=False)
class Symbol:
    """What an input or a layer will give: `size` features, or ids below `size`."""

    size: int
    ids: bool
    time: bool  # one at every step, or one a row
    name: str  # of the input or the layer; the layer's kind while it has no name
    layer: Layer | None = None
    parents: tuple[Symbol, ...] = ()
    call: str = ""  # the name of this one call, where a recipe gives it
    order: int = field(default_factory=_order.__next__)  # parents come before children

    def __add__(self, other: Symbol) -> Symbol:
        return Add()(self, other)

    def __mul__(self, other: Symbol) -> Symbol:
        return Multiply()(self, other)

    def __str__(self) -> str:
        what = f"ids below {self.size}" if self.ids else f"{self.size} features"
        return f"{self.name!r} ({what}{'' if self.time else ', one a row'})"


def Input(name: str, size: int, *, ids: bool = False, time: bool = True) -> Symbol:
    """What the graph is given under `name`: numbers [B, T, size], or int64 ids [B, T] below `size`; without `time`
    one a row, [B, size] or [B]."""
    return Symbol(bounded(size, f"input {name!r}"), ids, time, checked_name(name))


def ancestors(symbols: Iterable[Symbol]) -> set[Symbol]:
    """These symbols and all that they were made from."""
    found: set[Symbol] = set()
    ahead = list(symbols)
    while ahead:
        symbol = ahead.pop()
        if symbol not in found:
            found.add(symbol)
            ahead += symbol.parents
    return found


def checked_name(name: str) -> str:
    """A name that recipes, state keys and torch's module names all can hold.

    Raises:
        UserError: it can't.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"the name {name!r} may hold only letters, digits and _, a letter first, at most 64")
    if hasattr(nn.ModuleDict(), name):
        raise UserError(f"the name {name!r} is taken by torch's own modules", hint=f"for example {name}_layer")
    return name


def bounded(size: int, where: str) -> int:
    """A number of features, or the error that it isn't one."""
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_FEATURES:
        raise UserError(f"the size must be a whole number from 1 to {MAX_FEATURES}, not {size!r}", where=where)
    return size


class Layer:
    """A function of symbols with, perhaps, weights. They are made at the first call; every further call shares them.

    The parameters of a layer's constructor are its settings in a recipe.
    """

    kind: ClassVar[str]
    ids: ClassVar[bool | None] = False  # takes ids (None: both ids and numbers)
    time: ClassVar[bool | None] = None  # takes sequences, True, or one vector a row, False
    merges: ClassVar[bool] = False  # takes two inputs or more
    causal: bool = True  # False: a step's output depends on later steps, so there is no step by itself
    name: str | None = None
    module: nn.Module | None = None
    made_for: tuple[tuple[int, bool], ...] = ()

    def __call__(self, *inputs: Symbol, name: str | None = None) -> Symbol:
        """The symbol of what the layer gives for `inputs`. A name, given at any call, is the layer's.

        Raises:
            UserError: the inputs don't fit the layer, each other, or the weights that it already has.
        """
        if name is not None and self.name not in (None, name):
            raise UserError(f"is named already, it can't be {name!r} too", where=self.label)
        self.name = self.name if name is None else checked_name(name)
        self._check(inputs)
        made_for = tuple((symbol.size, symbol.ids) for symbol in inputs)
        if not self.made_for:
            self.module, self.made_for = self.build(*inputs), made_for
        elif made_for != self.made_for and self.module is not None and any(True for _ in self.module.parameters()):
            ours = " and ".join(str(size) for size, _ in self.made_for)
            raise UserError(
                f"its weights, shared by all its calls, are for {ours} features, not {listed(inputs)}",
                where=self.label,
            )
        size = bounded(self.size_of(*inputs), self.label)
        return Symbol(size, False, self.gives_time(inputs[0].time), self.name or self.kind, self, inputs)

    @property
    def label(self) -> str:
        """The layer in an error: "add 'both'"."""
        return f"{self.kind} {self.name!r}" if self.name else self.kind

    def build(self, *inputs: Symbol) -> nn.Module | None:
        """The module that holds the weights, made for the first inputs."""
        return None

    def size_of(self, *inputs: Symbol) -> int:
        """Features that come out."""
        return inputs[0].size

    def gives_time(self, time: bool) -> bool:
        """Whether a sequence comes out, where one goes in or not."""
        return time

    def run(self, values: Sequence[Tensor], steps: int | None, lengths_B: Tensor | None) -> Tensor:
        """The output for tensors; `steps` is T, or None for one step by itself."""
        assert self.module is not None
        return self.module(*values)

    def _check(self, inputs: Sequence[Symbol]) -> None:
        low, high = (2, MAX_INPUTS) if self.merges else (1, 1)
        if not low <= len(inputs) <= high:
            wanted = f"{low} to {high} inputs" if self.merges else "one input"
            raise UserError(f"takes {wanted}, not {len(inputs)}", where=self.label)
        for symbol in inputs:
            if not isinstance(symbol, Symbol):
                raise UserError(f"is called on symbols, not on {type(symbol).__name__}", where=self.label)
            if self.ids is not None and symbol.ids != self.ids:
                wanted, hint = ("ids", None) if self.ids else ("numbers", "an embedding makes numbers of ids")
                raise UserError(f"takes {wanted}, not {symbol}", where=self.label, hint=hint)
            if self.time is not None and symbol.time != self.time:
                wanted, hint = "one vector a row", None
                if self.time:
                    wanted, hint = "a sequence", "repeat gives one vector to every step"
                raise UserError(f"takes {wanted}, not {symbol}", where=self.label, hint=hint)
        if len({symbol.time for symbol in inputs}) > 1:
            raise UserError(
                f"can't join a sequence and one vector a row: {listed(inputs)}",
                where=self.label,
                hint="repeat gives the vector to every step",
            )


def listed(inputs: Sequence[Symbol]) -> str:
    """The inputs in an error."""
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
    """The sum of inputs of one size."""

    kind = "add"
    operation = torch.add


class Multiply(_Elementwise):
    """The product, number by number, of inputs of one size."""

    kind = "multiply"
    operation = torch.mul
