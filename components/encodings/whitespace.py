"""Text that is already tokenised: tokens are separated by white space, and lines end with <eos>."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.encodings.vocabulary import SPECIALS, UNK
from components.encodings.words import Words

LINE_END = "<eos>"


class Whitespace(Words):
    """Strings ↔ ids, one for each token between white space and one, <eos>, for each line end, as is usual for the Penn
    Treebank and WikiText (Mikolov et al. 2010; Merity et al. 2017). `max_size`: the most frequent tokens are kept, the
    others become UNK.

    `decode` puts one space between two tokens of a line; the original white space is lost.
    """

    kind = "whitespace"

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        tokens = self.vocabulary.tokens
        lines: list[list[str]] = [[]]
        for id in np.asarray(ids).tolist():
            if id < len(SPECIALS) and id != UNK:
                continue
            if tokens[id] == LINE_END:
                lines.append([])
            else:
                lines[-1].append(tokens[id])
        return "\n".join(map(" ".join, lines))

    def label(self, id: int) -> str:
        return "⏎" if self.vocabulary.token(id) == LINE_END else super().label(id)

    def _cut(self, text: str) -> list[str]:
        return text.replace("\n", f" {LINE_END} ").split()
