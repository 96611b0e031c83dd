"""Dates in the cells of a column."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import MAXYEAR, datetime, timedelta
from functools import partial
from itertools import pairwise

YEAR = re.compile(r"1[5-9]\d\d|2[01]\d\d")


def dates(cells: Sequence[str]) -> list[datetime | None]:
    """The dates of a column, None where there is none. Whether 1/2/2024 has the day or the month first is decided by
    which order reads more of the column; then by which order increases more often; then by which has more even steps:
    in 1/1/2023, 2/1/2023 … 12/1/2024 the month is first. 24:00 is the next day's midnight."""
    readings = [[_read(read, cell.strip()) for cell in cells] for read in READINGS]
    return max(readings, key=lambda dates: (sum(map(bool, dates)), *_forward(dates)))


def _read(read: Callable[[str], datetime | None], text: str) -> datetime | None:
    early = MIDNIGHT.sub("00:00", text) if text.endswith(("24:00", "24:00:00")) else text
    found = read(early)
    return found + timedelta(days=1) if found and early != text and found.year < MAXYEAR else found


def either_way(cells: Sequence[str]) -> str:
    """A note for dates that could all have the day or the month first, with an example of how they are read; "" if they
    aren't ambiguous."""
    found = dates(cells)
    days, months = ([read(cell.strip()) for cell in cells] for read in READINGS[-2:])
    if None in days or None in months or days == months or found not in (days, months):
        return ""
    at = next(at for at, (day, month) in enumerate(zip(days, months, strict=True)) if day != month)
    first = "day" if found == days else "month"
    return (
        f"in {cells[at].strip()} the {first} is assumed to come first: {found[at]:%Y-%m-%d}. Write dates so to be sure"
    )


def _forward(dates: Sequence[datetime | None]) -> tuple[int, float]:
    """How often dates increase, and the ratio of the shortest of these steps to the longest."""
    steps = [date - before for before, date in pairwise(filter(None, dates)) if date >= before]
    longer = [step for step in steps if step]
    return len(steps), min(longer) / max(longer) if longer else 0.0


def _iso(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(f"{text}-01" if re.fullmatch(r"\d{4}-\d{2}", text) else text)
    except ValueError:
        return None
    return found.replace(tzinfo=None) if "-" in text else None


def _written(pattern: re.Pattern[str], text: str) -> datetime | None:
    found = pattern.fullmatch(text)
    if not found:
        return None
    year, month, day, time, half = found.group("year", "month", "day", "time", "half")
    hour, minute, second = ([int(part) for part in (time or "").split(":") if part] + [0, 0, 0])[:3]
    hour = hour % 12 + 12 * (half in "pP") if half else hour
    # of two digits, 69 to 99 are 1969 to 1999, as in POSIX and Python
    century = 0 if len(year) == 4 else 1900 if int(year) >= 69 else 2000
    try:
        number = int(month) if month.isdigit() else MONTHS.index(month[:3].lower())
        return datetime(century + int(year), number, int(day), hour, minute, second)
    except ValueError:
        return None


def _pattern(order: str) -> re.Pattern[str]:
    parts = {"d": r"(?P<day>\d{1,2})", "m": r"(?P<month>\d{1,2}|[A-Za-z]{3,9})", "y": r"(?P<year>\d{4}|(?<=/)\d{2})"}
    time = r"(?:[ ,T]+(?P<time>\d{1,2}:\d{2}(?::\d{2})?)(?: ?(?P<half>[AaPp])[Mm])?)?"
    return re.compile(r",?[./ -]".join(parts[one] for one in order) + time, re.ASCII)


MIDNIGHT = re.compile(r"(?<=[ T])24:00(?=(:00)?$)")
MONTHS = ("", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
READINGS = (_iso, *(partial(_written, _pattern(order)) for order in ("ymd", "dmy", "mdy")))
