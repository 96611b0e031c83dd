"""Texts that contain their own label, so that a model need not read the rest."""

from __future__ import annotations

from collections.abc import Iterator

FEWEST = 20  # texts
SHORTEST = 3  # letters of a label: shorter ones are in any text
OWN, OTHERS = 0.9, 0.2  # shares of texts that contain their own label, and that of another text
SHOWN = 60  # characters


class Giveaways:
    """Counts the texts of train with their label in them."""

    def __init__(self) -> None:
        self.texts = self.own = self.compared = self.others = 0
        self.last = self.first = ""

    def add(self, text: str, label: str) -> None:
        """Count a text."""
        if len(label) < SHORTEST:
            return
        text, label = text.casefold(), label.casefold()
        self.texts += 1
        self.own += label in text
        if self.last not in ("", label):
            self.compared += 1
            self.others += self.last in text
        self.last, self.first = label, self.first or text

    def notes(self) -> Iterator[str]:
        """A warning, if most texts contain their own label, and few that of another."""
        often = self.texts >= FEWEST and self.own > OWN * self.texts
        if often and self.compared and self.others < OTHERS * self.compared:
            of = f"{self.own:,} of {self.texts:,} texts of train"
            yield f"warning: {of} contain their own label, as {self.first[:SHOWN]!r}: take it out of the texts"
