"""Times of schedules: cron expressions, intervals and time zones, checked before anything is started."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from components.errors import SENTENCE, UserError, meant

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
# name, first, last, names of the values
FIELDS = [
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day", 1, 31, []),
    ("month", 1, 12, MONTHS),
    ("weekday", 0, 7, DAYS),
]
PART = re.compile(r"(?:\*|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/(\d{1,2}))?")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
EXAMPLE = 'minute hour day month weekday, for example "0 6 * * 1": Mondays at 6:00'


def check_cron(text: str) -> str:
    """Normalise a cron expression for Prefect: single spaces, lower case. Prefect reads "9-9" and "59/5" as the whole
    field, so such a value is written as a single one.

    Raises:
        UserError: it isn't a cron expression of five fields; names the wrong field.
    """
    fields = text.lower().split()
    if len(fields) != len(FIELDS):
        raise UserError(f"expected 5 fields, found {len(fields)}: {text!r}", where="--cron", hint=EXAMPLE)
    parts = [[_check_part(part, place, text) for part in field.split(",")] for place, field in enumerate(fields)]
    return " ".join("*" if "*" in field else ",".join(field) for field in parts)


def _check_part(part: str, place: int, text: str) -> str:
    """Normalise a part of the field at this place, so that Prefect reads it correctly."""
    name, first, last, names = FIELDS[place]
    found = PART.fullmatch(part)
    start, end, step = found.groups() if found else (None, None, None)
    end = "7" if name == "weekday" and end == "sun" != start else end  # mon-sun: Sunday as the end of the week
    values = [_value(word, first, names) for word in (start, end) if word]
    wrong = not found or any(value is None or not first <= value <= last for value in values)
    if wrong or values != sorted(values) or (step and not 0 < int(step) <= last):
        named = f" or {names[0]}–{names[-1]}" if names else ""
        choices = f"{first}–{last}{named}, *, ranges 1-5, steps */2, lists 1,3"
        raise UserError(f"{part!r} isn't a valid {name}: {choices}", where=f"--cron {text!r}", hint=EXAMPLE)
    if start and (end or step):
        to = values[1] if end else min(last, 6) if name == "weekday" else last
        if values[0] + int(step or 1) > to:
            return start
    return "*" if part == "*/1" else part.replace("-sun", "-7")


def next_times(schedule: Any, count: int = 2) -> list[datetime]:
    """The next times of a Prefect schedule, as planned by Prefect's server.

    Raises:
        UserError: it can't plan `count` times. Such a schedule would prevent it from planning any other.
    """
    from prefect.server.schemas import schedules

    try:
        engine = getattr(schedules, type(schedule).__name__)(**schedule.model_dump())
        times = asyncio.run(engine.get_dates(count))
        why = "" if len(times) == count else "there is no such date"
    except Exception as error:  # any error here would also occur in the server
        times, why = [], "there is no such date" if "next date" in str(error) else str(error)
    if why:
        shown = getattr(schedule, "cron", None) or getattr(schedule, "interval", type(schedule).__name__)
        what = f"{str(shown)!r} in the time zone {schedule.timezone} can't be planned: {why}"
        raise UserError(what, where="schedule", hint=EXAMPLE)
    return times


def parse_every(text: str) -> timedelta:
    """Parse an interval such as "30m", "6h", "1d", "2w" or "90s".

    Raises:
        UserError: it is none of these, less than a second, or more than a year.
    """
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not 1 <= seconds <= 366 * UNITS["d"]:
        raise UserError(f"{text!r} isn't an interval", where="--every", hint="for example 30m, 6h, 1d or 2w")
    return timedelta(seconds=seconds)


def show_every(every: timedelta) -> str:
    """An interval in the notation of `parse_every`."""
    seconds = round(every.total_seconds())
    unit = max((unit for unit, length in UNITS.items() if seconds % length == 0), key=UNITS.__getitem__)
    return f"{seconds // UNITS[unit]}{unit}"


def check_timezone(name: str | None) -> str:
    """An IANA zone: the given one, else this machine's, else UTC.

    Raises:
        UserError: there is no such zone; the nearest is suggested.
    """
    if name is None:
        return _local_timezone()
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        from zoneinfo import available_timezones

        near = meant(name, available_timezones(), SENTENCE)
        raise UserError(
            f"no time zone {name!r}.{near}", where="--timezone", hint="for example Europe/Berlin or UTC"
        ) from None
    return name


def _value(word: str, first: int, names: list[str]) -> int | None:
    if word.isdigit():
        return int(word)
    return names.index(word) + first if word in names else None


def _local_timezone() -> str:
    for name in (os.environ.get("TZ", ""), str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2]):
        try:
            if name:
                return ZoneInfo(name).key
        except (ValueError, OSError, LookupError):
            continue
    return "UTC"
