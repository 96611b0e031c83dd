"""Text as words, without loss: the concatenated tokens are the text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import count

import numpy as np
import regex

from components.encodings.base import Encoding
from components.encodings.fast_pattern import find_all
from components.encodings.splitting import BLANK, LETTER, MARKED, SIGN, SPACE, WORD
from components.encodings.vocabulary import SPECIALS, UNK, Limit, Vocabulary

# A word (with its apostrophe: don't), a corpus mark or a sign, each with a single space before it; any other whitespace
# alone. Whitespace is only at the beginning of a token, so a text may be cut before any whitespace.
TOKEN = regex.compile(rf" ?{WORD}(?:['’]{LETTER}{{1,12}})?| ?(?:{MARKED}|{SIGN})|{BLANK}")
# Largest number of distinct tokens while counting, so that a gigabyte of random words doesn't fill the memory.
MOST_COUNTED = 2_000_000
# Cache of tokenised items from `fit` for `encode`: smallest item in characters, tokens in all (4 bytes each).
LARGE_ITEM, MOST_KEPT = 100_000, 1 << 25


class Words(Encoding):
    """Strings ↔ ids, one per word or sign. `max_size`: the most frequent words are kept, the others become UNK.

    For text that isn't tokenised; for tokenised text (PTB, WikiText) use `whitespace`.
    """

    kind = "words"
    unit = "word"

    def __init__(self, *, min_count: Limit = 1, max_size: Limit | None = None, lowercase: bool = False) -> None:
        self.min_count, self.max_size, self.lowercase = min_count, max_size, lowercase
        self._cut_items: _CutItems | None = None

    def fit(self, items: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        self._cut_items = cut_items = _CutItems()
        for item in items:
            tokens = self._tokens(item)
            if not counts and len(item) >= LARGE_ITEM and cut_items.take(item, tokens):
                continue
            if not counts:
                counts = cut_items.counts()
            counts.update(tokens)
            if len(counts) > MOST_COUNTED:  # drop the rarest so far, as word2vec does
                rare = 1
                while len(counts) > MOST_COUNTED // 2:
                    counts = Counter({token: count for token, count in counts.items() if count > rare})
                    rare += 1
        counts = counts or cut_items.counts()
        self.vocabulary = Vocabulary.build(counts, min_count=self.min_count, max_size=self.max_size)
        cut_items.known(self.vocabulary)

    def encode(self, item: str) -> np.ndarray:
        ids = self._cut_items.ids(item, self.vocabulary) if self._cut_items and len(item) >= LARGE_ITEM else None
        return self.vocabulary.ids(self._tokens(item)) if ids is None else ids

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

    def _tokens(self, text: str) -> list[str]:
        return self._cut(text.lower() if self.lowercase else text)

    def _cut(self, text: str) -> list[str]:
        return find_all(TOKEN, text, SPACE)


class _CutItems:
    """Cache of large tokenised items between `fit` and `encode`, as numbers of tokens."""

    def __init__(self) -> None:
        self.numbers: defaultdict[str, int] = defaultdict(count().__next__)  # in the order of their first occurrence
        self.occurrences = np.zeros(0, dtype=np.int64)
        self.kept: dict[bytes, np.ndarray] = {}
        self.size = 0
        self.vocabulary: Vocabulary | None = None
        self.ids_of_numbers = np.zeros(0, dtype=np.int64)

    def take(self, item: str, tokens: list[str]) -> bool:
        """Count an item's tokens and cache them; False, without counting, if there would be too many."""
        if len(self.numbers) + len(tokens) > MOST_COUNTED or self.size + len(tokens) > MOST_KEPT:
            return False
        numbers = np.fromiter(map(self.numbers.__getitem__, tokens), dtype=np.uint32, count=len(tokens))
        found = np.bincount(numbers, minlength=len(self.numbers))
        found[: len(self.occurrences)] += self.occurrences
        self.occurrences = found
        self.kept[_digest(item)] = numbers
        self.size += len(numbers)
        return True

    def counts(self) -> Counter[str]:
        return Counter(dict(zip(self.numbers, self.occurrences.tolist(), strict=True)))

    def known(self, vocabulary: Vocabulary) -> None:
        """Map the cached tokens to ids of this vocabulary; the tokens' texts are discarded."""
        self.vocabulary, self.ids_of_numbers = vocabulary, vocabulary.ids(self.numbers)
        self.numbers.clear()

    def ids(self, item: str, vocabulary: Vocabulary) -> np.ndarray | None:
        """The ids of an item's tokens, removed from the cache; None if it isn't cached."""
        if vocabulary is not self.vocabulary or not self.kept:
            return None
        numbers = self.kept.pop(_digest(item), None)
        return None if numbers is None else self.ids_of_numbers[numbers]


def _digest(item: str) -> bytes:
    return blake2b(item.encode("utf-8", "surrogatepass"), digest_size=16).digest()
