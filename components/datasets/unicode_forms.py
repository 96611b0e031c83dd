"""Detects texts with the same letter in two Unicode forms: é as one character (NFC), or as e and a combining accent
(NFD), as on macOS. A model treats them as different characters, and words with them as different words."""

from __future__ import annotations

from typing import Any
from unicodedata import is_normalized


class UnicodeForms:
    """Counts the training texts in each form. Texts aren't normalised: a model writes them as it read them."""

    def __init__(self) -> None:
        self.composed = self.apart = 0

    def add(self, item: Any) -> None:
        """Count an item of the training data: its texts, or lists of words."""
        for text in item if isinstance(item, tuple | list) else (item,):
            if isinstance(text, list):
                text = " ".join(word for word in text if isinstance(word, str))
            if isinstance(text, str) and not text.isascii():
                self.composed += not is_normalized("NFD", text)
                self.apart += not is_normalized("NFC", text)

    def notes(self) -> list[str]:
        """A warning if both forms occur."""
        if not (self.composed and self.apart):
            return []
        return [
            f"warning: {self.apart:,} texts of train have separate accents (NFD), {self.composed:,} don't "
            "(NFC): to the model é and e\u0301 differ. In pandas: table[column].str.normalize('NFC')"
        ]
