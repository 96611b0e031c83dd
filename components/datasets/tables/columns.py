"""Tables of measurements: numeric columns with dates and labels, one line a time step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from components.datasets.beside_data import footer
from components.datasets.files.cells import NUMBERS, PLAIN, SEPARATOR_LINE, Points, lines, separator_of, split_cells
from components.datasets.files.text import TextFiles
from components.datasets.tables.dates import YEAR, dates
from components.errors import UserError, unknown

LARGEST_CELLS = 64 << 20
Rows = Iterator[tuple[int, list[str]]]  # (line number, cells)
MOST_COLUMNS = 10_000
BELOW = "delete everything below the table"


@dataclass
class Table:
    """`lines`: line numbers in the file. `numbers`: float64 [lines, columns], NaN for missing values and texts.
    `texts`: the cells of the requested columns. `first_text`: line and cell of each column's first text; `ends`: first
    and last cell of each column. `moments`: the first column that begins with a date, and its cells."""

    path: Path
    names: list[str]
    lines: list[int] = field(default_factory=list)
    numbers: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    texts: dict[str, list[str]] = field(default_factory=dict)
    first_text: dict[str, tuple[int, str]] = field(default_factory=dict)
    ends: dict[str, tuple[str, str]] = field(default_factory=dict)
    moments: tuple[str, list[str]] = ("", [])

    @cached_property
    def dates(self) -> tuple[str, list[datetime | None]]:
        """That column's name and its dates by line (None: not a date). Computed on demand, because parsing is slow."""
        return self.moments[0], dates(self.moments[1])

    @property
    def headed(self) -> bool:
        """Whether the first line is a header."""
        return self.names != [str(number + 1) for number in range(len(self.names))]

    def of_numbers(self) -> list[str]:
        """The columns that contain numbers, in the table's order."""
        there = np.isfinite(self.numbers).any(axis=0)
        return [name for name, any_ in zip(self.names, there, strict=True) if any_]

    def values(self, columns: Sequence[str], setting: str) -> np.ndarray:
        """The columns' numbers, float64 [lines, columns].

        Raises:
            UserError: there is no such column, or it contains text.
        """
        for name in columns:
            if name not in self.names:
                raise unknown("column", name, self.names, where=f"{setting}: {self.path}")
            if name in self.first_text:
                line, text = self.first_text[name]
                what = f"column {name!r}: {text[:60]!r} isn't a number"
                hint = f"leave cells of missing values empty, or choose other columns with {setting}; {PLAIN}"
                raise UserError(what, where=f"{self.path}: line {line}", hint=hint)
        return self.numbers[:, [self.names.index(name) for name in columns]]

    def check_order(self) -> None:
        """Refuse lines that aren't in order of time, by the first column of dates."""
        name, dates = self.dates
        if len(dates) > 2 and dates[-1] is None and all(dates[:-1]):
            raise UserError(
                f"the last line has no date in {name}", where=f"{self.path}: line {self.lines[-1]}", hint=BELOW
            )
        dates = [(line, date) for line, date in zip(self.lines, dates, strict=True) if date]
        back = [line for (_, before), (line, date) in pairwise(dates) if date < before]
        if not back:
            return
        hint = "sort the lines by time, oldest first"
        if len(back) == len(dates) - 1:
            what = f"the newest line comes first: {name} goes from {self.ends[name][0]} to {self.ends[name][1]}"
            raise UserError(what, where=str(self.path), hint=hint)
        what = f"{name} goes back in time here ({len(back):,} times in all)"
        raise UserError(what, where=f"{self.path}: line {back[0]}", hint=f"{hint}; several series: a file for each")

    def check_end(self, last: Sequence[str], before: Sequence[str]) -> None:
        """Refuse a table that ends with a total or a note, in a cell unlike those above it."""
        for name, cell, above in zip(self.names, last, before, strict=False):
            if footer([cell]) and cell.strip() not in (self.texts.get(name) or [above, ""])[:-1]:
                what = f"the last line isn't data: {cell.strip()[:60]!r}"
                raise UserError(what, where=f"{self.path}: line {self.lines[-1]}", hint=BELOW)

    @cached_property
    def doubled(self) -> list[int]:
        """Indices of the lines with the same date as the line before."""
        _, dates = self.dates
        return [at for at, (before, date) in enumerate(pairwise(dates), 1) if date and date == before]

    def check_one_series(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Refuse several interleaved series: a third of the lines have the date of the line before, and one of the
        columns of `texts` names the series. Times of day have no letters."""
        for name, cells in texts.items():
            named = 2 * len(set(cells)) <= len(cells) and re.search(r"[^\W\d_]", cells[0])
            if named and all(cells[at] != cells[at - 1] for at in self.doubled):
                what = f"contains several series: times in {self.dates[0]} repeat, and {name} tells the series apart"
                hint = "read it with data.reader=series-table; or save each series in its own file"
                raise UserError(what, where=f"{self.path}: line {self.lines[self.doubled[0]]}", hint=hint)

    def falling(self, columns: Sequence[str]) -> str:
        """A warning about the first of these columns that falls in every line, or the column of dates, as years do if
        the newest line comes first; "" if none does."""
        named = {name: self.numbers[:, self.names.index(name)] for name in columns}
        falling = [name for name, values in named.items() if len(values) > 2 and (np.diff(values) < 0).all()]
        name, dates = self.dates
        if len(dates) > 2 and all(dates) and all(b < a for a, b in pairwise(filter(None, dates))):
            falling.append(name)
        if not falling:
            return ""
        what = "{} decreases in every line, from {} to {}".format(falling[0], *self.ends[falling[0]])
        return f"warning: {what}: does the newest line come first?"

    def uneven(self) -> str:
        """A note on irregular dates: duplicates, steps longer than usual or lines without a date; "" if there are
        none."""
        name, dates = self.dates
        rows = zip(self.lines, dates, self.moments[1], strict=True)
        if undated := [(line, cell.strip()) for line, date, cell in rows if name and not date]:
            words = next((cell for _, cell in undated if re.search(r"[^\W\d_]", cell)), "")  # a total or a note
            told = f"{name}: lines without a date: {len(undated):,}, the first in line {undated[0][0]}"
            return f"warning: {told}, read as steps ({words[:40]!r})" if words else told
        steps = [
            (line, (date - before).total_seconds())
            for (before, date), line in zip(pairwise(dates), self.lines[1:], strict=True)
            if before and date
        ]
        if not steps:
            return ""
        usual = sorted(step for _, step in steps)[len(steps) // 2]
        twice = [self.lines[at] for at in self.doubled]
        long = [line for line, step in steps if step > 1.5 * usual > 0]
        odd = [(twice, "repeated dates"), (long, f"steps longer than the usual {timedelta(seconds=usual)}")]
        told = "; ".join(f"{name}: {len(found):,} {what}, the first in line {found[0]}" for found, what in odd if found)
        return f"{'warning: ' * bool(twice)}{told}"


def read_columns(
    files: TextFiles, path: Path, texts: Sequence[str] = (), rows: Rows | None = None, *, header: bool | None = None
) -> Table:
    """A table in a text file. The separator is the commonest of comma, tab, semicolon and bar in the first line.

    The first line is a header if it has texts where the second has numbers, or no number at all; else columns are
    numbered from 1. `texts`: columns whose cells are kept ("-1" is the last). With semicolons as separator, numbers may
    have decimal commas. `rows` replace the file's lines. `header`: whether the first line is a header, if known.

    Raises:
        UserError: it isn't such a table, or has more than LARGEST_CELLS.
    """
    rows = table_rows(files, path) if rows is None else rows
    first = next(rows, None)
    if first is None:
        raise UserError("the table has no lines", where=str(path))
    second = next(rows, None)
    if header is None:
        header = is_header(first[1], second[1] if second else [])
    width = len(first[1])
    if header:  # spreadsheets may end lines with empty fields
        width = max((at for at, cell in enumerate(first[1], start=1) if cell.strip()), default=width)
    names = [cell.strip() for cell in first[1][:width]] if header else [str(number + 1) for number in range(width)]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None) if width < 1000 else None
    if width > MOST_COLUMNS or twice is not None:
        what = f"two columns are called {twice!r}" if twice is not None else f"more than {MOST_COLUMNS:,} columns"
        raise UserError(what, where=str(path), hint="give them different names in the first line")
    table = Table(path, names)
    kept = [names[-1] if name == "-1" else name for name in texts]
    table.texts = {name: [] for name in kept if name in names}
    numbers: list[list[float]] = []
    dated: int | None = None
    last: list[str] = []
    before: list[str] = []
    for number, cells in chain([] if header else [first], [second] if second else [], rows):
        if len(cells) < width or any(cells[width:]):
            what = f"has {len(cells)} cells, but the first line has {width}"
            hint = "every line needs as many cells as the first: delete any text above or below the table"
            raise UserError(what, where=f"{path}: line {number}", hint=hint)
        cells = cells[:width]
        if len(numbers) * width > LARGEST_CELLS:
            raise UserError(f"more than {LARGEST_CELLS:,} cells", where=str(path))
        if not numbers:
            dated = next((at for at, cell in enumerate(cells) if any(dates([cell]))), None)
            table.moments = (names[dated], []) if dated is not None else ("", [])
        table.moments[1].append(cells[dated] if dated is not None else "")
        values = []
        for name, cell in zip(names, cells, strict=True):
            value = as_number(cell)
            if value is None:
                table.first_text.setdefault(name, (number, cell))
            values.append(math.nan if value is None else value)
            table.ends[name] = (table.ends.get(name, (cell,))[0], cell)
            if name in table.texts:
                table.texts[name].append(cell.strip())
        numbers.append(values)
        table.lines.append(number)
        last, before = cells, last
    table.check_end(last, before)
    table.numbers = np.array(numbers, dtype=np.float64).reshape(-1, width)
    return table


def table_rows(files: TextFiles, path: Path) -> Rows:
    """(line number, cells) of each line that isn't empty."""
    points: Points | None = None
    for number, line in lines(files, path):
        if not line.strip():
            continue
        if points is None and (said := SEPARATOR_LINE.fullmatch(line)):
            points = Points(said[1], apart=True)
            continue
        points = points or Points(separator_of(line), apart=True)
        where = f"{path}: line {number}"
        yield number, points(split_cells(line, points.separator, where), where)
    files.tell(points.notes if points else [])


def as_names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names in a setting that takes one, several or none."""
    return (given,) if isinstance(given, str) else tuple(given or ())


def is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    named = [cell for cell in first if cell.strip()]  # a spreadsheet's index has no name
    if (named and all(as_number(cell) is None for cell in named)) or counts_columns(first):
        return True
    if any(names(first) and not names(second) for names in (_years, _numbered)):
        return True
    pairs = zip(first, second, strict=False)
    return any(as_number(a) is None and is_finite(b) for a, b in pairs)


def counts_columns(first: Sequence[str]) -> bool:
    """Whether a line is an empty cell and then 0, 1, 2 …, as pandas writes a table without column names but with an
    index."""
    return len(first) > 1 and [cell.strip() for cell in first] == ["", *map(str, range(len(first) - 1))]


def _years(cells: Sequence[str]) -> bool:
    """Whether a line is names and then one year after the other, as statistics offices write a series in a row."""
    years = [int(cell) for cell in cells if YEAR.fullmatch(cell.strip())]
    return len(years) >= 5 and len(years) < len(cells) and years == list(range(years[0], years[0] + len(years)))


def _numbered(cells: Sequence[str]) -> bool:
    """Whether a line is names and then the numbers from 0 or 1 on, such as date, 1, 2, …, 24."""
    numbers = [cell.strip() for cell in cells if as_number(cell) is not None]
    counted = any(numbers == list(map(str, range(start, start + len(numbers)))) for start in (0, 1))
    return 5 <= len(numbers) < len(cells) and counted


def as_number(cell: str) -> float | None:
    """The number in a cell; NaN: missing; None: a text."""
    if cell.strip().casefold() in NUMBERS:
        return math.nan
    if "_" in cell:  # Python reads 1_000 as a number; in files it is a name
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if abs(value) < 3e38 else None


def is_number(cell: str) -> bool:
    """Whether a cell is a number or marks a missing one."""
    return as_number(cell) is not None


def is_finite(cell: str) -> bool:
    value = as_number(cell)
    return value is not None and math.isfinite(value)
