"""Pairs of an input and a target, each with its encoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from components.encodings.base import Encoding, Field, encoding_from_state
from components.encodings.frames import Frames
from components.options import Nested
from components.registry import resolve

SCALE = 20  # whole-number targets with at most this range may be ratings


class Pair(Encoding):
    """(input, target) ↔ {"input": array, "target": array}.

    Such as a sentence and its label, tags or translation, or frames and a value. `input` and `target` are encodings.
    """

    kind = "pair"
    form = "pairs"
    pairs = True

    def __init__(
        self,
        *,
        input: Annotated[dict[str, Any], Nested("encoding")],
        target: Annotated[dict[str, Any], Nested("encoding")],
    ) -> None:
        self.input, self.target = make(input), make(target)
        self.unit = self.input.unit

    @property
    def reads(self) -> str:  # type: ignore[override]
        return self.input.reads

    @property
    def step_shape(self) -> tuple[int | None, ...]:
        return self.input.step_shape

    @property
    def fields(self) -> dict[str, Field]:
        return {name: next(iter(side.fields.values())) for name, side in self._sides()}

    def fit(self, items: Iterable[tuple[Any, Any]]) -> None:
        for index, (_, side) in enumerate(self._sides()):
            side.fit(_Side(items, index))

    def encode(self, item: tuple[Any, Any]) -> dict[str, np.ndarray]:
        return {name: side.encode(part) for (name, side), part in zip(self._sides(), item, strict=True)}

    def decode(self, ids: Sequence[Any] | np.ndarray) -> Any:
        """The target for the array."""
        return self.target.decode(ids)

    def labels_of(self, item: tuple[Any, Any]) -> Sequence[str]:
        return self.target.labels_of(item[1])

    def remarks(self) -> list[str]:
        remarks = [*self.input.remarks(), *self.target.remarks()]
        target = self.target
        if type(target) is Frames and target.whole and len(target.mean_W) == 1 and np.ptp(target.whole) <= SCALE:
            low, high = target.whole
            remarks.append(
                f"the targets are whole numbers from {low} to {high}: task: {{kind: ordinal}} with encoding.target: "
                "{kind: ratings} predicts whole numbers of that scale, for ratings"
            )
        return remarks

    def options(self) -> dict[str, Any]:
        return {name: {"kind": side.kind, **side.options()} for name, side in self._sides()}

    def learned(self) -> dict[str, Any]:
        return {name: side.state() for name, side in self._sides()}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        self.input, self.target = (encoding_from_state(state[name]) for name, _ in self._sides())

    def _sides(self) -> tuple[tuple[str, Encoding], ...]:
        return ("input", self.input), ("target", self.target)


class _Side:
    """One side of the items, iterable more than once."""

    def __init__(self, items: Iterable[tuple[Any, Any]], index: int) -> None:
        self.items, self.index = items, index

    def __iter__(self) -> Any:
        return (item[self.index] for item in self.items)


def make(section: Mapping[str, Any]) -> Encoding:
    """The encoding for a nested section of a recipe."""
    options = {key: value for key, value in section.items() if key != "kind"}
    return resolve("encoding", section["kind"], where="encoding")(**options)
