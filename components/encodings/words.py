"""Text as words, without loss: joining the tokens gives the text back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import regex

from components.encodings.base import Encoding
from components.encodings.splitting import BLANK, LETTER, MARKED, SIGN, SPACE, WORD
from components.encodings.vocabulary import SPECIALS, UNK, Vocabulary, check_limits

# A word (with its apostrophe: don't), a marked token or one sign, each with the single space before it; any other
# whitespace alone. Whitespace stands only at a token's beginning, so a text may be cut before any.
TOKEN = regex.compile(rf" ?{WORD}(?:['’]{LETTER}{{1,12}})?| ?(?:{MARKED}|{SIGN})|{BLANK}")
# Distinct tokens kept while counting: a gigabyte of random words must not fill the memory.
MOST_COUNTED = 2_000_000


class Words(Encoding):
    """Strings ↔ ids, one a word or sign. `max_size` keeps the commonest words, the others become UNK.

    For text that isn't cut into tokens yet; what is (PTB, WikiText) is read as it is by `whitespace`.
    """

    kind = "words"
    unit = "word"

    def __init__(self, *, min_count: int = 1, max_size: int | None = None, lowercase: bool = False) -> None:
        check_limits(min_count, max_size)
        self.min_count, self.max_size, self.lowercase = min_count, max_size, lowercase
        self.vocabulary = Vocabulary(SPECIALS)

    def fit(self, items: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        for item in items:
            counts.update(self._tokens(item))
            if len(counts) > MOST_COUNTED:  # as word2vec does: forget the rarest so far and count on
                rare = 1
                while len(counts) > MOST_COUNTED // 2:
                    counts = Counter({token: count for token, count in counts.items() if count > rare})
                    rare += 1
        self.vocabulary = Vocabulary.build(counts, min_count=self.min_count, max_size=self.max_size)

    def encode(self, item: str) -> np.ndarray:
        return self.vocabulary.ids(self._tokens(item))

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        tokens = self.vocabulary.tokens
        return "".join(tokens[id] for id in np.asarray(ids).tolist() if id >= len(SPECIALS) or id == UNK)

    def cut(self, item: str, position: int) -> int:
        after = SPACE.search(item, position)
        if after is not None:
            return after.start()
        return max((found.start() for found in SPACE.finditer(item, 0, position)), default=position)

    def pieces(self, item: str) -> list[str]:
        written, read = self._cut(item), self._tokens(item)
        return written if len(written) == len(read) else read

    def options(self) -> dict[str, Any]:
        return {"min_count": self.min_count, "max_size": self.max_size, "lowercase": self.lowercase}

    def _tokens(self, text: str) -> list[str]:
        return self._cut(text.lower() if self.lowercase else text)

    def _cut(self, text: str) -> list[str]:
        return TOKEN.findall(text)
