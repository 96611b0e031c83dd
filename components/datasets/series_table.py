"""Tables of time series: a line for each time and series (long), or a column for each series (wide)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from components.datasets.beside_data import footer
from components.datasets.codings import Coding
from components.datasets.columns import Rows, dates, either_way, is_number, read_columns, table_rows
from components.datasets.folders import ending
from components.datasets.labelled import LabelledReader, Row
from components.datasets.series_grid import Found, Layout, gather, laid_out
from components.datasets.series_parts import TOO_SHORT, SeriesParts
from components.datasets.series_times import (
    REGULAR,
    counted,
    fits,
    frequency,
    offset,
    read_times,
    season_of,
    written,
)
from components.datasets.tables import PARQUET, parquet_rows
from components.datasets.targets import sense
from components.datasets.text import text_files
from components.encodings.series import Series
from components.errors import UserError, unknown

OF_TIME = re.compile(
    r"(?i)(date[ _]?)?time([ _]?stamp)?(_utc)?(_[mun]?s)?|date|ds|ts|day|month|year|year[ _]?month|"
    r"period|index|epoch(_[mun]?s)?|unix([ _]?time)?|"
)
OF_SERIES = re.compile(r"(?i)(unique_?|item_?|series_?|ts_?)?id|series|item|name")
OF_LINES = re.compile(r"(Unnamed: \d+)?")  # the index column of pandas
CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[ap]m)?", re.IGNORECASE)
MOST_HORIZON, MOST_ORIGINS = 5000, 1000


class SeriesTableReader(SeriesParts, LabelledReader):
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

    pairs = False
    endings = (".csv", ".tsv", ".tab", ".txt", *PARQUET)
    columns_set_by = "data.time, data.series, data.value"
    ways_out = {TOO_SHORT: "set smaller ones"}

    def __init__(
        self,
        files: Sequence[Path],
        /,
        *,
        time: str | None = None,
        series: str | tuple[str, ...] | None = None,
        value: str | tuple[str, ...] | None = None,
        covariates: str | tuple[str, ...] | None = None,
        freq: str | None = None,
        season: Annotated[int, Field(gt=0, le=5000)] | None = None,
        horizon: Annotated[int, Field(gt=0, le=MOST_HORIZON)] | None = None,
        origins: Annotated[int, Field(gt=0, le=MOST_ORIGINS)] = 1,
        gaps: Literal["forward", "zero", "refuse"] = "forward",
        duplicates: Literal["refuse", "mean"] = "refuse",
        coding: Coding = "utf-8",
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(files, None, False)
        self.time, self.freq, self.season, self.horizon, self.origins = time, freq, season, horizon, origins
        self.series, self.value, self.covariates = (
            (names,) if isinstance(names, str) else tuple(names or ()) for names in (series, value, covariates)
        )
        self.gaps, self.duplicates = gaps, duplicates
        if freq:
            offset(freq)
        self.kept: dict[str, Any] = {}
        self._text = text_files(self, binary=PARQUET, coding=coding, max_bytes=max_bytes)

    def whole(self) -> list[Series]:
        if "series" not in self.kept:
            found, notes = self._found()
            freq = self.freq or frequency([one.times for one in found])
            empty = [one.name for one in found if not np.isfinite(one.values).any()]
            self.kept["series"] = [self._laid_out(one, freq) for one in found if one.name not in empty]
            self.found["frequency"] = (self.files[0].name, (str(freq),))
            self.kept["notes"] = notes + self._of_gaps(found) + _of_ends(self.kept["series"])
            sums = [one.name for one in found if len(found) > 2 and footer([one.name])]
            if sums:
                what = "are they sums of the others? Then leave them out"
                self.kept["notes"].append(f"warning: series called {', '.join(sums[:5])}: {what}")
            senses: dict[str, list[str]] = {}
            for one in found:
                senses.setdefault(sense(one.name), []).append(one.name)
            if alike := [" and ".join(map(repr, names)) for names in senses.values() if len(names) > 1]:
                what = "names that differ only in case, blanks or signs are treated as different series"
                self.kept["notes"].append(f"warning: {what}: {'; '.join(alike[:5])}")
            if empty:
                listed = ", ".join(empty[:5]) + (", …" if len(empty) > 5 else "")
                self.kept["notes"].append(f"series without any value, left out: {len(empty):,} ({listed})")
        if self.part in (None, "train"):
            self.notes += [note for note in self.kept["notes"] if note not in self.notes]
        return self.kept["series"]

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        """The series to be continued, of any length, including unreadable ones with their problem."""
        found, notes = self._found()
        self.notes += notes
        known = self.found.get("frequency", ("", ()))[1]
        inferred = frequency([one.times for one in found])
        for one in found:
            freq = self.freq or (known[0] if known and fits(one.times, known[0]) else inferred)
            shown = {"series": one.name}
            try:
                yield Row(one.name, shown, self._laid_out(one, freq))
            except UserError as error:
                yield Row(one.name, shown, problem=error.what)
        self.notes += self._of_gaps(found)

    def group(self, item: Series) -> str | None:
        return None

    def _laid_out(self, one: Found, freq: str | None) -> Series:
        if freq is None:
            raise UserError("the times have no regular step", where=str(one.path), hint=REGULAR)
        season = self.season or season_of(freq)
        laid = laid_out(one, freq, self.gaps, f"{one.path}: series {one.name!r}")
        return laid.as_series(freq, season, self.horizon or season, self.origins)

    def _found(self) -> tuple[list[Found], list[str]]:
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
                if one.name in series:
                    hint = "a series must be in one file; for tables of several series set data.series"
                    raise UserError(
                        f"the series {one.name!r} is also in {series[one.name].path.name}", where=str(path), hint=hint
                    )
                series[one.name] = one
            cells = table.texts[layout.time]
            as_numbers = counted(cells)
            told = as_numbers[2] if as_numbers else either_way(cells)
            notes += [layout.told(path, table.names), *filter(None, [told])]
        return list(series.values()), notes[:5]

    def _layout(self, names: Sequence[str], second: Sequence[str], path: Path) -> Layout:
        names = [name.strip() for name in names]
        for setting in ("time", "series", "value", "covariates"):
            given = getattr(self, setting)
            for name in (given,) if isinstance(given, str) else given or ():
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
        hint = f"set data.time; columns: {', '.join(names[:8])}. Steps without times need dates: add one per step"
        raise UserError("no column of times", where=str(path), hint=hint)

    def _of_gaps(self, found: Sequence[Found]) -> list[str]:
        """Notes on what was filled, averaged and sorted."""
        filled = [one for one in found if one.filled]
        notes = []
        if filled:
            longest = max(filled, key=lambda one: one.longest)
            warning = "warning: " * any(2 * one.filled > len(one.values) for one in filled)
            notes.append(
                f"{warning}times without a value: {sum(one.filled for one in filled):,}, in {len(filled):,} series; "
                f"filled: {self.gaps} (data.gaps); longest gap: {longest.longest:,}, in {longest.name}"
            )
        if doubled := [one for one in found if one.doubled]:
            total = sum(one.doubled for one in doubled)
            notes.append(f"times with several values: {total:,}, in {len(doubled):,} series; their mean is used")
        if unsorted := sum(one.unsorted for one in found):
            notes.append(f"series that were sorted by time: {unsorted:,}")
        return notes


def _of_ends(series: Sequence[Series]) -> list[str]:
    ends = sorted({one.times[len(one.values) - 1] for one in series})
    if len(ends) < 2:
        return []
    first, last = written(np.array([ends[0], ends[-1]]), series[0].utc)
    return [f"the series end at {len(ends):,} different times, from {first} to {last}: each is cut at its own end"]


def _parquet(path: Path, dropped: Counter[str]) -> Rows:
    named = False
    for number, (_, columns, cells, _) in enumerate(parquet_rows(path, dropped), 1):
        if not named:
            yield 0, columns.names
            named = True
        yield number, cells
