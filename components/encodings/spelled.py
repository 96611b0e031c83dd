"""Words with their letters, for models with letter embeddings (Ling et al. 2015; Lample et al. 2016)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field as Bounds

from components.encodings.base import Field
from components.encodings.symbols import Symbols
from components.encodings.vocabulary import PAD, SPECIALS, UNK, Vocabulary
from components.errors import UserError

MOST_LETTERS = 512  # size of the letter vocabulary, specials included; other letters are UNK
RARE = 2  # a letter seen fewer times is UNK, so that UNK is trained
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
DIGIT = re.compile(r"\d")


@dataclass(kw_only=True, eq=False)
class Spelled(Symbols):
    """Lists of words (or a text, which is split) ↔ ids [T, 1 + max_letters]: the word's id, then V + the id of each of
    its first `max_letters` letters, padded with 0. Letters keep their case.

    `lowercase`: words are looked up in lower case. `zero_digits`: words are looked up with every digit as 0. In
    training a word seen n times becomes UNK with the probability `word_dropout` / (word_dropout + n), drawn anew in
    every epoch, so that UNK is trained (Kiperwasser & Goldberg 2016); its letters are kept.
    """

    kind = "spelled"
    reads = "text"  # or a list of words
    unit = "word"

    lowercase: bool = True
    zero_digits: bool = True
    max_letters: Annotated[int, Bounds(ge=1, le=100)] = 20
    word_dropout: Annotated[float, Bounds(ge=0)] = 0.25

    def __post_init__(self) -> None:
        self.letters = Vocabulary(SPECIALS)
        self.hidden_V = np.zeros(len(SPECIALS))  # probability that a word becomes UNK in training

    @property
    def fields(self) -> dict[str, Field]:
        return {"tokens": Field(size=len(self.vocabulary) + len(self.letters), width=1 + self.max_letters)}

    def fit(self, items: Iterable[Sequence[str]]) -> None:
        super().fit(items)
        words: Counter[str] = Counter()
        letters: Counter[str] = Counter()
        for item in items:
            words.update(self._tokens(item))
            for word in self.split(item) if isinstance(item, str) else item:
                letters.update(word[: self.max_letters])
        self.letters = Vocabulary.build(letters, min_count=RARE, max_size=MOST_LETTERS - len(SPECIALS))
        counts_V = np.array([words[word] for word in self.vocabulary.tokens])
        self.hidden_V = np.round(self.word_dropout / (self.word_dropout + np.maximum(counts_V, 1)), 6)

    def encode(self, item: Sequence[str] | str) -> np.ndarray:
        words = self.split(item) if isinstance(item, str) else list(item)
        ids = np.zeros((len(words), 1 + self.max_letters), dtype=np.int64)
        ids[:, 0] = self.vocabulary.ids(self._tokens(words))
        for row, word in zip(ids, words, strict=True):
            letters = self.letters.ids(word[: self.max_letters])
            row[1 : 1 + len(letters)] = len(self.vocabulary) + letters
        return ids

    def decode(self, ids: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
        """The words from their letters; the end of a known word that is too long, from the vocabulary."""
        return [self._word(row) for row in np.asarray(ids, dtype=np.int64).tolist()]

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        return self.encode(text), []  # no warning about unknown words: their letters are read

    def written(self, id: int) -> str:
        letter = id - len(self.vocabulary)  # letters come after the words
        return super().written(id) if letter < 0 else self.letters.token(letter) if letter >= len(SPECIALS) else ""

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        hidden = rng.random(len(ids)) < self.hidden_V[ids[:, 0]]
        ids = np.array(ids)
        ids[hidden, 0] = UNK
        return ids

    def learned(self) -> dict[str, Any]:
        return {"letters": self.letters.state(), "hidden": self.hidden_V.tolist()}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `learned`.

        Raises:
            UserError: it doesn't fit the vocabulary, or has too many letters.
        """
        self.letters = Vocabulary.from_state(state["letters"])
        self.hidden_V = np.array(state["hidden"], dtype=np.float64)
        if len(self.letters) > MOST_LETTERS or self.hidden_V.shape != (len(self.vocabulary),):
            what = f"{len(self.letters)} letters and shares for {len(self.hidden_V)} of {len(self.vocabulary)} words"
            raise UserError(what, where="vocabulary", hint="the stored encoding is damaged: ingest the data again")

    def _tokens(self, item: Sequence[str] | str) -> list[str]:
        words = super()._tokens(item)
        return [DIGIT.sub("0", word) for word in words] if self.zero_digits else words

    def _word(self, row: list[int]) -> str:
        V = len(self.vocabulary)
        letters = (id - V if UNK < id - V < len(self.letters) else UNK for id in row[1:] if id != PAD)
        rest = self.vocabulary.token(row[0])[self.max_letters :] if len(SPECIALS) <= row[0] < V else ""
        return "".join(UNKNOWN if id == UNK else self.letters.token(id) for id in letters) + rest
