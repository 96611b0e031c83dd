"""Generated examples that measure memory: the lag is known, and so is the score of a model without memory."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from components.datasets.made.base import MadeReader

BLANK, RECALL = "-", "?"  # no target; the sign to repeat what was read
ALPHABET = string.ascii_lowercase


@dataclass(kw_only=True, eq=False)
class CopyMemory(MadeReader):
    """Read `length` of `symbols` different symbols, wait, and repeat them after a sign.

    inputs and targets are lists of `lag + 2 · length` symbols: the data, `lag − 1` blanks, the sign to recall and
    `length` blanks; the target is "", which isn't counted, until the data are due. Each symbol is due lag + length
    steps after it was read. Without memory the best is ln(symbols) nats a label and an accuracy of 1/symbols.
    Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016, arXiv:1511.06464 (8 symbols, length 10).
    """

    pairs, kept = True, False

    lag: Annotated[int, Field(ge=1, le=10_000)] = 50
    length: Annotated[int, Field(ge=1, le=1000)] = 10
    symbols: Annotated[int, Field(ge=2, le=26)] = 8
    count: Annotated[int, Field(gt=0)] = 10_000

    @property
    def steps(self) -> int:  # type: ignore[override]
        return self.lag + 2 * self.length

    def made(self, number: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        data = [ALPHABET[index] for index in rng.integers(self.symbols, size=self.length)]
        inputs = [*data, *[BLANK] * (self.lag - 1), RECALL, *[BLANK] * self.length]
        return inputs, [*[""] * (self.lag + self.length), *data]

    @property
    def without_memory(self) -> float:
        """Nats per label of the best model without memory."""
        return math.log(self.symbols)


@dataclass(kw_only=True, eq=False)
class AddingProblem(MadeReader):
    """The sum of the two marked among `lag` numbers.

    inputs: float32 [lag, 2], a number in [0, 1) and a mark, 1 at one step of each half and 0 elsewhere; target: the sum
    of the marked numbers. The constant 1 has a mean squared error of 1/6, the best without memory. Hochreiter &
    Schmidhuber 1997, in the form of Le et al. 2015, arXiv:1504.00941.
    """

    pairs, kept = True, False
    without_memory = 1 / 6

    lag: Annotated[int, Field(ge=2, le=10_000)] = 100
    count: Annotated[int, Field(gt=0)] = 10_000

    @property
    def steps(self) -> int:  # type: ignore[override]
        return self.lag

    def made(self, number: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        inputs = np.zeros((self.lag, 2), dtype=np.float32)
        inputs[:, 0] = rng.random(self.lag, dtype=np.float32)
        half = self.lag // 2
        marked = [rng.integers(half), half + rng.integers(self.lag - half)]
        inputs[marked, 1] = 1.0
        return inputs, float(inputs[marked, 0].sum(dtype=np.float64))
