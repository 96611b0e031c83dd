"""`.tsf` files, the form of the Monash forecasting archive (Godahewa et al. 2021, arXiv:2105.06643): a header with
@attribute, @frequency and @horizon, then a series on each line: `T1:1979-01-01 00-00-00:1,2,?,3`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from components.datasets.files.cells import lines
from components.datasets.files.text import TextFiles
from components.errors import UserError

NAME, START = "series_name", "start_timestamp"
FREQUENCIES = {
    "yearly": "YS",
    "quarterly": "QS",
    "monthly": "MS",
    "weekly": "W-MON",
    "daily": "D",
    "hourly": "h",
    "half_hourly": "30min",
    "minutely": "min",
    "secondly": "s",
}
SEVERAL = re.compile(r"(\d+)_(second|minute|hour|day)s?")  # 10_minutes
UNITS = {"second": "s", "minute": "min", "hour": "h", "day": "D"}
LINE_OF_HEADER = re.compile(r"@(\w+)(?:\s+(.*))?")


@dataclass
class Header:
    """`freq` as pandas names it. `attributes`: the columns before the values, and their types."""

    freq: str | None = None
    horizon: int | None = None
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    number: int
    name: str
    start: np.datetime64 | None
    cells: list[str]


def read_tsf(files: TextFiles, path: Path) -> tuple[Header, Iterator[Line]]:
    """The header of a file, and its series one after another.

    Raises:
        UserError: it isn't such a file; for a line, when that is read.
    """
    rows = ((number, line.strip()) for number, line in lines(files, path))
    rows = ((number, line) for number, line in rows if line and not line.startswith("#"))
    header = Header()
    for number, line in rows:
        where = f"{path}: line {number}"
        found = LINE_OF_HEADER.fullmatch(line)
        if not found:
            raise UserError(
                f"{line[:40]!r} isn't a header line", where=where, hint="add a line @data before the first series"
            )
        word, rest = found[1].lower(), (found[2] or "").strip()
        if word == "data":
            if not any(kind == "string" for kind in header.attributes.values()):
                raise UserError("no @attribute names the series", where=where, hint=f"@attribute {NAME} string")
            return header, _lines(rows, header, path)
        if word == "attribute":
            name, _, kind = rest.rpartition(" ")
            if kind not in ("string", "numeric", "date") or not name:
                hint = "the types are string, numeric and date"
                raise UserError(f"@attribute {rest[:40]!r} can't be read", where=where, hint=hint)
            header.attributes[name.strip()] = kind
        elif word == "frequency":
            header.freq = _frequency(rest.lower(), where)
        elif word == "horizon":
            if not rest.isdecimal() or not int(rest):
                raise UserError(f"@horizon {rest[:40]!r} isn't a number of steps", where=where)
            header.horizon = int(rest)
    raise UserError("has no line @data", where=str(path), hint="add one above the series")


def _frequency(word: str, where: str) -> str:
    if several := SEVERAL.fullmatch(word):
        return f"{several[1]}{UNITS[several[2]]}"
    if word not in FREQUENCIES:
        hint = f"use one of {', '.join(FREQUENCIES)}, 10_minutes"
        raise UserError(f"@frequency {word[:40]!r} isn't known", where=where, hint=hint)
    return FREQUENCIES[word]


def _lines(rows: Iterator[tuple[int, str]], header: Header, path: Path) -> Iterator[Line]:
    names = [name for name, kind in header.attributes.items() if kind == "string"]
    names = [NAME] if NAME in names else names
    for number, line in rows:
        where = f"{path}: line {number}"
        *attributes, values = line.split(":")
        if len(attributes) != len(header.attributes):
            what = f"has {len(attributes)} attributes before the values, but the header has {len(header.attributes)}"
            raise UserError(what, where=where, hint="separate attributes by colons and values by commas")
        of = dict(zip(header.attributes, map(str.strip, attributes), strict=True))
        start = _start(of[START], where) if START in of else None
        yield Line(number, "/".join(of[name] for name in names), start, values.split(","))


def _start(text: str, where: str) -> np.datetime64:
    for form in ("%Y-%m-%d %H-%M-%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"):
        try:
            return np.datetime64(datetime.strptime(text, form), "s")
        except ValueError:
            continue
    raise UserError(f"{text[:40]!r} isn't a time", where=where, hint="write it like 1979-01-31 13-00-00")
