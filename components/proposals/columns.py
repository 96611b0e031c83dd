"""The columns of a table and their types, from its first rows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby, islice, pairwise, takewhile
from pathlib import Path

from components.datasets.files.cells import SEPARATOR_LINE, separator_of, split_cells, with_points
from components.datasets.files.folders import ending
from components.datasets.series.table import OF_TIME
from components.datasets.series.times import counted
from components.datasets.tables.columns import is_finite, is_header, is_number
from components.datasets.tables.dates import dates
from components.datasets.tables.header import Columns
from components.datasets.tables.parquet import PARQUET, parquet_count, parquet_rows
from components.datasets.tables.reader import SEPARATORS, is_rule
from components.proposals.base import AS_TEXT, Look, Stopped, Unlike

ROWS = 1000
FEWEST_LINES = 3
REGULAR = 0.95  # share of the lines that need the most frequent number of cells
LONGEST_LABEL, MOST_LABELS = 60, 100
MOST_SHOWN = 12  # columns listed in a message
ABOVE = "delete the lines above the table's header"
OF_TARGET = re.compile(
    r"(?i)(label|class|category|target|tag|sentiment|polarity|stars?|ratings?|score|price|y|output|answer|language)s?"
)
OF_INPUT = re.compile(r"(?i)(text|sentence|review|comment|message|body|title|input|question|source|name|words|tweet)s?")
OF_RATING = re.compile(r"(?i)(stars?|ratings?|scores?|grades?|overall)")


@dataclass(frozen=True)
class Column:
    name: str
    cells: Sequence[str]  # the non-empty ones

    @cached_property
    def distinct(self) -> int:
        return len(set(self.cells))

    @cached_property
    def values(self) -> list[float]:
        """The finite numbers."""
        return [float(cell) for cell in self.cells if is_finite(cell)]

    @property
    def missing(self) -> bool:
        """Whether there are missing values such as NA."""
        return any(is_number(cell) and not is_finite(cell) for cell in self.cells)

    @cached_property
    def kind(self) -> str:
        """Type of the cells: empty, numbers, whole (numbers), times, labels or texts."""
        if all(is_number(cell) for cell in self.cells):
            if not self.values:
                return "empty"
            whole = all(value.is_integer() for value in self.values)
            years = self.name.strip().lower() == "year"
            of_time = years or (self.name.strip() and OF_TIME.fullmatch(self.name.strip()) and counted(self.cells))
            return "times" if whole and of_time else "whole" if whole else "numbers"
        if sum(map(bool, dates(self.cells))) >= REGULAR * len(self.cells):
            return "times"
        short = max(map(len, self.cells)) <= LONGEST_LABEL
        return "labels" if short and 2 * self.distinct <= len(self.cells) and self.distinct <= MOST_LABELS else "texts"

    @property
    def counts(self) -> bool:
        """Whether the column numbers the rows."""
        return self.kind == "whole" and all(b == a + 1 for a, b in pairwise(self.values))

    @property
    def length(self) -> float:
        return sum(map(len, self.cells)) / max(1, len(self.cells))

    @property
    def told(self) -> str:
        of = {"labels": f"{self.distinct} labels", "whole": "whole numbers"}
        return of.get(self.kind, self.kind)


@dataclass(frozen=True)
class Grid:
    """The first rows of a table."""

    path: Path
    separator: str  # a value of `data.separator`; "" for Parquet
    header: bool
    columns: list[Column]
    rows: list[list[str]]
    lines: int  # number of lines in the file, estimated for text

    def of(self, *kinds: str) -> list[Column]:
        return [column for column in self.columns if column.kind in kinds]

    @property
    def numbers(self) -> list[Column]:
        return self.of("numbers", "whole")

    @property
    def told(self) -> str:
        if self.header:
            shown = [f"{column.name}: {column.told}" for column in self.columns]
        else:
            runs = [(told, len(list(same))) for told, same in groupby(column.told for column in self.columns)]
            shown = [f"{count} × {told}" if count > 1 else told for told, count in runs]
        more = "; …" if len(shown) > MOST_SHOWN else ""
        headless = "" if self.header else " without a header"
        size = f"{len(self.columns)} column{'s' * (len(self.columns) > 1)}"
        return f"a table of {size}{headless} ({'; '.join(shown[:MOST_SHOWN])}{more})"


@lru_cache(maxsize=1)
def grid_of(look: Look) -> Grid:
    """The table in the first file. Raises Unlike if it isn't a table."""
    path = look.files[0]
    if ending(path) in PARQUET:
        found = list(islice(parquet_rows(path, Counter()), ROWS))
        if not found:
            raise Unlike("a table without rows")
        names, rows = found[0][1].names, [cells for _, _, cells, _ in found]
        return Grid(path, "", True, _columns(names, rows), rows, parquet_count(path))
    path, sample = look.first()
    begin = sample.filled[: ROWS + 1]
    begin = begin[1:] if begin and SEPARATOR_LINE.fullmatch(begin[0]) else begin
    if len(begin) < FEWEST_LINES:
        raise Unlike("too few lines")
    try:
        separator, rows = _cells(begin)
    except Unlike:
        _check_comments(begin, path)
        _check_uneven(begin, path)
        raise
    _check_title(rows)
    ruled = len(rows) > 2 and is_rule(rows[1])
    rows = [row for row in rows if not is_rule(row)]
    header = ruled or _headed(rows)
    names = Columns.of(rows[0] if header else [""] * len(rows[0]), path).names
    below = rows[header:]
    return Grid(path, separator, header, _columns([name.strip() for name in names], below), below, sample.all_lines)


