"""Text as characters: each code point is a token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from components.encodings.base import Encoding
from components.encodings.vocabulary import SPECIALS, UNK, Limit, Vocabulary

BATCH = 1 << 20  # characters counted at once: one histogram for many short items
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Characters(Encoding):
    """Strings ↔ ids, one per code point. `max_size`: the most frequent characters are kept, the others become UNK."""

    kind = "characters"
    unit = "char"

    def __init__(self, *, min_count: Limit = 1, max_size: Limit | None = None, lowercase: bool = False) -> None:
        self.min_count, self.max_size, self.lowercase = min_count, max_size, lowercase
        self.vocabulary = Vocabulary(SPECIALS)

    @property
    def vocabulary(self) -> Vocabulary:
        """The known characters; setting it rebuilds the look-up tables."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._code_points = np.zeros(len(vocabulary), dtype="<u4")
        characters = vocabulary.tokens[len(SPECIALS) :]
        self._code_points[len(SPECIALS) :] = [ord(character) for character in characters]
        self._code_points[UNK] = ord(UNKNOWN)
        # The last entry is for all unknown code points (`take` clips to it).
        known = self._code_points[len(SPECIALS) :]
        self._table = np.full(int(known.max(initial=0)) + 2, UNK, dtype=np.int64)
        self._table[known] = np.arange(len(SPECIALS), len(vocabulary))

    def fit(self, items: Iterable[str]) -> None:
        histogram = np.zeros(0, dtype=np.int64)  # indexed by code point, up to the highest one seen
        batch: list[str] = []
        length = 0
        for item in items:
            batch.append(item)
            length += len(item)
            if length >= BATCH:
                histogram = self._add("".join(batch), histogram)
                batch, length = [], 0
        histogram = self._add("".join(batch), histogram)
        seen = np.flatnonzero(histogram)
        counts = {chr(code): int(histogram[code]) for code in seen}
        self.vocabulary = Vocabulary.build(counts, min_count=self.min_count, max_size=self.max_size)

    def encode(self, item: str) -> np.ndarray:
        return np.take(self._table, self._codes(item), mode="clip")

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        index = np.asarray(ids, dtype=np.int64)
        shown = index[(index >= len(SPECIALS)) | (index == UNK)]
        return self._code_points[shown].tobytes().decode("utf-32-le", "surrogatepass")

    def pieces(self, item: str) -> list[str]:
        # lower case may have more characters: İ
        return list(item) if len(self._codes(item)) == len(item) else list(item.lower())

    def _codes(self, text: str) -> np.ndarray:
        """The text's code points, uint32 [T]."""
        return np.frombuffer((text.lower() if self.lowercase else text).encode("utf-32-le", "surrogatepass"), "<u4")

    def _add(self, text: str, histogram: np.ndarray) -> np.ndarray:
        counted = np.bincount(self._codes(text), minlength=len(histogram))
        counted[: len(histogram)] += histogram
        return counted
