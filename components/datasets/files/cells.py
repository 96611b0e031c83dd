"""Lines of text files, the cells of a line, and numbers as people write them."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from components.datasets.files.text import TextFiles
from components.errors import UserError

LONGEST_LINE = 32 << 20  # characters
NUMBERS = {"", "?", "na", "nan", "null", "none"}  # how files mark missing numbers
DECIMAL_COMMA = re.compile(r"\s*[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+([eE][-+]?\d+)?\s*")
SEPARATOR_LINE = re.compile(r"sep=(.)\s*")  # written first by Excel, to tell the separator
THREE_DECIMALS = re.compile(r"\s*[-+]?[1-9]\d{0,2},\d{3}\s*")  # a decimal comma, or a thousands separator as in English
THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2}(\.\d{3})+\s*")  # thousands separators, or a number with three decimals
OFTEN = 10  # cells of three decimals, and none of another number, are hardly by chance
PLAIN = "numbers are written as 1234.5, without units and signs for thousands; where semicolons separate, as 1234,5 too"


def lines(files: TextFiles, path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of a text file, decoded by TextFiles, gzip included.

    Raises:
        UserError: it isn't text, or a line is longer than LONGEST_LINE.
    """
    number, rest = 0, ""
    for block in files.blocks(path):
        *whole, rest = (rest + block).split("\n")
        for line in whole:
            number += 1
            yield number, line
        if len(rest) > LONGEST_LINE:
            raise UserError(f"line {number + 1} has more than {LONGEST_LINE:,} characters", where=str(path))
    if rest:
        yield number + 1, rest


def split_cells(line: str, separator: str, where: str = "", hint: str | None = None) -> list[str]:
    """The cells of a line; quoted cells may contain the separator.

    Raises:
        UserError: a quoted cell isn't closed.
    """
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error as error:
        raise UserError(str(error), where=where, hint=hint) from None


def separator_of(line: str) -> str:
    """The likeliest separator of a table's first line: the commonest sign, but semicolons between decimal commas."""
    cells = line.split(";")
    commas = all("," not in cell or DECIMAL_COMMA.fullmatch(cell) for cell in cells)
    return ";" if len(cells) > 1 and commas and not {"\t", "|"} & set(line) else max(",\t;|", key=line.count)


class Points:
    """Decimal points for the numbers of one file: `with_points` for its lines, in order.

    `apart`: each column has its own number format, else the file has one.

    Raises:
        UserError: numbers have decimal commas, and an ambiguous 1.234 occurs among them.
    """

    def __init__(self, separator: str, *, apart: bool) -> None:
        self.separator, self.apart = separator, apart
        self._commas: dict[int, str] = {}  # column → a cell with a comma
        self._thousands: dict[int, str] = {}
        self._often = 0  # cells that may have a thousands separator
        self._sure: set[int] = set()  # columns with a comma that must be decimal
        self._pointed: set[int] = set()  # columns with a point that must be decimal

    def __call__(self, cells: Sequence[str], where: str) -> list[str]:
        if self.separator != ";":
            return list(cells)
        for at, cell in enumerate(cells):
            if "," in cell or "." in cell:
                column = at if self.apart else 0
                found = self._commas if DECIMAL_COMMA.fullmatch(cell) else self._thousands
                if found is self._commas or THOUSANDS.fullmatch(cell):
                    found.setdefault(column, cell.strip())
                    self._often += found is self._thousands
                elif cell.count(".") == 1:
                    self._pointed.add(column)
                if found is self._commas and not THREE_DECIMALS.fullmatch(cell):
                    self._sure.add(column)
                if column in self._commas and column in self._thousands:
                    what = (
                        f"has both {self._thousands[column]} and {self._commas[column]}: which sign is the decimal one?"
                    )
                    raise UserError(what, where=where, hint="write numbers without thousands separators")
        return with_points(cells, self.separator)

    @property
    def notes(self) -> list[str]:
        """Notes on commas and points that are read as decimal but could separate thousands."""
        cells = [cell for column, cell in self._commas.items() if column not in self._sure][:1]
        why = "in tables separated by semicolons, a comma is the decimal separator"
        notes = [f"{cell} is read as {float(cell.replace(',', '.'))}: {why}" for cell in cells]
        pointed = [cell for column, cell in self._thousands.items() if column not in self._pointed][:1]
        if pointed and self._sure:
            comma = self._commas[min(self._sure)]
            what = f"{pointed[0]} is read with a decimal point, but {comma} in another column has a decimal comma"
            notes.append(f"warning: {what}: write numbers without thousands separators")
        elif pointed and pointed[0].count(".") == 1:
            what = f"{pointed[0]} is read as {float(pointed[0])}: write numbers without thousands separators"
            notes.append("warning: " * (self._often >= OFTEN) + what)
        return notes


def with_points(cells: Sequence[str], separator: str) -> list[str]:
    """The cells with decimal points, if semicolons separate them and numbers have decimal commas: 2,5 is 2.5, and
    1.234,5 is 1234.5."""
    if separator != ";":
        return list(cells)
    return [cell.replace(".", "").replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells]


def numbers(cells: Sequence[str]) -> tuple[np.ndarray, str]:
    """The cells as float64 [N], and a problem if they aren't all finite numbers. Float64, because an encoding subtracts
    the mean before it rounds to float32: large numbers would lose digits."""
    try:
        if any("_" in cell for cell in cells):  # Python reads 1_000 as a number; in files it is a name
            raise ValueError
        values = np.array(cells, dtype=np.float64)
    except ValueError:
        missing = any(cell.strip().casefold() in NUMBERS for cell in cells)
        return np.zeros(0), "missing value" if missing else "not a number"
    if np.isfinite(values).all() and (np.abs(values) < np.finfo(np.float32).max).all():
        return values, ""
    return np.zeros(0), "missing value" if any(map(math.isnan, values)) else "not a finite number"
