"""Generated dates in many formats, to be translated to ISO 8601: a translation task without files."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from components.datasets.made.base import MadeReader
from components.errors import UserError

Language = Literal["en", "de", "fr", "es"]
LONGEST = 48  # characters; no format is longer

MONTHS: dict[str, str] = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
}
WEEKDAYS: dict[str, str] = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "es": "lunes martes miércoles jueves viernes sábado domingo",
}
# Only unambiguous formats: neither 5/3/1998 nor years of two digits. 3.5.1998 is German, with the day first.
WAYS: dict[str, tuple[str, ...]] = {
    "": ("{y}-{mm}-{dd}", "{y}/{mm}/{dd}", "{y}.{mm}.{dd}", "{y}{mm}{dd}"),
    "en": (
        "{d} {month} {y}", "{nth} {month} {y}", "{nth} of {month} {y}", "the {nth} of {month}, {y}",
        "{month} {d}, {y}", "{month} {nth}, {y}", "{month} the {nth}, {y}", "{short} {d}, {y}", "{d} {short} {y}",
        "{d}-{short}-{y}", "{y} {month} {d}", "{weekday}, {d} {month} {y}", "{weekday}, {month} {d}, {y}",
        "{weekday} the {nth} of {month} {y}", "{day} {d} {short} {y}",
    ),
    "de": (
        "{d}. {month} {y}", "{dd}.{mm}.{y}", "{d}.{m}.{y}", "{d}. {m}. {y}", "{weekday}, {d}. {month} {y}",
        "{weekday}, den {d}. {month} {y}", "am {d}. {month} {y}", "{weekday}, {dd}.{mm}.{y}",
    ),
    "fr": (
        "{nth} {month} {y}", "le {nth} {month} {y}", "{weekday} {nth} {month} {y}", "le {weekday} {nth} {month} {y}",
    ),
    "es": ("{d} de {month} de {y}", "el {d} de {month} de {y}", "{weekday}, {d} de {month} de {y}"),
}  # fmt: skip


@dataclass(kw_only=True, eq=False)
class Dates(MadeReader):
    """("the 3rd of May, 1998", "1998-05-03"): dates from `first_year` to `last_year`, in a format of one of the
    `languages` or in numbers alone, sometimes in lower or upper case.

    All formats of a date are in the same split: test dates never occur in training.
    """

    pairs, kept, files_by = True, False, "labelled-lines"
    steps = LONGEST

    languages: tuple[Language, ...] = ("en", "de", "fr", "es")
    first_year: Annotated[int, Field(ge=1000, le=9999)] = 1900
    last_year: Annotated[int, Field(ge=1000, le=9999)] = 2099
    count: Annotated[int, Field(gt=0)] = 20_000

    def __post_init__(self, files: Sequence[Path]) -> None:
        if not self.languages or not self.first_year <= self.last_year:
            what = f"languages {list(self.languages)}, years {self.first_year} to {self.last_year}"
            raise UserError(what, where="data", hint="one language at least, and the first year not after the last")
        self.ways = [(language, way) for language in ("", *self.languages) for way in WAYS[language]]
        self.first = datetime.date(self.first_year, 1, 1)
        self.days = (datetime.date(self.last_year, 12, 31) - self.first).days + 1
        super().__post_init__(files)

    def made(self, number: int, rng: np.random.Generator) -> tuple[str, str]:
        date = self.first + datetime.timedelta(days=int(rng.integers(self.days)))
        text = written(date, *self.ways[int(rng.integers(len(self.ways)))])
        case = rng.random()
        return text.lower() if case < 0.2 else text.upper() if case < 0.4 else text, date.isoformat()

    def group(self, item: tuple[str, str]) -> str:
        return item[1]


def written(date: datetime.date, language: str, way: str) -> str:
    """The date in a format of a language ("" for numbers alone)."""
    day, names = date.day, language or "en"
    month, weekday = MONTHS[names].split()[date.month - 1], WEEKDAYS[names].split()[date.weekday()]
    return way.format(
        y=f"{date.year:04}",
        m=date.month,
        mm=f"{date.month:02}",
        d=day,
        dd=f"{day:02}",
        month=month,
        short=month[:3],
        weekday=weekday,
        day=weekday[:3],
        nth=f"{day}{_ordinal(day)}" if language == "en" else "1er" if day == 1 else day,
    )


def _ordinal(day: int) -> str:
    return "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
