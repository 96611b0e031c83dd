"""Sequences that an encoding can't encode: left out by index and reason, so that the others can be used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from components.datasets.base import Reader
from components.encodings.frames import OtherWidth
from components.errors import UserError

LISTED = 5  # items listed in a message
MOST_WHILE_LEARNING = 20  # fitting stops and restarts at each; if there are more, the settings are wrong


class Accepted:
    """A reader without the refused items. `given` is the index of its latest item."""

    def __init__(self, reader: Reader, refusals: Refusals) -> None:
        self.reader, self.refusals, self.given = reader, refusals, -1
        self.refused: dict[int, UserError] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    def items(self) -> Iterator[Any]:
        for index, item in enumerate(self.reader.items()):
            if index not in self.refused:
                self.refusals.latest, self.given = self, index
                yield item
        self.refusals.latest = None  # later errors aren't about the last item

    @property
    def dropped(self) -> Counter[str]:
        return self.reader.dropped + Counter(kind_of(error.what) for error in self.refused.values())

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
    """The readers of an ingestion, without the items that the encoding has refused so far."""

    def __init__(self, readers: Mapping[str | None, Reader]) -> None:
        self.latest: Accepted | None = None  # the reader of the latest item
        self.readers = {split: Accepted(reader, self) for split, reader in readers.items()}

    def __len__(self) -> int:
        return sum(len(reader.refused) for reader in self.readers.values())

    def refuse(self, error: UserError) -> None:
        """Leave out the latest item.

        Raises:
            UserError: there is none, it is part of a stream, from which nothing can be left out, or it has another
                number of features than the first one.
        """
        if isinstance(error, OtherWidth) and self.latest is not None:
            place = next(iter(self.latest.reader.places([self.latest.given]).values()), "data")
            hint = "all sequences need the same features in the same order: leave out those that have others"
            raise UserError(error.what, where=place, hint=hint)
        if self.latest is None or self.latest.framing == "stream" or self.latest.given in self.latest.refused:
            raise error
        self.latest.refused[self.latest.given] = error

    def check(self, encoding: str) -> None:
        """Check that items are left.

        Raises:
            UserError: none are; with the reasons and the first items.
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
    """The error for an item of the wrong type for an encoding: a text where music is expected."""
    names = {"str": "texts", "tuple": "pairs", "ndarray": "arrays of numbers", "Score": "scores"}
    given = type(item).__name__
    inside = f" of {', '.join(names.get(type(part).__name__, type(part).__name__) for part in item)}"
    what = f"{names.get(given, given)}{inside if isinstance(item, tuple) else ''}"
    return UserError(
        f"the reader gives {what}, which the encoding {encoding} can't read ({type(error).__name__}: {error})",
        where="encoding.kind",
        hint="choose a data.reader and an encoding that fit together, as in the recipes (`reprise recipes`)",
    )


def kind_of(reason: str) -> str:
    """A reason without its details, as a key for counting."""
    return re.sub(r"\d[\d.,]*", "n", re.split(r"[:;]| '", reason)[0]).strip()[:80]
