"""Warnings about a text before a model reads it: nothing of it is known, or the text was changed."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from components.encodings.vocabulary import UNK
from components.errors import UserError

Text = TypeVar("Text", str, list[str])
FORMS = ("NFC", "NFD")  # é as one code point, or as e and a combining mark (file names of macOS)
NAMED = 5  # places listed in a line
TAKEN_OUT = {"\0": "NUL character", "\ufeff": "byte order mark"}  # also removed from files


class Reads(Protocol):
    """The part of an encoding used here (`components.encodings.base` imports this module)."""

    form: ClassVar[Any]
    unit: ClassVar[Any]

    def encode(self, item: Any) -> Any: ...

    def written(self, id: int) -> str: ...


class Doubts:
    """Warnings about many inputs: each once, with the number of inputs and the first places."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}

    def add(self, what: str, where: str) -> None:
        """Add the warning `what` for the input at `where`."""
        self._counts[what] = self._counts.get(what, 0) + 1
        places = self._places.setdefault(what, [])
        if len(places) < NAMED:
            places.append(where)

    def take(self, others: Doubts) -> None:
        """Add the warnings about further inputs."""
        for what, count in others._counts.items():
            self._counts[what] = self._counts.get(what, 0) + count
            places = self._places.setdefault(what, [])
            places += others._places[what][: NAMED - len(places)]

    def lines(self) -> list[str]:
        """A line for each warning: "no word is known to the model: 3 inputs (tickets.csv: line 2, line 5, line 9)"."""
        return [
            f"{what}: {count:,} input{'s' * (count > 1)} ({_listed(self._places[what])}{', …' * (count > NAMED)})"
            for what, count in self._counts.items()
        ]


def understood(encoding: Reads, given: Text, where: str, doubts: Doubts, *, exactly: bool = False) -> Text:
    """As `spelled`, and adds a warning if the model knows no token of the text. A first word that is only known with a
    preceding space, as within texts, is read with it, unless `exactly`."""
    text = spelled(encoding, given, where, doubts)
    ids = _ids(encoding, text)
    if isinstance(text, str) and ids is not None and encoding.unit == "word" and (ids == UNK).any() and not exactly:
        within = _ids(encoding, f" {text}")
        if within is not None and within.shape == ids.shape and _cost(encoding, within) < _cost(encoding, ids):
            return f" {text}"
    if ids is not None and nothing_known(encoding, ids):
        doubts.add(f"warning: the model knows no {encoding.unit} of it, so its answer is meaningless", where)
    return text


def spelled(encoding: Reads, given: Text, where: str, doubts: Doubts) -> Text:
    """Clean a text, or list of words, for the model; changes are added to `doubts`. NUL characters and byte order marks
    are removed, as from files. Of the original and its two canonical Unicode forms, the one with the fewest unknown
    tokens is chosen, since training doesn't normalise texts."""
    text = given
    for sign, name in TAKEN_OUT.items():
        if any(sign in word for word in text):
            doubts.add(f"{name}s removed", where)
            text = _each(text, methodcaller("replace", sign, ""))
    own = None if "".join(text).isascii() else _ids(encoding, text)
    for form in FORMS if own is not None else ():
        other = _each(text, partial(unicodedata.normalize, form))
        ids = _ids(encoding, other) if other != text else None
        if ids is not None and _cost(encoding, ids) < _cost(encoding, own):
            doubts.add(f"normalised to {form}, the Unicode form of the training data", where)
            return other
    return text


def _each(text: Text, change: Callable[[str], str]) -> Text:
    return change(text) if isinstance(text, str) else [change(word) for word in text]


def nothing_known(encoding: Reads, ids: np.ndarray) -> bool:
    """Whether some of an item's tokens are unknown, and all others are whitespace and punctuation."""
    encoding = getattr(encoding, "encoding", encoding)
    if not (ids == UNK).any():
        return False
    written = (encoding.written(int(id)) for id in np.unique(ids))
    return not any(unicodedata.category(sign)[0] not in "PZC" for token in written for sign in token)


def _cost(encoding: Reads, ids: np.ndarray) -> tuple[int, int]:
    """Number of unknown tokens; for encodings without unknown tokens (bytes) number of tokens."""
    return int((ids == UNK).sum()), len(ids) if encoding.unit == "piece" else 0


def _ids(encoding: Reads, text: str | Sequence[str]) -> np.ndarray | None:
    """The ids of a text; None if the encoding has no tokens or can't encode it (an error is raised elsewhere)."""
    encoding = getattr(encoding, "encoding", encoding)  # of a bag: its inner encoding
    if encoding.form != "tokens":
        return None
    try:
        return np.asarray(encoding.encode(text))
    except (UserError, TypeError, ValueError, AttributeError):
        return None


def _listed(places: Sequence[str]) -> str:
    """Places, with the file's name once if it is the same."""
    heads = {place.rpartition(": ")[0] for place in places}
    if len(heads) > 1 or "" in heads:
        return ", ".join(places)
    return f"{heads.pop()}: {', '.join(place.rpartition(': ')[2] for place in places)}"
