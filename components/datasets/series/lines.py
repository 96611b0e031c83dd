"""Series without a column of times, one on each line: the tables of the M competitions, and `.tsf` files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from components.datasets.files.folders import ending
from components.datasets.series.files import SeriesFiles
from components.datasets.series.grid import MOST_SERIES, Found
from components.datasets.series.header import LineColumns, numbered_in, numbers_of, times_in
from components.datasets.series.times import at_step, from_start, read_times, written
from components.datasets.series.tsf import read_tsf
from components.datasets.tables.columns import LARGEST_CELLS, as_names, is_header, is_number, table_rows
from components.datasets.tables.dates import dates
from components.errors import UserError, unknown

START = "2000-01-01"  # of series without times


@dataclass(kw_only=True, eq=False)
class SeriesLinesReader(SeriesFiles):
    """Tables with a series on each line: its name, then its values, oldest first (CSV, or with tabs, semicolons or
    bars). Lines may have different lengths, filled up with empty cells, as in the files of the M4 competition. And
    `.tsf` files, as in the Monash forecasting archive.

    `series`: the columns that name a series (default: the first). The values are the columns at the end whose names are
    times or count up (V2, V3, …), or all others. Times are those in the header, or those that a `.tsf` file states.
    Otherwise the values are counted from `start` (default: 2000-01-01) in steps of `freq`, which must be set then.

    `freq` is the step as pandas names it (h, 15min, D, W, MS). `season` is the seasonal period in steps (default: a
    day, a week or a year). `horizon` is the number of predicted steps (default: what a `.tsf` file states, or a
    season). The last `origins` times `horizon` steps of each series are test, as many before them val. If test has its
    own file, its lines go on where those of train end, or repeat them and go on.

    `gaps`: a missing value is replaced by the last one before it (forward) or by zero, or the file is refused.
    """

    endings = (".csv", ".tsv", ".tab", ".txt", ".tsf")
    columns_set_by = "data.series"

    series: str | tuple[str, ...] | None = None
    start: str | None = None

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        self.series = as_names(self.series)
        self._ticks = np.zeros(0, "datetime64[s]")  # the times that values are counted by
        if self.start:
            read_times([self.start], ["data.start"])

    def found_in_files(self) -> tuple[list[Found], list[str]]:
        series: dict[str, Found] = {}
        notes: list[str] = []
        cells = 0
        for path in self.files:
            for line, one in (self._of_tsf if ending(path) == ".tsf" else self._of_table)(path, notes):
                self.add(series, one, f"{path}: line {line}")
                cells += len(one.values)
                if len(series) > MOST_SERIES or cells > LARGEST_CELLS:
                    what = f"more than {MOST_SERIES:,} series or {LARGEST_CELLS:,} values"
                    raise UserError(what, where=str(path))
        if not series:
            raise UserError(
                "contains no series", where=str(self.files[0]), hint="each line is a series: its name, then its values"
            )
        if self.before is None and any(one.counted for one in series.values()):
            since = "data.start" if self.start else f"{START} (data.start)"
            notes.append(
                f"series without times: their values are counted from {since} on in steps of "
                f"{self.freq or self.written_freq}; their calendar means nothing: encoding.calendar=[]"
            )
        return list(series.values()), notes

    def _of_table(self, path: Path, notes: list[str]) -> Iterator[tuple[int, Found]]:
        rows = table_rows(self._text, path)
        head = list(islice(rows, 2))
        if not head:
            raise UserError("contains no lines", where=str(path))
        columns = self._columns([cells for _, cells in head], path)
        notes += columns.told(path)
        below = head[bool(columns.names) :]
        if below and all(dates([columns.name(cells) for _, cells in below])):
            what = f"each line has a time: {columns.name(below[0][1])}"
            raise UserError(
                what,
                where=str(path),
                hint="for a table with a line for each time set data.reader=series-table; if its columns are the hours "
                "of a day, first write the values below each other, each with its whole time",
            )
        for number, cells in chain(below, rows):
            where = f"{path}: line {number}"
            name = columns.name(cells)
            if not name:
                hint = "set data.series to the columns that name the series; delete notes below the table"
                raise UserError("the series has no name", where=where, hint=hint)
            if columns.names and any(map(str.strip, cells[len(columns.names) :])):
                raise UserError(f"has {len(cells)} cells, but the header has {len(columns.names)}", where=where)
            values = numbers_of(columns.values(cells), where)
            if columns.times is None:
                yield number, self._counted(name, path, values)
                continue
            values = np.pad(values, (0, len(columns.times) - len(values)), constant_values=np.nan)[columns.order]
            yield number, _found(name, path, columns.times[columns.order], values, columns.utc)

    def _of_tsf(self, path: Path, notes: list[str]) -> Iterator[tuple[int, Found]]:
        header, read = read_tsf(self._text, path)
        if path != self.files[0] and (header.freq, header.horizon) != (self.written_freq, self.written_horizon):
            what = f"has steps of {header.freq} and horizon {header.horizon}, unlike {self.files[0].name}"
            raise UserError(what, where=str(path), hint="train a model of its own on it")
        self.written_freq, self.written_horizon = header.freq, header.horizon
        freq = self.freq or self.written_freq
        moved = 0
        for line in read:
            where = f"{path}: line {line.number}"
            values = numbers_of(line.cells, where)
            if not line.name.strip("/"):
                raise UserError("the series has no name", where=where)
            if line.start is None or freq is None:
                yield line.number, self._counted(line.name, path, values)
                continue
            start = at_step(line.start, freq)
            moved += start != line.start
            yield line.number, _found(line.name, path, from_start(start, freq, len(values)), values)
        if moved:
            notes.append(f"series that begin between the steps of {freq} and are moved to the step before: {moved:,}")

    def _counted(self, name: str, path: Path, values: np.ndarray) -> Found:
        freq = self.freq or self.written_freq
        if freq is None:
            hint = "set data.freq to the time between values: h, D, W, MS, QS, YS"
            raise UserError("the values have no times", where=str(path), hint=hint)
        there = np.flatnonzero(np.isfinite(values))
        values = values[: there[-1] + 1 if there.size else 0]  # lines are filled up with empty cells
        if len(self._ticks) < len(values):
            start = read_times([self.start or START], ["data.start"])[0][0]
            self._ticks = from_start(start, freq, 2 * len(values))
        found = _found(name, path, self._ticks[: len(values)], values)
        found.counted = True
        return found

    def _columns(self, head: Sequence[Sequence[str]], path: Path) -> LineColumns:
        """The columns by the first two lines."""
        first = [cell.strip() for cell in head[0]]
        while first and not first[-1]:
            first.pop()
        timed, numbered = times_in(first), numbered_in(first)
        if not (timed or numbered or is_header(first, head[-1])):
            if is_number(first[0]) or self.series:
                what = "the first line isn't a header" if self.series else f"no name of the series {first[0]} …"
                hint = (
                    "write a line with the columns' names above the others, and the series' names before their values"
                )
                raise UserError(what, where=str(path), hint=hint)
            return LineColumns([], [0], [])
        for name in self.series:
            if name not in first:
                raise unknown("column", name, first, where=f"data.series: {path}")
        named = self.series or self.known("series", first) or (first[0],)
        of_name = [first.index(name) for name in named]
        begin = timed[0] if timed else numbered or 0
        of_values = [at for at in range(begin, len(first)) if at not in of_name]
        if not of_values:
            raise UserError(f"no column contains values; columns: {', '.join(first[:8])}", where=str(path))
        self.found.setdefault("series", (path.name, tuple(named)))
        if not timed:
            return LineColumns(first, of_name, of_values)
        times = timed[1][[at - begin for at in of_values]]
        ordered = np.sort(times)
        if (twice := np.flatnonzero(np.diff(ordered) == np.timedelta64(0))).size:
            raise UserError(f"two columns are named {written(ordered[twice[:1]], timed[2])[0]}", where=str(path))
        return LineColumns(first, of_name, of_values, times, timed[2])


def _found(name: str, path: Path, times: np.ndarray, values: np.ndarray, utc: bool = False) -> Found:
    return Found(name, path, times, values, np.zeros((len(values), 0)), (), utc)
