"""Text as subwords, without loss: frequent words whole, rare ones in pieces, none unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from components.encodings.base import Encoding
from components.encodings.merges import LARGEST, Merges
from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.encodings.words import TOKEN

BYTES = 256
MOST_WORDS = 1_000_000  # words to learn the merges from; far more than needed


class Subwords(Encoding):
    """Strings ↔ ids: the bytes of UTF-8 with the `merges` most frequent pairs merged, within words (byte-pair encoding,
    Sennrich et al. 2016; on bytes, Radford et al. 2019). A piece has at most 16 bytes.

    Every text can be encoded and is decoded exactly (in lower case with `lowercase`). In the vocabulary, a piece is
    named by its bytes as Latin-1, since it may end inside a character.
    """

    kind = "subwords"
    unit = "piece"

    def __init__(
        self, *, merges: Annotated[int, Field(ge=0, le=LARGEST - 2 * BYTES)] = 4000, lowercase: bool = False
    ) -> None:
        self.merges, self.lowercase = merges, lowercase
        self._learn(Merges(BYTES))

    def fit(self, items: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        for item in items:
            counts.update(self._words(item))
            if len(counts) > MOST_WORDS:
                break
        self._learn(Merges.learn(BYTES, (_bytes(word) for word in counts.elements()), BYTES + self.merges))

    def encode(self, item: str) -> np.ndarray:
        return self._merges.apply(_bytes(word) for word in self._words(item)) + len(SPECIALS)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        index = np.asarray(ids, dtype=np.int64)
        found = self._merges.expand(index[index >= len(SPECIALS)] - len(SPECIALS))
        return bytes(found.astype(np.uint8)).decode("utf-8", "replace")

    def label(self, id: int) -> str:
        return (self.decode([id]) or super().label(id)).replace("\n", "⏎").replace(" ", "·")

    def learned(self) -> dict[str, Any]:
        return {"merges": self._merges.pairs}

    def set_learned(self, state: Any) -> None:
        self._learn(Merges(BYTES, state["merges"]))

    def _learn(self, merges: Merges) -> None:
        self._merges = merges
        names = (bytes(expansion).decode("latin-1") for expansion in merges.expansions)
        self.vocabulary = Vocabulary([*SPECIALS, *names])

    def _words(self, text: str) -> list[str]:
        return TOKEN.findall(text.lower() if self.lowercase else text)


def _bytes(word: str) -> np.ndarray:
    return np.frombuffer(word.encode("utf-8", "replace"), np.uint8).astype(np.int64)
