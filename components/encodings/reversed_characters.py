"""Text as characters, read from its end to its beginning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.encodings.characters import Characters


class ReversedCharacters(Characters):
    """As `characters`, but texts are read from the end, so a language model predicts what comes before a text: a prompt
    is the end of what it writes. Long texts are reversed in parts of a million characters."""

    kind = "reversed_characters"

    def encode(self, item: str) -> np.ndarray:
        return np.ascontiguousarray(super().encode(item)[::-1])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return super().decode(np.asarray(ids, dtype=np.int64)[::-1])

    def pieces(self, item: str) -> list[str]:
        return super().pieces(item)[::-1]
