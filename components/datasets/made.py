"""What readers share that make their items themselves. No files: the options and the seed are the data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.datasets.base import Reader


class MadeReader(Reader):
    """`count` items, each a function of the options, the seed and its own number alone.

    `seed` is that of the data: the recipe's own changes nothing about them.
    """

    framing, own = "sequences", True

    def __init__(self, files: Sequence[Path], count: int, seed: int, /) -> None:
        super().__init__(files)
        self.count, self.seed = count, seed
        self._made: list[Any] = []  # they are asked for several times

    def items(self) -> Iterator[Any]:
        for number in range(self.count):
            if number == len(self._made):
                self._made.append(self.item(number))
            yield self._made[number]

    @abstractmethod
    def item(self, number: int) -> Any:
        """The item of a number, from 0."""
