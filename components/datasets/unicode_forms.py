"""Texts in which the same letter is written in two ways: é as one sign (NFC), or as e and its mark (NFD), as macOS has
it. To a model they are two letters, and words with them two words."""

from __future__ import annotations

from typing import Any
from unicodedata import is_normalized


class UnicodeForms:
    """Counts the texts of training in each form. Texts are left as they are: what a model writes is what it read."""

    def __init__(self) -> None:
        self.composed = self.apart = 0

    def add(self, item: Any) -> None:
        """An item of the training data, its texts, or lists of words."""
        for text in item if isinstance(item, tuple | list) else (item,):
            if isinstance(text, list):
                text = " ".join(word for word in text if isinstance(word, str))
            if isinstance(text, str) and not text.isascii():
                self.composed += not is_normalized("NFD", text)
                self.apart += not is_normalized("NFC", text)

    def notes(self) -> list[str]:
        """What a person should know where both ways occur."""
        if not (self.composed and self.apart):
            return []
        return [
            f"warning: {self.apart:,} texts of train have letters with their marks apart (NFD), {self.composed:,} have "
            "them as one sign (NFC): to the model é and e\u0301 differ. In pandas: table[column].str.normalize('NFC')"
        ]
