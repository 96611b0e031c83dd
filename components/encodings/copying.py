"""What stood so many bars ago where the next token comes: what a model that copies is told of.

Music comes back: a part is played twice, a phrase begins like the one before. The bar it comes back from is some
eighty tokens away, which is more than recurrent networks remember note for note. So an encoding of music says, for
each of a few lags, which token stood there (the candidate) and how well what was written since agrees with what stood
there. Both are functions of the piece so far. T tokens, L lags.
"""

from __future__ import annotations

import numpy as np

from components.encodings.base import Encoding, Wrapped
from components.encodings.sections import Sections
from components.encodings.vocabulary import PAD

MATCHES = 7  # classes of a match's length in notes: 0, 1, 2, 3, 4, 5 to 7, 8 and more
_CLASS = np.array([0, 1, 2, 3, 4, 5, 5, 5, 6])


def match_classes(ids: np.ndarray, candidates_TL: np.ndarray, begins_T: np.ndarray) -> np.ndarray:
    """How many notes in a row, up to each of the ids [T], were the candidates before them; as classes, int64 [T, L].

    A token that isn't the candidate ends a match. `begins_T` says which tokens are notes and rests, which count; what
    else belongs to them, their length, doesn't.
    """
    hits = np.zeros(candidates_TL.shape, dtype=bool)
    hits[1:] = (ids[1:, None] == candidates_TL[:-1]) & (candidates_TL[:-1] != PAD)
    counted = np.cumsum(hits & begins_T[:, None], axis=0)
    before = np.maximum.accumulate(np.where(hits, 0, counted), axis=0)
    return match_class(counted - before)


def match_class(length: np.ndarray) -> np.ndarray:
    """The class of a match of such a length, in notes or intervals."""
    return _CLASS[np.minimum(length, len(_CLASS) - 1)]


class Copying(Wrapped):
    """An encoding whose context says what could be copied too: after its own streams L of candidates, then L of
    matches. Sampling copies interval patterns, the places without a lag, e^pattern_strength times as readily."""

    def __init__(self, encoding: Encoding, pattern_strength: float = 0.0) -> None:
        super().__init__(encoding)
        self.pattern_strength = pattern_strength
        self.copy_lags, self.copy_classes = encoding.copy_lags, encoding.copy_classes
        self.copy_places = encoding.copy_places
        self.context_sizes = (
            *encoding.context_sizes,
            *[len(encoding.vocabulary)] * self.copy_places,
            *[encoding.copy_classes] * self.copy_places,
        )

    def context(self, ids: np.ndarray) -> np.ndarray:
        return np.concatenate([self.encoding.context(ids), *self.copies(ids)], axis=1)

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        return self.encoding.allowed(ids)

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.encoding.augment(ids, rng)

    def counts(self, ids: np.ndarray) -> dict[str, int]:
        return self.encoding.counts(ids)

    def copies(self, ids: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.encoding.copies(ids)

    def leanings(self, ids: np.ndarray) -> np.ndarray | None:
        return self._towards_patterns() if self.pattern_strength else None

    def _towards_patterns(self) -> np.ndarray:
        """Leanings float64 [L]: 0 towards the places with a lag."""
        leanings = np.zeros(self.copy_places)
        leanings[len(self.copy_lags) :] = self.pattern_strength
        return leanings


class Formed(Copying):
    """Copying towards a form: in a section whose letter has been, the place that looks at the latest such section is
    copied from e^strength times as readily, and one that looks at the same bar of another letter's as much less. So
    that sections can be laid over each other, no note or chord lasts over the line between two of them, and the metre
    stays."""

    def __init__(self, encoding: Encoding, sections: Sections, strength: float, pattern_strength: float = 0.0) -> None:
        super().__init__(encoding, pattern_strength)
        self.sections, self.strength = sections, strength

    def copies(self, ids: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.encoding.copies(ids, self.sections)

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        mask = self.encoding.allowed(ids)
        within = mask & ~self.encoding.against(ids, self.sections)
        return within if within.any() else mask

    def leanings(self, ids: np.ndarray) -> np.ndarray:
        bar, unit = self.encoding.bar_reached(ids)
        leanings = self._towards_patterns()
        leanings[: len(self.copy_lags)] += self.strength * self.sections.leanings(bar, self.copy_lags, unit)
        return leanings
