"""Generated handwriting: random words in a single-line font."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from components.datasets.made.base import MadeReader
from components.datasets.made.glyphs import GLYPHS, written
from components.ink import Ink

VOWELS = "aeiouy"
CONSONANTS = "".join(sorted(set(GLYPHS) - set(VOWELS)))
MOST_LETTERS = 6  # of a word


@dataclass(kw_only=True, eq=False)
class MadeHandwriting(MadeReader):
    """`count` texts of one to `words` words, each of two to six letters a to z. Size, slant, width, roundness, spacing
    and irregularity vary from text to text. The unit is about a pixel: small letters are 14 to 26 high.

    Equal texts are in the same split.
    """

    files_by = "strokes"

    count: Annotated[int, Field(gt=0, le=100_000)] = 4000
    words: Annotated[int, Field(gt=0, le=10)] = 2

    def made(self, number: int, rng: np.random.Generator) -> Ink:
        return written(" ".join(_word(rng) for _ in range(rng.integers(1, self.words + 1))), rng)

    def group(self, item: Ink) -> str:
        return item.text


def _word(rng: np.random.Generator) -> str:
    """A random word, mostly of alternating vowels and consonants."""
    word, vowel = "", bool(rng.random() < 0.4)
    for _ in range(rng.integers(2, MOST_LETTERS + 1)):
        letters = VOWELS if vowel else CONSONANTS
        word += letters[rng.integers(len(letters))]
        vowel = bool(rng.random() < (0.2 if vowel else 0.8))
    return word
