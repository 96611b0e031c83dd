"""The header of a table: where each column is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.errors import UserError

MOST_COLUMNS = 100_000


@dataclass(frozen=True)
class Columns:
    """The unique names of a table's columns: an unnamed or repeated column is named by its number."""

    names: list[str]
    numbered: set[str]  # columns named by their numbers
    twice: dict[str, str]  # repeated name → the second column's name
    nested: Collection[str] = ()  # columns of lists

    @classmethod
    def of(cls, header: Sequence[str], path: Path, nested: Collection[str] = ()) -> Columns:
        if len(header) > MOST_COLUMNS:
            raise UserError(f"more than {MOST_COLUMNS:,} columns", where=str(path))
        names: dict[str, None] = {}
        numbered, twice = set(), {}
        for number, name in enumerate(header, start=1):
            if not name.strip() or name in names:
                given = str(number)
                while given in names or given in header:
                    given = f"column {given}"
                numbered.add(given)
                twice.setdefault(name, given)
                name = given
            names[name] = None
        twice.pop("", None)
        return cls(list(names), numbered, twice, nested)
