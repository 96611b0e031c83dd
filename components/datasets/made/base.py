"""Base of readers that generate their items. There are no files: the options and the seed define the data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.datasets.base import Reader


class MadeReader(Reader):
    """`count` items, each a function of the options, the seed and its index only.

    `seed`: seed of the data, independent of the recipe's.
    """

    framing, own = "sequences", True

    def __init__(self, files: Sequence[Path], count: int, seed: int, /) -> None:
        super().__init__(files)
        self.count, self.seed = count, seed
        self._made: list[Any] = []  # cached, because items are read several times

    def items(self) -> Iterator[Any]:
        for number in range(self.count):
            if number == len(self._made):
                self._made.append(self.item(number))
            yield self._made[number]

    @abstractmethod
    def item(self, number: int) -> Any:
        """The item with an index, from 0."""
