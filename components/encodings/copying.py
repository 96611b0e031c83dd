"""Candidates for a model that copies: the tokens some bars before the next one, and how well they match so far.

Music repeats: a part is played twice, a phrase begins like the one before. The repeated bar is some eighty tokens
away, more than recurrent networks remember note for note. So an encoding of music gives, for each of a few lags, the
token at that distance (the candidate) and how many of the latest notes matched their candidates. Both depend on the
piece so far. T tokens, L lags.
"""

from __future__ import annotations

import numpy as np

from components.encodings.base import Encoding, Field, Wrapped
from components.encodings.sections import Sections
from components.encodings.vocabulary import PAD

MATCHES = 7  # classes of a match's length in notes: 0, 1, 2, 3, 4, 5 to 7, 8 or more
LONGEST = 8  # longest pattern, in intervals
_APART = 1 << 10  # greater than the difference of two intervals
_CLASS = np.array([0, 1, 2, 3, 4, 5, 5, 5, 6])


def match_classes(
    ids: np.ndarray, candidates_TL: np.ndarray, begins_T: np.ndarray, decides_T: np.ndarray | None = None
) -> np.ndarray:
    """Number of consecutive notes up to each of the ids [T] that were equal to the candidates, as classes, int64
    [T, L].

    A token that isn't the candidate ends the match; with `decides_T` only tokens that it marks. `begins_T` marks notes
    and rests, which are counted; other tokens, such as their lengths, aren't.
    """
    hits = np.zeros(candidates_TL.shape, dtype=bool)
    hits[1:] = (ids[1:, None] == candidates_TL[:-1]) & (candidates_TL[:-1] != PAD)
    counted = np.cumsum(hits & begins_T[:, None], axis=0)
    kept = hits if decides_T is None else hits | ~decides_T[:, None]
    before = np.maximum.accumulate(np.where(kept, 0, counted), axis=0)
    return match_class(counted - before)


def match_class(length: np.ndarray) -> np.ndarray:
    """The class of a match of `length` notes or intervals."""
    return _CLASS[np.minimum(length, len(_CLASS) - 1)]


def latest(marked: np.ndarray) -> np.ndarray:
    """For each index of bool [T], the index of the latest True up to it; −1 if there is none."""
    return np.maximum.accumulate(np.where(marked, np.arange(len(marked)), -1)) if len(marked) else marked.astype(int)


def returns(intervals_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each interval, the end of the latest earlier occurrence of the longest run that ends here, and the run's
    length, up to LONGEST; both int64 [N], −1 and 0 if there is none."""
    source_N, longest_N = np.full(len(intervals_N), -1), np.zeros(len(intervals_N), dtype=np.int64)
    code_N = np.zeros(len(intervals_N) + 1, dtype=np.int64)  # equal for equal preceding runs
    for length in range(1, LONGEST + 1):
        ends = np.arange(length - 1, len(intervals_N))
        _, codes = np.unique(code_N[ends] * _APART + intervals_N[ends], return_inverse=True)
        order = np.argsort(codes, kind="stable")
        again = codes[order[1:]] == codes[order[:-1]]
        if not again.any():
            break
        here, there = ends[order[1:][again]], ends[order[:-1][again]]
        source_N[here], longest_N[here] = there, length
        code_N = np.full(len(intervals_N) + 1, -1)
        code_N[ends + 1] = codes
    return source_N, longest_N


class Copying(Wrapped):
    """An encoding whose context also has L columns of candidates (L for each of several streams) and L of match
    classes. In sampling, the odds of copying interval patterns (the candidates without a lag) are multiplied by
    e^pattern_strength."""

    def __init__(self, encoding: Encoding, pattern_strength: float = 0.0) -> None:
        super().__init__(encoding)
        self.pattern_strength = pattern_strength
        self.copy_lags, self.copy_classes = encoding.copy_lags, encoding.copy_classes
        self.copy_places = encoding.copy_places
        candidates = [field.size for field in encoding.fields.values() for _ in range(self.copy_places)]
        classes = [encoding.copy_classes] * self.copy_places
        self.context_sizes = (*encoding.context_sizes, *candidates, *classes)

    @property
    def fields(self) -> dict[str, Field]:
        return self.encoding.fields

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
        """The bias towards patterns, float64 [L]; 0 for the candidates with a lag."""
        leanings = np.zeros(self.copy_places)
        leanings[len(self.copy_lags) :] = self.pattern_strength
        return leanings


class Formed(Copying):
    """Copying that follows a form. In a section whose letter occurred before, the odds of copying from the latest such
    section are multiplied by e^strength, those of copying from the same bar of a section with another letter divided by
    it. In the last bar of a piece of sections of four bars or more, all are divided: an ending differs from what it
    repeats. So that sections line up, no note or chord crosses a boundary between them, and the metre is constant."""

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
        last = bar == self.sections.total - 1 and self.sections.bars >= 4
        leanings[: len(self.copy_lags)] += self.strength * (
            -1.0 if last else self.sections.leanings(bar, self.copy_lags, unit)
        )
        return leanings
