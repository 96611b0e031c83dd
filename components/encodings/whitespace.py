"""Text that its author cut into tokens: what stands between white space, and the ends of lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.encodings.vocabulary import SPECIALS, UNK
from components.encodings.words import Words

LINE_END = "<eos>"


class Whitespace(Words):
    """Strings ↔ ids, one for whatever stands between white space and one, <eos>, for each line end: as the Penn
    Treebank and WikiText are counted (Mikolov et al. 2010; Merity et al. 2017). `max_size` keeps the commonest, the
    others become UNK.

    `decode` puts one space between two tokens of a line: how much white space there was isn't known any more.
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
