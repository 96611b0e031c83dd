"""Sequences of given tokens, and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import regex
from pydantic import Field as Bounds

from components.encodings.base import Encoding
from components.encodings.splitting import CONTRACTION, LETTER, MARKED, NO_SIGN, SIGN, WORD
from components.encodings.vocabulary import PAD, SPECIALS, Limit, Vocabulary
from components.errors import UserError

# Tokens of a text: a mark, an address, a name with @ or #, a contraction, a word, a run of one sign, or a sign.
PIECE = regex.compile(
    rf"{MARKED}|https?://\S{{1,50}}|[@#]{WORD}|{LETTER}{{1,50}}?(?=n['’]t\b)|{CONTRACTION}|{WORD}(?:-{WORD})?"
    rf"|([^{NO_SIGN}])\1{{1,50}}|{SIGN}",
    regex.IGNORECASE,
)


@dataclass(kw_only=True, eq=False)
class Symbols(Encoding):
    """Lists of strings (or a text, which is split) ↔ ids, one per string. `max_size`: the most frequent tokens are
    kept, the others become UNK.

    `known_words`: this many words from the beginning of the file `model.vectors` are known besides those of training,
    so that words that training never saw have their vectors. Published files have the most frequent words first.
    """

    kind = "symbols"
    reads = "symbols"
    unit = "symbol"

    min_count: Limit = 1
    max_size: Limit | None = None
    lowercase: bool = False
    known_words: Annotated[int, Bounds(ge=0, le=1_000_000)] = 0

    def fit(self, items: Iterable[Sequence[str]]) -> None:
        counts: Counter[str] = Counter()
        for item in items:
            counts.update(self._tokens(item))
        built = Vocabulary.build(counts, min_count=self.min_count, max_size=self.max_size)
        if self.known_words and not self.vectors_words:
            hint = "set model.vectors to a file of word vectors, or known_words to 0"
            raise UserError("needs a file of word vectors", where="encoding.known_words", hint=hint)
        more = dict.fromkeys(map(self._looked_up, self.vectors_words[: self.known_words]))
        self.vocabulary = Vocabulary([*built.tokens, *(token for token in more if token and token not in built)])

    def encode(self, item: Sequence[str]) -> np.ndarray:
        return self.vocabulary.ids(self._tokens(item))

    def decode(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        return [self.vocabulary.token(int(id)) for id in ids if id >= len(SPECIALS)]

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        return super().prompt(self.split(text))  # type: ignore[arg-type]

    def pieces(self, item: Sequence[str] | str) -> list[str]:
        return self.split(item) if isinstance(item, str) else list(item)

    def split(self, text: str) -> list[str]:
        """The tokens of a text in order: each part between spaces if it is in the vocabulary, else its words and
        signs."""
        tokens = []
        for part in text.split():
            known = self._tokens([part])[0] in self.vocabulary
            tokens += [part] if known else [found.group() for found in PIECE.finditer(part)]
        return tokens

    def _looked_up(self, word: str) -> str:
        """The token for looking up a word; "" if it is split into several."""
        return self._tokens([word])[0]

    def _tokens(self, item: Sequence[str] | str) -> list[str]:
        tokens = self.split(item) if isinstance(item, str) else item
        return [token.lower() for token in tokens] if self.lowercase else list(tokens)


class Labels(Encoding):
    """A label ↔ ids [1]; a list of labels, one for each step, ↔ ids [T]. "" is PAD: a step that is ignored.

    Labels that training never saw are UNK; UNK is never predicted.
    """

    kind = "labels"
    unit = "label"

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in the order of their ids, which begin at 4."""
        return self.vocabulary.tokens[len(SPECIALS) :]

    def fit(self, items: Iterable[str | Sequence[str]]) -> None:
        seen: set[str] = set()
        for item in items:
            seen.update([item] if isinstance(item, str) else item)
        self.vocabulary = Vocabulary([*SPECIALS, *sorted(seen - {""})])

    def encode(self, item: str | Sequence[str]) -> np.ndarray:
        labels = [item] if isinstance(item, str) else list(item)
        ids = self.vocabulary.ids(labels)
        ids[[label == "" for label in labels]] = PAD
        return ids

    def labels_of(self, item: str | Sequence[str]) -> Sequence[str]:
        return [label for label in ([item] if isinstance(item, str) else item) if label]

    def decode(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        return ["" if id < len(SPECIALS) else self.vocabulary.token(int(id)) for id in ids]
