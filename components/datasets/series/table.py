"""Tables of time series: a line for each time and series (long), or a column for each series (wide)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from components.datasets.files.folders import ending
from components.datasets.series.files import SeriesFiles
from components.datasets.series.grid import Found, Layout, gather
from components.datasets.series.times import counted, read_times
from components.datasets.tables.columns import Rows, as_names, is_number, read_columns, table_rows
from components.datasets.tables.dates import dates, either_way
from components.datasets.tables.parquet import PARQUET, parquet_rows
from components.errors import UserError, unknown

OF_TIME = re.compile(
    r"(?i)(date[ _]?)?time([ _]?stamp)?(_utc)?(_[mun]?s)?|date|ds|ts|day|month|year|year[ _]?month|"
    r"period|index|epoch(_[mun]?s)?|unix([ _]?time)?|"
)
OF_SERIES = re.compile(r"(?i)(unique_?|item_?|series_?|ts_?)?id|series|item|name")
OF_LINES = re.compile(r"(Unnamed: \d+)?")  # the index column of pandas
CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[ap]m)?", re.IGNORECASE)


@dataclass(kw_only=True, eq=False)
class SeriesTableReader(SeriesFiles):
    """Time series in tables with a header: CSV, or with tabs, semicolons or bars, and Parquet.

    Long: a line has a `time`, a `series` (one column, or several that name it together) and a `value`. Wide: a line has
    a `time`, and every other column of numbers, or those in `value`, is a series. Without `series`, a table with a
    column of texts is long. Columns that aren't set are detected and reported. `covariates` are columns whose numbers
    are known in advance: for prediction, a file continues with their lines, the value empty.

    `freq` is the step as pandas names it (h, 15min, D, W, MS; default: inferred). `season` is the seasonal period in
    steps (default: a day, a week or a year). `horizon` is the number of predicted steps (default: a season). The last
    `origins` times `horizon` steps of each series are test, as many before them val.

    `gaps`: a missing value is replaced by the last one before it (forward) or by zero, or the file is refused; later
    values are never used, since a forecast can't know them. `duplicates`: several values at one time are refused, or
    their mean is taken.
    """

    endings, binary = (".csv", ".tsv", ".tab", ".txt", *PARQUET), PARQUET
    columns_set_by = "data.time, data.series, data.value"

    time: str | None = None
    series: str | tuple[str, ...] | None = None
    value: str | tuple[str, ...] | None = None
    covariates: str | tuple[str, ...] | None = None
    duplicates: Literal["refuse", "mean"] = "refuse"

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        self.series, self.value, self.covariates = map(as_names, (self.series, self.value, self.covariates))

    def found_in_files(self) -> tuple[list[Found], list[str]]:
        """The series of all files as written, and notes for the user."""
        series: dict[str, Found] = {}
        notes: list[str] = []
        for path in self.files:
            rows = _parquet(path, self.dropped) if ending(path) in PARQUET else table_rows(self._text, path)
            head = list(islice(rows, 2))
            if len(head) < 2:
                raise UserError("no lines below the header", where=str(path))
            layout = self._layout(head[0][1], head[1][1], path)
            texts = [layout.time, *layout.series]
            table = read_columns(self._text, path, texts, chain(head, rows), header=True)
            places = [f"{path}: line {line}" for line in table.lines]
            times, utc = read_times(table.texts[layout.time], places)
            for role, names in (("time", (layout.time,)), ("series", layout.series), ("value", layout.values[:1])):
                if role == "time" or layout.series:
                    self.found.setdefault(role, (path.name, names))
            read = gather(table, layout, times, utc, self.duplicates)
            for one in read:
                if len(self.files) > 1 and not layout.series:
                    one.name = path.name.split(".")[0] + (f"/{one.name}" if len(read) > 1 else "")
                self.add(series, one, str(path))
            cells = table.texts[layout.time]
            as_numbers = counted(cells)
            told = as_numbers[2] if as_numbers else either_way(cells)
            notes += [layout.told(path, table.names), *filter(None, [told])]
        return list(series.values()), notes[:5]

    def _layout(self, names: Sequence[str], second: Sequence[str], path: Path) -> Layout:
        names = [name.strip() for name in names]
        for setting in ("time", "series", "value", "covariates"):
            for name in as_names(getattr(self, setting)):
                if name not in names:
                    raise unknown("column", name, names, where=f"data.{setting}: {path}")
        cells = dict(zip(names, second, strict=False))
        known = {role: self.known(role, names) for role in ("time", "series", "value")}
        time = self.time or (known["time"] or (self._time(names, cells, path),))[0]
        series = self.series or known["series"]
        rest = [name for name in names if name not in (time, *self.covariates, *series)]
        texts = [name for name in rest if not is_number(cells.get(name, ""))]
        numbered = [name for name in rest if name not in texts and not OF_LINES.fullmatch(name)]
        if not series and not self.value:
            called = [name for name in rest if OF_SERIES.fullmatch(name)]
            if len(texts) == 1 and CLOCK.fullmatch(cells[texts[0]].strip()):
                what = f"the date is in {time}, but the time of day in {texts[0]}"
                raise UserError(what, where=str(path), hint="join them in one column: 2024-03-31 14:00")
            if len(called) == 1 or len(texts) == 1:
                series = tuple(called) if len(called) == 1 else tuple(texts)
            elif texts:
                hint = f"set data.series={texts[0]} (or a list of columns), and data.value to the column of numbers"
                raise UserError(
                    f"which column identifies the series: {', '.join(texts[:8])}?", where=str(path), hint=hint
                )
            numbered = [name for name in numbered if name not in series]
        values = self.value or (known["value"] if series else ()) or tuple(numbered)
        if not values or (series and len(values) > 1):
            shown = ", ".join(f"{name} begins with {cells.get(name, '')[:20]!r}" for name in rest[:4])
            what = f"which column is the value: {', '.join(values[:8])}?" if values else "no column of numbers"
            hint = f"set data.value={values[0]}, and data.covariates to columns known in advance" if values else shown
            raise UserError(what, where=str(path), hint=hint)
        return Layout(time, tuple(series), tuple(values), self.covariates)

    def _time(self, names: Sequence[str], cells: dict[str, str], path: Path) -> str:
        dated = [name for name in names if any(dates([cells.get(name, "")]))]
        called = [name for name in names if OF_TIME.fullmatch(name)]
        as_numbers = [name for name in called if counted([cells.get(name, "")])]  # any other column may be a value
        if found := [name for name in dated if name in called] or dated or as_numbers or called:
            if any(dates(found[:1])):
                hint = "add a first line with the columns' names: time,value"
                raise UserError(f"the first line isn't a header: {', '.join(names)[:60]}", where=str(path), hint=hint)
            return found[0]
        hint = (
            f"set data.time; columns: {', '.join(names[:8])}. Steps without times need dates: add one per step. "
            "With a series on each line: data.reader=series-lines"
        )
        raise UserError("no column of times", where=str(path), hint=hint)


def _parquet(path: Path, dropped: Counter[str]) -> Rows:
    named = False
    for number, (_, columns, cells, _) in enumerate(parquet_rows(path, dropped), 1):
        if not named:
            yield 0, columns.names
            named = True
        yield number, cells
