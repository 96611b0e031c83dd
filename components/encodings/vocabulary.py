"""Vocabularies: tokens and their ids. All begin with the same four specials, whose ids are constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from components.errors import UserError

PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIALS = ("<PAD>", "<UNK>", "<BOS>", "<EOS>")

# Limit for stored vocabularies, which are untrusted input: more than any softmax can use, but fits into memory.
LARGEST = 4_000_000
Limit = Annotated[int, Field(ge=1)]


class Vocabulary:
    """V tokens and their ids 0 … V−1: the specials, then each ordinary token once. Immutable.

    An ordinary token may have the name of a special, such as a label "<UNK>"; a lookup by name finds the ordinary one.
    Otherwise the name of a special is unknown, so that no text can contain PAD, BOS or EOS.

    Raises:
        ValueError: `tokens` doesn't begin with the four specials, or an ordinary one occurs twice.
    """

    def __init__(self, tokens: Sequence[str], /) -> None:
        self._tokens = tuple(tokens)
        if self._tokens[: len(SPECIALS)] != SPECIALS:
            raise ValueError(f"a vocabulary must begin with {', '.join(SPECIALS)}, not {self._tokens[: len(SPECIALS)]}")
        self._ids = {token: index for index, token in enumerate(self._tokens[len(SPECIALS) :], len(SPECIALS))}
        if len(self._ids) + len(SPECIALS) != len(self._tokens):
            twice = next(token for token, count in Counter(self._tokens[len(SPECIALS) :]).items() if count > 1)
            raise ValueError(f"the token {twice!r} occurs twice")

    @classmethod
    def build(cls, counts: Mapping[str, int], *, min_count: int = 1, max_size: int | None = None) -> Vocabulary:
        """The tokens seen at least `min_count` times, at most the `max_size` most frequent (without specials).

        Sorted by decreasing count, then by token, so that the same counts give the same ids.
        """
        kept = sorted((-count, token) for token, count in counts.items() if count >= min_count)
        return cls([*SPECIALS, *(token for _, token in kept[:max_size])])

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._tokens == other._tokens

    def __hash__(self) -> int:
        return hash(self._tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens)"

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens in the order of their ids, the specials first."""
        return self._tokens

    def id(self, token: str) -> int:
        """The token's id; UNK if it isn't in the vocabulary."""
        return self._ids.get(token, UNK)

    def token(self, id: int) -> str:
        """The token of an id in 0 … V−1."""
        if not 0 <= id < len(self._tokens):
            raise IndexError(f"id {id} is outside the vocabulary of {len(self)} tokens")
        return self._tokens[id]

    def ids(self, tokens: Iterable[str]) -> np.ndarray:
        """The tokens' ids, int64 [T]; UNK for unknown tokens."""
        return np.fromiter(map(self._ids.get, tokens, repeat(UNK)), dtype=np.int64)

    def one_hot(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """One-hot vectors, x⟨t⟩ in the course's notation: float32 [T, V]. Training uses an embedding instead."""
        index = np.asarray(ids, dtype=np.int64)
        rows = np.zeros((len(index), len(self)), dtype=np.float32)
        rows[np.arange(len(index)), index] = 1.0
        return rows

    def state(self) -> list[str]:
        """The tokens as JSON-ready data."""
        return list(self._tokens)

    @classmethod
    def from_state(cls, state: Any) -> Vocabulary:
        """Rebuild a vocabulary from its `state()`.

        Raises:
            UserError: `state` isn't a vocabulary (a damaged or foreign file).
        """
        problem = None
        if not isinstance(state, list) or not all(isinstance(token, str) for token in state):
            problem = f"a vocabulary must be a list of strings, not {type(state).__name__}"
        elif len(state) > LARGEST:
            problem = f"{len(state):,} tokens; at most {LARGEST:,} are allowed"
        else:
            try:
                return cls(state)
            except ValueError as error:
                problem = str(error)
        raise UserError(problem, where="vocabulary", hint="the stored encoding is damaged: ingest the data again")
