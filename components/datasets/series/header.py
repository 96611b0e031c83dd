"""The columns of a table with a series on each line: which name it, and which hold its values, at which times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from components.datasets.files.cells import PLAIN
from components.datasets.series.times import counted, read_times
from components.datasets.tables.columns import as_number, is_number
from components.datasets.tables.dates import YEAR, dates, either_way
from components.errors import UserError

NUMBERED = re.compile(r"(.*?)(\d{1,9})")  # V2, d_1, 17
LONG_NUMBER = re.compile(r"\d{6,19}")  # 20240131, or seconds since 1970
FEWEST = 2  # columns of times, or numbered ones


@dataclass(frozen=True)
class LineColumns:
    """`names`: the header's, [] without one. `of_name`, `of_values`: the places of the columns. `times`: those of the
    values' columns, None: the header has none."""

    names: list[str]
    of_name: list[int]
    of_values: list[int]
    times: np.ndarray | None = None
    utc: bool = False

    @cached_property
    def order(self) -> np.ndarray:
        """The indices that sort the times."""
        return np.argsort(self.times, kind="stable") if self.times is not None else np.arange(len(self.of_values))

    def name(self, cells: Sequence[str]) -> str:
        parts = [cells[at].strip() for at in self.of_name if at < len(cells)]
        return "/".join(parts) if any(parts) else ""

    def values(self, cells: Sequence[str]) -> list[str]:
        if not self.names:
            return list(cells[1:])
        return [cells[at] for at in self.of_values if at < len(cells)]

    def told(self, path: Path) -> list[str]:
        if not self.names:
            return [f"read of {path.name}: a series on each line, its name first; no header"]
        shown = [self.names[at] for at in self.of_values]
        among = f" from {shown[0]} to {shown[-1]}" if len(shown) > 1 else f" {shown[0]}"
        named = " and ".join(self.names[at] for at in self.of_name)
        used = {*self.of_name, *self.of_values}
        unread = [name for at, name in enumerate(self.names) if at not in used]
        notes = [
            f"read of {path.name}: a series on each line; its name {named}; "
            f"{len(shown):,} values{among}, {'their times' if self.times is not None else 'in this order'}"
            f"{'; not read: ' + ', '.join(unread[:8]) if unread else ''}"
        ]
        if self.times is not None:
            as_numbers = counted(shown)
            notes += filter(None, [as_numbers[2] if as_numbers else either_way(shown)])
        return notes


def times_in(header: Sequence[str]) -> tuple[int, np.ndarray, bool] | None:
    """The first of the columns at the end of a header whose names are times, the times, and whether they are UTC."""
    dated = [bool(date) for date in dates(header)]
    for is_time in (
        lambda at: dated[at],
        lambda at: YEAR.fullmatch(header[at]),
        lambda at: LONG_NUMBER.fullmatch(header[at]),
    ):
        begin = len(header)
        while begin > 1 and is_time(begin - 1):
            begin -= 1
        names = header[begin:]
        if len(names) >= FEWEST and (dated[-1] or YEAR.fullmatch(names[0]) or counted(names)):
            try:
                return begin, *read_times(names, list(names))
            except UserError:
                continue
    return None


def numbered_in(header: Sequence[str]) -> int | None:
    """The first of the columns at the end of a header whose names count up: V2, V3, V4. None: there are none."""
    found = [None if is_number(name) and not name.isdecimal() else NUMBERED.fullmatch(name) for name in header]
    parts = [(one[1], int(one[2])) if one else None for one in found]
    begin = len(header) - 1
    while begin > 1 and (one := parts[begin]) and parts[begin - 1] == (one[0], one[1] - 1):
        begin -= 1
    return begin if len(header) - begin >= FEWEST else None


def numbers_of(cells: Sequence[str], where: str) -> np.ndarray:
    """The values, float64 [T], NaN where one is missing.

    Raises:
        UserError: a cell isn't a number.
    """
    values = [as_number(cell) for cell in cells]
    if None in values:
        at = values.index(None)
        hint = f"leave missing values empty; set data.series to the columns that aren't values; {PLAIN}"
        raise UserError(f"value {at + 1}: {cells[at].strip()[:40]!r} isn't a number", where=where, hint=hint)
    return np.array(values, dtype=np.float64)
