"""Generated examples that measure memory: the lag is known, and so is the score of a model without memory. There are no
files: the options and the seed define the data."""

from __future__ import annotations

import math
import string
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from components.datasets.base import Reader
from components.errors import UserError
from components.provenance import digest_json

BLANK, RECALL = "-", "?"  # no target; the sign to repeat what was read
ALPHABET = string.ascii_lowercase
MOST_STEPS = 100_000_000  # in all examples together: bounds memory and disk


class SyntheticReader(Reader):
    """Examples (inputs, target), each a function of the options, the seed and its index only.

    `count`: number of examples, for train, val and test together. `seed`: seed of the data, independent of the
    recipe's.
    """

    framing, pairs, own = "sequences", True, True
    name: ClassVar[str]  # in the registry

    def __init__(self, files: Sequence[Path], count: int, seed: int, steps: int, options: dict[str, Any], /) -> None:
        super().__init__(files)
        if count * steps > MOST_STEPS:
            hint = "set a smaller data.count or data.lag"
            raise UserError(
                f"{count:,} examples of {steps:,} steps are more than {MOST_STEPS:,}", where="data", hint=hint
            )
        self.count, self.seed, self.steps = count, seed, steps
        self.options = {"name": self.name, "count": count, "seed": seed, **options}

    def items(self) -> Iterator[tuple[Any, Any]]:
        return (self.example(np.random.default_rng([self.seed, number])) for number in range(self.count))

    @abstractmethod
    def example(self, rng: np.random.Generator) -> tuple[Any, Any]:
        """An example from the generator's random numbers."""

    def digest(self) -> str:
        """Digest of the options and of the first example: numpy may change the numbers that a seed gives."""
        first = repr([np.asarray(part).tolist() for part in next(self.items())])
        return digest_json([self.options, first])


class CopyMemory(SyntheticReader):
    """Read `length` of `symbols` different symbols, wait, and repeat them after a sign.

    inputs and targets are lists of `lag + 2 · length` symbols: the data, `lag − 1` blanks, the sign to recall and
    `length` blanks; the target is "", which isn't counted, until the data are due. Each symbol is due lag + length
    steps after it was read. Without memory the best is ln(symbols) nats a label and an accuracy of 1/symbols.
    Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016, arXiv:1511.06464 (8 symbols, length 10).
    """

    name = "copy-memory"

    def __init__(
        self,
        files: Sequence[Path] = (),
        /,
        *,
        lag: Annotated[int, Field(ge=1, le=10_000)] = 50,
        length: Annotated[int, Field(ge=1, le=1000)] = 10,
        symbols: Annotated[int, Field(ge=2, le=26)] = 8,
        count: Annotated[int, Field(gt=0)] = 10_000,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.lag, self.length, self.symbols = lag, length, ALPHABET[:symbols]
        options = {"lag": lag, "length": length, "symbols": symbols}
        super().__init__(files, count, seed, lag + 2 * length, options)

    def example(self, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        data = [self.symbols[index] for index in rng.integers(len(self.symbols), size=self.length)]
        inputs = [*data, *[BLANK] * (self.lag - 1), RECALL, *[BLANK] * self.length]
        return inputs, [*[""] * (self.lag + self.length), *data]

    @property
    def without_memory(self) -> float:
        """Nats per label of the best model without memory."""
        return math.log(len(self.symbols))


class AddingProblem(SyntheticReader):
    """The sum of the two marked among `lag` numbers.

    inputs: float32 [lag, 2], a number in [0, 1) and a mark, 1 at one step of each half and 0 elsewhere; target: the sum
    of the marked numbers. The constant 1 has a mean squared error of 1/6, the best without memory. Hochreiter &
    Schmidhuber 1997, in the form of Le et al. 2015, arXiv:1504.00941.
    """

    name = "adding"
    without_memory = 1 / 6

    def __init__(
        self,
        files: Sequence[Path] = (),
        /,
        *,
        lag: Annotated[int, Field(ge=2, le=10_000)] = 100,
        count: Annotated[int, Field(gt=0)] = 10_000,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.lag = lag
        super().__init__(files, count, seed, lag, {"lag": lag})

    def example(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        inputs = np.zeros((self.lag, 2), dtype=np.float32)
        inputs[:, 0] = rng.random(self.lag, dtype=np.float32)
        half = self.lag // 2
        marked = [rng.integers(half), half + rng.integers(self.lag - half)]
        inputs[marked, 1] = 1.0
        return inputs, float(inputs[marked, 0].sum(dtype=np.float64))
