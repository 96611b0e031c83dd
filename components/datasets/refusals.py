"""Sequences that an encoding can't take: left out by place and reason, so that one of them costs no other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.datasets.base import Reader
from components.errors import UserError

LISTED = 5  # named in a message
MOST_WHILE_LEARNING = 20  # an encoding stops learning at each: with more of them it is the settings that are wrong


class Accepted(Reader):
    """A reader without the items that were refused. `given` is the index of the item that it gave last."""

    def __init__(self, reader: Reader, refusals: Refusals) -> None:
        self.reader, self.refusals, self.given = reader, refusals, -1
        self.framing, self.files, self.ways_out = reader.framing, reader.files, reader.ways_out
        self.passed_over, self.decided, self.found = reader.passed_over, reader.decided, reader.found
        self.families = reader.families
        self.refused: dict[int, UserError] = {}

    def items(self) -> Iterator[Any]:
        for index, item in enumerate(self.reader.items()):
            if index not in self.refused:
                self.refusals.latest, self.given = self, index
                yield item
        self.refusals.latest = None  # what is refused after the last item isn't that item's fault

    def length(self, item: Any) -> int:
        return self.reader.length(item)

    def group(self, item: Any) -> str | None:
        return self.reader.group(item)

    def family_title(self, item: Any) -> str:
        return self.reader.family_title(item)

    @property
    def dropped(self) -> Counter[str]:
        return self.reader.dropped + Counter(kind_of(error.what) for error in self.refused.values())

    @property
    def continues(self) -> Sequence[int]:
        return self.reader.continues

    @property
    def notes(self) -> list[str]:
        places = self.reader.places(list(self.refused)[:LISTED])
        listed = [f"{place} left out: {self.refused[index].what}" for index, place in places.items()]
        more = len(self.refused) - LISTED
        return self.reader.notes + listed + [f"and {more:,} more left out: the report names them"] * (more > 0)

    @property
    def report(self) -> list[dict[str, Any]]:
        return self.reader.reported({index: error.what for index, error in self.refused.items()})


class Refusals:
    """The readers of an ingestion, each without what the encoding has refused so far."""

    def __init__(self, readers: Mapping[str | None, Reader]) -> None:
        self.latest: Accepted | None = None  # whose item was given last
        self.readers = {split: Accepted(reader, self) for split, reader in readers.items()}

    def __len__(self) -> int:
        return sum(len(reader.refused) for reader in self.readers.values())

    def refuse(self, error: UserError) -> None:
        """Leave the item that was given last out.

        Raises:
            UserError: there is none, or it is a part of a stream, which can't do without it.
        """
        if self.latest is None or self.latest.framing == "stream" or self.latest.given in self.latest.refused:
            raise error
        self.latest.refused[self.latest.given] = error

    def check(self, encoding: str) -> None:
        """Tell whether anything is left.

        Raises:
            UserError: nothing is; with the reasons and the first items.
        """
        if any(True for reader in self.readers.values() for _ in reader.items()):
            return
        errors = [error for reader in self.readers.values() for error in reader.refused.values()]
        counted = Counter(kind_of(error.what) for error in errors)
        reasons = "; ".join(f"{count:,} × {reason}" for reason, count in counted.most_common(LISTED))
        listed = [
            f"  {place}: {reader.refused[index].what}"
            for reader in self.readers.values()
            for index, place in reader.reader.places(list(reader.refused)[:LISTED]).items()
        ]
        first = "\n".join(listed[:LISTED])
        what = f"none of {len(errors):,} sequences can be encoded as {encoding}: {reasons}\n{first}"
        raise UserError(what, where="data", hint=errors[0].hint)


def mismatch(encoding: str, item: Any, error: Exception) -> UserError:
    """What is said where an encoding meets an item that isn't of its kind at all: a text for one of music."""
    names = {"str": "texts", "tuple": "pairs", "ndarray": "arrays of numbers", "Score": "scores"}
    given = type(item).__name__
    inside = f" of {', '.join(names.get(type(part).__name__, type(part).__name__) for part in item)}"
    what = f"{names.get(given, given)}{inside if isinstance(item, tuple) else ''}"
    return UserError(
        f"the reader gives {what}, which {encoding} can't encode ({type(error).__name__}: {error})",
        where="encoding.kind",
        hint="choose a data.reader and an encoding that go together: `reprise recipes` shows some that do",
    )


def kind_of(reason: str) -> str:
    """A reason without its particulars, to be counted by."""
    return re.sub(r"\d[\d.,]*", "n", re.split(r"[:;]| '", reason)[0]).strip()[:80]
