"""Pairs of texts whose sides are swapped: the translation where the text should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from components.datasets.store import SPLITS

MOST_LEARNED = 50_000  # pairs of train whose words are counted
MOST_LOOKED_AT = 2_000  # pairs of a split that are compared, spread evenly
FEWEST, SHARE = 3, 0.02  # swapped pairs that are reported
CLEAR = 2  # a word belongs to a side where it occurs this many times as often as on the other


class Sides:
    """Counts on which side the words of train's pairs occur, and finds pairs whose words belong to the other side."""

    def __init__(self) -> None:
        self.counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self.kept: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
        self.seen = dict.fromkeys(SPLITS, 0)
        self.stride = dict.fromkeys(SPLITS, 1)

    def add(self, split: str, source: str, target: str) -> None:
        """Count a pair."""
        if split == "train" and self.seen[split] < MOST_LEARNED:
            for count, text in zip(self.counts, (source, target), strict=True):
                count.update(words(text))
        if self.seen[split] % self.stride[split] == 0:
            self.kept[split].append((source, target))
            if len(self.kept[split]) > MOST_LOOKED_AT:
                self.kept[split] = self.kept[split][::2]
                self.stride[split] *= 2
        self.seen[split] += 1

    def notes(self) -> Iterator[str]:
        """A warning for each split with swapped pairs."""
        for split, pairs in self.kept.items():
            found = [pair for pair in pairs if self._of(pair[0]) < 0 < self._of(pair[1])]
            if len(found) >= max(FEWEST, SHARE * len(pairs)):
                of = f"{len(found):,} of {len(pairs):,} pairs of {split}"
                shown = " → ".join(repr(text[:40]) for text in found[0])
                yield f"warning: {of} seem to have text and translation swapped, the first: {shown}"

    def _of(self, text: str) -> int:
        """1 if most of the words belong to the source's side, -1 if to the target's, else 0."""
        lean = [(self.counts[0][word], self.counts[1][word]) for word in words(text)]
        sources = sum(here >= max(2, CLEAR * there) for here, there in lean)
        targets = sum(there >= max(2, CLEAR * here) for here, there in lean)
        return (2 * sources > len(lean)) - (2 * targets > len(lean))


def words(text: str) -> set[str]:
    """The words of a text in lower case; its characters if it has no blanks, as in Chinese."""
    found = text.casefold().split()
    return set(found) if len(found) > 1 else set(text)
