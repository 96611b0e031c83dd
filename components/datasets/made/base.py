"""Base of readers that generate their items. There are no files: the options and the seed define the data."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from components.datasets.base import Reader
from components.datasets.packing import feed
from components.errors import UserError
from components.options import options_of
from components.provenance import digest_json

MOST_STEPS = 100_000_000  # in all items together: bounds memory and disk


@dataclass(kw_only=True, eq=False)
class MadeReader(Reader):
    """Items that are functions of the options, the seed and their index only.

    `count`: number of items, for train, val and test together. `seed`: seed of the data, independent of the recipe's.
    """

    framing, own = "sequences", True
    kept: ClassVar[bool] = True  # items are kept, as they are slow to make and read several times
    steps = 1  # of an item, at most, if they may be many

    count: Annotated[int, Field(gt=0)]
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        if self.count * self.steps > MOST_STEPS:
            what = f"{self.count:,} examples of {self.steps:,} steps are more than {MOST_STEPS:,}"
            raise UserError(what, where="data", hint="set a smaller data.count or data.lag")
        self._made: list[Any] = []

    def items(self) -> Iterator[Any]:
        for number in range(self.count):
            if self.kept and number == len(self._made):
                self._made.append(self.item(number))
            yield self._made[number] if self.kept else self.item(number)

    def item(self, number: int) -> Any:
        """The item with an index, from 0."""
        return self.made(number, np.random.default_rng([self.seed, number]))

    @abstractmethod
    def made(self, number: int, rng: np.random.Generator) -> Any:
        """The item with an index, from the generator's random numbers."""

    def digest(self) -> str:
        """Digest of the options and of the first item: numpy may change the numbers that a seed gives."""
        first = hashlib.sha256()
        feed(first, self.item(0))
        options = {name: getattr(self, name) for name in options_of(type(self))}
        return digest_json([type(self).__name__, options, first.hexdigest()])
