"""What a person should know of a text before a model reads it: that nothing of it is known, or how it is read."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from components.encodings.vocabulary import UNK
from components.errors import UserError

Text = TypeVar("Text", str, list[str])
FORMS = ("NFC", "NFD")  # the letter é as one sign, or as e and its mark: files of macOS have the second
NAMED = 5  # places in a line
TAKEN_OUT = {"\0": "NUL character", "\ufeff": "byte order mark"}  # as of files


class Reads(Protocol):
    """What is asked of an encoding (`components.encodings.base`, which uses this module)."""

    form: ClassVar[Any]
    unit: ClassVar[Any]

    def encode(self, item: Any) -> Any: ...

    def written(self, id: int) -> str: ...


class Doubts:
    """What there is to tell of many inputs: each thing once, with how many inputs it holds for and the first places."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}

    def add(self, what: str, where: str) -> None:
        """It holds for the input at `where`."""
        self._counts[what] = self._counts.get(what, 0) + 1
        places = self._places.setdefault(what, [])
        if len(places) < NAMED:
            places.append(where)

    def take(self, others: Doubts) -> None:
        """Add what others say of further inputs."""
        for what, count in others._counts.items():
            self._counts[what] = self._counts.get(what, 0) + count
            places = self._places.setdefault(what, [])
            places += others._places[what][: NAMED - len(places)]

    def lines(self) -> list[str]:
        """A line for each thing: "no word is known to the model: 3 inputs (tickets.csv: line 2, line 5, line 9)"."""
        return [
            f"{what}: {count:,} input{'s' * (count > 1)} ({_listed(self._places[what])}{', …' * (count > NAMED)})"
            for what, count in self._counts.items()
        ]


def understood(encoding: Reads, given: Text, where: str, doubts: Doubts, *, exactly: bool = False) -> Text:
    """As `spelled`; `doubts` are also told where nothing of the text is known to the model. A first word that it only
    knows from within texts, after a blank, is read as there, unless the text is to be read `exactly`."""
    text = spelled(encoding, given, where, doubts)
    ids = _ids(encoding, text)
    if isinstance(text, str) and ids is not None and encoding.unit == "word" and (ids == UNK).any() and not exactly:
        within = _ids(encoding, f" {text}")
        if within is not None and within.shape == ids.shape and _cost(encoding, within) < _cost(encoding, ids):
            return f" {text}"
    if ids is not None and nothing_known(encoding, ids):
        doubts.add(f"warning: no {encoding.unit} is known to the model, so its answer means little", where)
    return text


def spelled(encoding: Reads, given: Text, where: str, doubts: Doubts) -> Text:
    """The text, or list of words, as the model is to read it; `doubts` are told what was done to it. NUL characters
    and byte order marks are taken out, as of files. Of its own spelling and the two canonical forms of Unicode the one
    is read of which the model knows most: training left its texts as they were.
    """
    text = given
    for sign, name in TAKEN_OUT.items():
        if any(sign in word for word in text):
            doubts.add(f"{name}s taken out", where)
            text = _each(text, partial(_without, sign))
    own = None if "".join(text).isascii() else _ids(encoding, text)
    for form in FORMS if own is not None else ():
        other = _each(text, partial(unicodedata.normalize, form))
        ids = _ids(encoding, other) if other != text else None
        if ids is not None and _cost(encoding, ids) < _cost(encoding, own):
            doubts.add(f"read as {form}, the form of Unicode that the model knows", where)
            return other
    return text


def _without(sign: str, word: str) -> str:
    return word.replace(sign, "")


def _each(text: Text, change: Callable[[str], str]) -> Text:
    return change(text) if isinstance(text, str) else [change(word) for word in text]


def nothing_known(encoding: Reads, ids: np.ndarray) -> bool:
    """Are some of an item's tokens unknown, and all others blanks and punctuation?"""
    encoding = getattr(encoding, "encoding", encoding)
    if not (ids == UNK).any():
        return False
    written = (encoding.written(int(id)) for id in np.unique(ids))
    return not any(unicodedata.category(sign)[0] not in "PZC" for token in written for sign in token)


def _cost(encoding: Reads, ids: np.ndarray) -> tuple[int, int]:
    """What reading a text so costs: unknown tokens; where none can be unknown, as of bytes, the tokens."""
    return int((ids == UNK).sum()), len(ids) if encoding.unit == "piece" else 0


def _ids(encoding: Reads, text: str | Sequence[str]) -> np.ndarray | None:
    """The ids of a text; None of an encoding that gives no tokens, or where it can't be read, which others refuse."""
    encoding = getattr(encoding, "encoding", encoding)  # whose tokens a bag counts
    if encoding.form != "tokens":
        return None
    try:
        return np.asarray(encoding.encode(text))
    except (UserError, TypeError, ValueError, AttributeError):
        return None


def _listed(places: Sequence[str]) -> str:
    """Places, a file's name once."""
    heads = {place.rpartition(": ")[0] for place in places}
    if len(heads) > 1 or "" in heads:
        return ", ".join(places)
    return f"{heads.pop()}: {', '.join(place.rpartition(': ')[2] for place in places)}"
