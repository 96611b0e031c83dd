"""N-gram language model, counted in the training texts.

Shapes: V tokens.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from components.encodings.vocabulary import BOS, EOS, SPECIALS

Ids = tuple[int, ...]


class NGrams:
    """log p of the next token or the end (EOS) after the last `order` − 1 tokens, padded with BOS; a Scorer of
    `components.generation.ctc`.

    Witten-Bell smoothing (Witten & Bell 1991): for a history h that was followed by t(h) different tokens,
    p(w | h) = (c(h w) + t(h) · p(w | h′)) / (c(h) + t(h)), where c are counts and h′ is h without its oldest token. The
    lowest order is uniform over all tokens and the end, so that no text has probability 0.
    """

    remembered = 1 << 16  # histories in the cache, which is cleared when full

    def __init__(self, order: int, size: int, counts: Iterable[tuple[Sequence[int], int]]) -> None:
        """`size`: V, including the specials. `counts`: how often each n-gram of `order` tokens occurs."""
        self.order, self.size = order, size
        self.counts = {tuple(ids): count for ids, count in counts}
        self._after: dict[Ids, Counter[int]] = defaultdict(Counter)
        for ids, count in sorted(self.counts.items()):  # sorted, so that sums don't depend on the order
            for start in range(order):
                self._after[ids[start:-1]][ids[-1]] += count
        self._memory: dict[Ids, np.ndarray] = {}

    @classmethod
    def of(cls, order: int, size: int, texts: Iterable[Sequence[int]]) -> NGrams:
        """Count the n-grams of texts, given as ids without BOS and EOS."""
        counts: Counter[Ids] = Counter()
        for text in texts:
            ids = (*[BOS] * (order - 1), *(int(id) for id in text), EOS)
            counts.update(ids[end - order : end] for end in range(order, len(ids) + 1))
        return cls(order, size, counts.items())

    def state(self) -> list[tuple[Ids, int]]:
        """The counts, for JSON."""
        return sorted(self.counts.items())

    def __call__(self, text: Ids) -> np.ndarray:
        """log p [V] of the next token after the text; −inf for specials that never occur."""
        history = (*[BOS] * (self.order - 1), *text)
        history = history[len(history) - self.order + 1 :]
        if history not in self._memory:
            if len(self._memory) >= self.remembered:
                self._memory = {}
            with np.errstate(divide="ignore"):
                self._memory[history] = np.log(self._probabilities(history))
        return self._memory[history]

    def _probabilities(self, history: Ids) -> np.ndarray:
        p_V = np.zeros(self.size)
        p_V[[EOS, *range(len(SPECIALS), self.size)]] = 1 / (1 + self.size - len(SPECIALS))
        for start in range(len(history), -1, -1):
            after = self._after.get(history[start:])
            if after is None:
                break  # no longer history occurs either
            seen, total = np.array(list(after)), sum(after.values())
            p_V *= len(after) / (total + len(after))
            p_V[seen] += np.array(list(after.values())) / (total + len(after))
        return p_V
