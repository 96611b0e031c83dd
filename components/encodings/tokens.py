"""Text as words and signs, without the spaces between them: for models that read and don't write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field as Bounds

from components.encodings.symbols import Symbols
from components.encodings.vocabulary import UNK

# A contraction is cut as the Penn Treebank does (does n't, it 's); else a word or a sign. A token has at most 50
# characters: what never ends (a base64 blob) is cut.
TOKEN = re.compile(r"\w{1,50}(?=n['’]t\b)|n['’]t\b|['’](?:s|m|d|re|ve|ll)\b|\w{1,50}|[^\w\s]", re.IGNORECASE)


class Tokens(Symbols):
    """Strings ↔ ids, one a word or sign. Not without loss: `decode` puts one space between any two.

    `hidden`: in training, the share of words that are read as UNK, drawn anew in every epoch, so that the model learns
    to do without any one of them (Iyyer et al. 2015), and what an unknown word says.
    """

    kind = "tokens"
    unit = "word"

    def __init__(
        self,
        *,
        min_count: int = 1,
        max_size: int | None = None,
        lowercase: bool = False,
        hidden: Annotated[float, Bounds(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(min_count=min_count, max_size=max_size, lowercase=lowercase)
        self.hidden = hidden

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return " ".join(self.vocabulary.token(int(id)) for id in ids if id >= UNK)

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        return super(Symbols, self).prompt(text)

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(rng.random(len(ids)) < self.hidden, UNK, ids) if self.hidden else ids

    def options(self) -> dict[str, Any]:
        return super().options() | {"hidden": self.hidden}

    def _tokens(self, item: Sequence[str]) -> list[str]:
        return TOKEN.findall(item.lower() if self.lowercase else item)  # type: ignore[attr-defined, arg-type]
