"""Pairs of texts of which one side is shifted: the translation of the line before, or after."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 200  # pairs looked at together: a line may be missing anywhere in a file
FEWEST = 30
SHIFTS = (1, -1, 2, -2, 3, -3)
SURE = 5.0  # standard errors by which two correlations differ
CLEAR = 0.3  # minimum correlation with the lines that fit better
SHOWN = 40  # characters


class Shifted:
    """Finds blocks of pairs, in the order of the files, whose lengths fit those of neighbouring pairs better.

    A text and its translation have similar lengths: Gale and Church, A program for aligning sentences in bilingual
    corpora (1993).
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.others: list[str] = []
        self.blocks = 0
        self.found: list[tuple[str, int, float, float]] = []  # first text, shift, correlations

    def add(self, text: str, other: str) -> None:
        """Take the next pair."""
        self.texts.append(text)
        self.others.append(other)
        if len(self.texts) == BLOCK:
            self._look()

    def notes(self) -> Iterator[str]:
        """A warning, if blocks are shifted."""
        self._look()
        if self.found:
            text, shift, own, better = self.found[0]
            count, side = abs(shift), "after" if shift > 0 else "before"
            yield (
                f"warning: translations seem to stand {count} pair{'s' * (count > 1)} {side} their texts in "
                f"{len(self.found):,} of {self.blocks:,} stretches of pairs, first about {text[:SHOWN]!r}: lengths "
                f"correlate by {better:.2f} there, within pairs by {own:.2f}. Is a line missing on one side?"
            )

    def _look(self) -> None:
        texts, others, self.texts, self.others = self.texts, self.others, [], []
        if len(texts) < FEWEST:
            return
        self.blocks += 1
        own = _fit(texts, others)
        if 2 * sum(map(str.__eq__, texts[1:], others)) > len(texts):
            return  # a talk: each answer is the next text too
        for shift in SHIFTS:
            ours, theirs = (texts[:-shift], others[shift:]) if shift > 0 else (texts[-shift:], others[:shift])
            better = _fit(ours, theirs)
            # Fisher's z has a standard error of 1 / √(n − 3)
            apart = (np.arctanh(better) - np.arctanh(own)) * np.sqrt((len(ours) - 3) / 2)
            if better > CLEAR and own < better / 2 and apart > SURE:
                self.found.append((texts[0], shift, own, better))
                return


def _fit(texts: list[str], others: list[str]) -> float:
    """The correlation of the logarithms of lengths; 0 if those of one side are all alike."""
    sizes = np.log1p([[len(one) for one in side] for side in (texts, others)])
    return float(np.corrcoef(sizes)[0, 1].clip(-0.999, 0.999)) if sizes.std(axis=1).min() > 1e-9 else 0.0
