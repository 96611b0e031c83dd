"""Word vectors from a text file: a line a word, the word and its numbers with single spaces between them.

GloVe writes them so, and fastText and word2vec with one line before: how many words, and how many numbers each has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from components.datasets.labelled import lines
from components.datasets.text import TextFiles
from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.errors import UserError

LONGEST_NUMBER = 32  # characters
LARGEST = 1e4  # the size of any number in a vector: published ones stay below 100


def read_vectors(path: Path, vocabulary: Vocabulary, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids int64 [N] of the tokens that have a vector in the file, and their vectors, float32 [N, size].

    A token has the vector of its own spelling, without white space around it, or else of its lowercase spelling. Only
    these are kept, so a file may be larger than the memory. gzip is unpacked; a word's first vector counts.

    Raises:
        UserError: it isn't such a file, its vectors have another size, a number isn't one, or no token has a vector.
    """
    exact, lower = defaultdict(list), defaultdict(list)
    for id, token in enumerate(vocabulary.tokens[len(SPECIALS) :], len(SPECIALS)):
        if word := token.strip():
            exact[word].append(id)
            lower[word.lower()].append(id)
    own: dict[int, np.ndarray] = {}
    lowered: dict[int, np.ndarray] = {}
    for number, line in lines(TextFiles(errors="replace", max_bytes=None, dropped=Counter()), path):
        where = f"{path}: line {number}"
        word, _, rest = line.rstrip().partition(" ")
        if number == 1:
            counts = line.split()
            heading = len(counts) == 2 and all(count.isdecimal() for count in counts)
            found = int(counts[1][:9]) if heading else len(rest.split())
            if found != size:
                what = f"its vectors have {found:,} numbers, the model's embedding {size:,}"
                raise UserError(what, where=where, hint=f"set model.embedding_size: {found}" if found else None)
            if heading:
                continue
        if len(rest) > size * LONGEST_NUMBER:
            raise UserError(f"{len(rest):,} characters are too many for {size:,} numbers", where=where)
        if word in exact or word in lower:
            cells = rest.split()
            if len(cells) < size:
                raise UserError(
                    f"{len(cells):,} numbers instead of {size:,}", where=where, hint="the file is cut short"
                )
            if len(cells) > size:
                continue  # a word with a space in it, of which the vocabulary has none
            vector = _numbers(cells, where)
            for id in exact.get(word, ()):
                own.setdefault(id, vector)
            for id in lower.get(word, ()):
                lowered.setdefault(id, vector)
    chosen = lowered | own
    if not chosen:
        hint = "the file must be of the data's language, and the encoding's tokens must be words"
        raise UserError(f"none of the {len(vocabulary):,} tokens has a vector", where=str(path), hint=hint)
    return np.fromiter(chosen, dtype=np.int64), np.stack(list(chosen.values()))


def _numbers(cells: list[str], where: str) -> np.ndarray:
    try:
        vector = np.array(cells, dtype=np.float32)
    except ValueError as error:
        raise UserError(f"isn't a vector: {str(error)[:100]}", where=where) from None
    if not (np.abs(vector) <= LARGEST).all():
        raise UserError(f"a number is not finite or above {LARGEST:g}", where=where)
    return vector