def _check_comments(begin: Sequence[str], path: Path) -> None:
    """Refuse a table below lines of comment. Raises Stopped."""
    comments = len(list(takewhile(lambda line: line.lstrip().startswith("#"), begin)))
    if not comments or len(begin) < comments + FEWEST_LINES or ending(path) != ".csv":
        return
    try:
        separator, _ = _cells(begin[comments:])
    except Unlike:
        return
    what = f"begins with {comments} line{'s' * (comments > 1)} of comment, above a table (separator: {separator})"
    raise Stopped(what, ABOVE)


def _check_title(rows: Sequence[Sequence[str]]) -> None:
    """Refuse a title above the header, the only cell of its row. Raises Stopped."""
    filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
    usual = Counter(filled).most_common(1)[0][0]
    if filled[0] == 1 < usual and len(rows[0]) > 2 and sum(filled[1:3]) > 2:
        title = next(cell for cell in rows[0] if cell.strip())
        raise Stopped(f"has only {title.strip()[:60]!r} in its first line", ABOVE)


def _check_uneven(begin: Sequence[str], path: Path) -> None:
    """Refuse a file named as a table with a few lines that have other numbers of cells. Raises Stopped."""
    for separator in {".csv": ",;", ".tsv": "\t"}.get(ending(path), ""):
        widths = [len(split_cells(line, separator)) for line in begin]
        width, count = Counter(widths).most_common(1)[0]
        if width > 1 and 2 * count > len(begin):
            at = next(at for at, found in enumerate(widths) if found != width)
            what = f"most lines have {width} cells, but {begin[at].strip()[:40]!r} has {widths[at]}"
            quote = f"put quotes around cells that contain {separator!r}"
            raise Stopped(what, f"{ABOVE} or below its end, and {quote}; {AS_TEXT}")


def text_grid(look: Look) -> Grid:
    """The table in the first file, which must be text. Raises Unlike if it isn't."""
    grid = grid_of(look)
    if not grid.separator:
        raise Unlike("Parquet is supported only for texts and for series with regular times: save other numbers as CSV")
    return grid


def _cells(begin: Sequence[str]) -> tuple[str, list[list[str]]]:
    """(name of the separator, rows) for the separator with the most regular number of cells."""
    best: tuple[float, int, str, list[list[str]]] = (0.0, 0, "", [])
    decimal = separator_of(begin[0]) == ";"  # 1,5;2,5 has as many commas
    for name, sign in sorted(SEPARATORS.items(), key=lambda one: (one[0] != "tab", one[1] != ";" or not decimal)):
        quoting = csv.QUOTE_NONE if sign == "\t" else csv.QUOTE_MINIMAL
        try:
            rows = list(csv.reader((f"{line}\n" for line in begin), delimiter=sign, quoting=quoting))
        except csv.Error:
            continue
        width = len(rows[0])
        share = sum(len(row) == width for row in rows) / len(rows)
        if width > 1 and share >= REGULAR and (share, width) > best[:2]:
            best = (share, width, name, [with_points(row, sign) for row in rows if len(row) == width])
        # texts may have the same number of commas in each line, but hardly of tabs
        if best[2] == "tab" or (best[2] == "semicolon" and decimal):
            break
    if best[2]:
        return best[2], best[3]
    single = [[line.strip()] for line in begin]
    if all(is_number(row[0]) for row in single[1:]):
        return "comma", single
    raise Unlike("its lines have different numbers of cells, whether separated by commas, tabs, semicolons or bars")


def _headed(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row is a header. In a table of texts it is if none of its cells is repeated below. Cells
    without a name, and of more than two columns some of the same name, are usual in spreadsheets."""
    if not is_header(rows[0], rows[1]):
        return False
    if any(is_number(cell) and cell.strip() for cell in rows[1]):
        return True
    named = [(at, cell) for at, cell in enumerate(rows[0]) if cell.strip()]
    again = any(cell in [row[at] for row in rows[1:]] for at, cell in named)
    two = len(named) == 2 and named[0][1] == named[1][1]
    return not again and not two and all(len(cell) <= 40 for _, cell in named)


def _columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Column]:
    cells = zip(*rows, strict=True) if rows else [()] * len(names)
    return [Column(name, [c.strip() for c in of if c.strip()]) for name, of in zip(names, cells, strict=True)]


def time_column(grid: Grid) -> Column:
    """The column of times. Raises Unlike if there is none."""
    times = grid.of("times")
    named = [column for column in times if OF_TIME.fullmatch(column.name)]
    if not times or not grid.header:
        raise Unlike("no column of times with a header")
    return (named or times)[0]
