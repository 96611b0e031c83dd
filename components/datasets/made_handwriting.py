"""Handwriting made on the spot: made-up words in a font of single lines. No files: the options and the seed are the
data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from components.datasets.glyphs import GLYPHS, written
from components.datasets.made import MadeReader
from components.ink import Ink
from components.provenance import digest_json

VOWELS = "aeiouy"
CONSONANTS = "".join(sorted(set(GLYPHS) - set(VOWELS)))
MOST_LETTERS = 6  # of a word


class MadeHandwriting(MadeReader):
    """`count` texts of one to `words` words, each of two to six letters a to z, written by a hand that is another one
    every time: size, slant, width, roundness, spacing and unsteadiness vary. The unit is a pixel or so: small letters
    are 14 to 26 high.

    Equal texts stay on one side of a split. `seed` is that of the data: the recipe's own changes nothing about them.
    """

    files_by = "strokes"

    def __init__(
        self,
        files: Sequence[Path] = (),
        /,
        *,
        count: Annotated[int, Field(gt=0, le=100_000)] = 4000,
        words: Annotated[int, Field(gt=0, le=10)] = 2,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(files, count, seed)
        self.words = words

    def item(self, number: int) -> Ink:
        rng = np.random.default_rng([self.seed, number])
        return written(" ".join(_word(rng) for _ in range(rng.integers(1, self.words + 1))), rng)

    def group(self, item: Ink) -> str:
        return item.text

    def digest(self) -> str:
        """Of the options and of the first text: numpy may change what a seed gives."""
        options, first = [self.count, self.words, self.seed], self.item(0)
        return digest_json(["made-handwriting", options, first.text, [stroke.tolist() for stroke in first.strokes]])


def _word(rng: np.random.Generator) -> str:
    """Vowels and consonants alternate as a rule."""
    word, vowel = "", bool(rng.random() < 0.4)
    for _ in range(rng.integers(2, MOST_LETTERS + 1)):
        letters = VOWELS if vowel else CONSONANTS
        word += letters[rng.integers(len(letters))]
        vowel = bool(rng.random() < (0.2 if vowel else 0.8))
    return word
