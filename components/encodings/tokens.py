"""Text as words and signs without spaces, for models that don't generate text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import regex
from pydantic import Field as Bounds

from components.encodings.base import Field
from components.encodings.splitting import CONTRACTION, LETTER, MARKED, SIGN, WORD
from components.encodings.symbols import Symbols
from components.encodings.vocabulary import UNK

# A contraction, a word, a corpus mark, or a sign.
TOKEN = regex.compile(rf"{LETTER}{{1,50}}(?=n['’]t\b)|{CONTRACTION}|{WORD}|{MARKED}|{SIGN}", regex.IGNORECASE)
BEGINNING = regex.compile(r"\X")  # a grapheme cluster: a letter with its marks


@dataclass(kw_only=True, eq=False)
class Tokens(Symbols):
    """Strings ↔ ids, one per word or sign. Spaces are lost: `decode` puts one between any two tokens.

    `stem`: number of first letters of each word to read besides the word, ids [T, 2], so that forms of a word share
    information. `hidden`: share of words that become UNK in training, with their stems, drawn anew in every epoch
    (Iyyer et al. 2015). `only_stem`: share of words that become UNK in training but keep their stems.
    """

    kind = "tokens"
    reads = "text"
    unit = "word"

    hidden: Annotated[float, Bounds(ge=0, lt=1)] = 0.0
    stem: Annotated[int, Bounds(ge=0, le=50)] = 0
    only_stem: Annotated[float, Bounds(ge=0, lt=1)] = 0.0

    @property
    def fields(self) -> dict[str, Field]:
        return {"tokens": Field(size=len(self.vocabulary), width=2 if self.stem else 0)}

    def encode(self, item: str) -> np.ndarray:
        ids = self.vocabulary.ids(self._tokens(item))
        return ids.reshape(-1, 2) if self.stem else ids

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        words = np.asarray(ids, dtype=np.int64).reshape(-1, 2 if self.stem else 1)[:, 0]
        return " ".join(self.vocabulary.token(int(id)) for id in words if id >= UNK)

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        ids = self.encode(text)
        unknown = int((ids.reshape(-1, 2 if self.stem else 1) == UNK).all(1).sum())
        said = f"{unknown} of {len(ids)} words of the prompt are unknown to the model (read as <UNK>)"
        return ids, [said] if unknown else []

    def split(self, text: str) -> list[str]:
        return TOKEN.findall(text)

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.hidden and not self.only_stem:
            return ids
        hidden = rng.random(len(ids)) < self.hidden
        if not self.stem:
            return np.where(hidden, UNK, ids)
        word_hidden = hidden | (rng.random(len(ids)) < self.only_stem)
        return np.where(np.stack([word_hidden, hidden], axis=1), UNK, ids)

    def _tokens(self, item: str) -> list[str]:  # type: ignore[override]
        """The words, each followed by its stem if `stem` is set. A stem begins with ^, which no word does."""
        words = TOKEN.findall(item.lower() if self.lowercase else item)
        return [part for word in words for part in (word, f"^{self._begin(word)}")] if self.stem else words

    def _looked_up(self, word: str) -> str:
        parts = self._tokens(word)
        return parts[0] if len(parts) == (2 if self.stem else 1) else ""

    def _begin(self, word: str) -> str:
        return word[: self.stem] if word.isascii() else "".join(BEGINNING.findall(word)[: self.stem])
