"""The series of a table as written, and on a regular grid.

Shapes: N lines of a series, T steps of its grid, C covariates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from components.datasets.series.times import frequency, grid, written
from components.datasets.tables.columns import Table
from components.encodings.series import Series
from components.errors import UserError, listed

MOST_SERIES = 100_000
MOST_FILLED = 10  # steps that may be filled for each one with a value
IN_UTC = "times with a zone are converted to UTC, where summer time shifts local days: leave the zone out; or "
Gaps = Literal["forward", "zero", "refuse"]


@dataclass(frozen=True)
class Layout:
    """The roles of a table's columns. Without `series` each column of `values` is a series."""

    time: str
    series: tuple[str, ...]
    values: tuple[str, ...]
    covariates: tuple[str, ...]

    def told(self, path: Path, names: Sequence[str]) -> str:
        shown = [f"time {self.time}"]
        if self.series:
            shown += [f"series {' and '.join(self.series)}", f"value {self.values[0]}"]
        else:
            shown.append(f"{len(self.values)} series, a column each: {listed(self.values, 8)}")
        shown += [f"covariates {', '.join(self.covariates)}"] * bool(self.covariates)
        used = {self.time, *self.series, *self.values, *self.covariates}
        unread = [name for name in names if name not in used]
        return f"read of {path.name}: {'; '.join(shown)}{'; not read: ' + ', '.join(unread[:8]) if unread else ''}"


@dataclass
class Found:
    """A series in order of time. NaN: missing."""

    name: str
    path: Path
    times: np.ndarray  # datetime64 [N]
    values: np.ndarray  # float64 [N]
    covariates: np.ndarray  # float64 [N, C]
    named: tuple[str, ...]
    utc: bool
    counted: bool = False  # the file has no times: they count the values
    unsorted: bool = False
    doubled: int = 0  # values averaged with others
    filled: int = 0
    longest: int = 0  # longest gap in steps

    def as_series(self, freq: str, season: int, horizon: int, origins: int) -> Series:
        values = self.values[: np.flatnonzero(np.isfinite(self.values))[-1] + 1]
        read = self.name, self.times, values, self.covariates
        return Series(*read, freq, season, horizon, origins, self.utc, self.named)


def gather(
    table: Table, layout: Layout, times: np.ndarray, utc: bool, duplicates: Literal["refuse", "mean"]
) -> list[Found]:
    """The series of a table, in order of first occurrence.

    Raises:
        UserError: a column has text, a time occurs twice, or there are more than MOST_SERIES.
    """
    values_NK = table.values(layout.values, "data.value")
    known_NC = table.values(layout.covariates, "data.covariates")
    groups: list[tuple[str, np.ndarray, np.ndarray]] = []
    if layout.series:
        keys = ["/".join(parts).strip() for parts in zip(*(table.texts[name] for name in layout.series), strict=True)]
        if "" in keys:
            where = f"{table.path}: line {table.lines[keys.index('')]}"
            raise UserError("the series' name is missing", where=where, hint="fill in the column, or delete the line")
        names = list(dict.fromkeys(keys))
        of = {name: at for at, name in enumerate(names)}
        numbers = np.array([of[key] for key in keys])
        order = np.argsort(numbers, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
        groups = [(name, lines, values_NK[lines, 0]) for name, lines in zip(names, parts, strict=True)]
    else:
        everything = np.arange(len(times))
        groups = [(name, everything, values_NK[:, at]) for at, name in enumerate(layout.values)]
    if len(groups) > MOST_SERIES:
        raise UserError(f"more than {MOST_SERIES:,} series", where=str(table.path))
    found = []
    for name, lines, values in groups:
        order = np.argsort(times[lines], kind="stable")
        place = lines[order]
        one = Found(name, table.path, times[place], values[order], known_NC[place], layout.covariates, utc)
        one.unsorted = bool((order != np.arange(len(order))).any())
        if (twice := np.flatnonzero(np.diff(one.times) == np.timedelta64(0))).size:
            if duplicates == "refuse":
                at = place[twice[0] + 1]
                what = f"{name}: the time {table.texts[layout.time][at]} occurs twice"
                hint = "set data.series to the columns that identify the series, or data.duplicates=mean to average"
                raise UserError(what, where=f"{table.path}: line {table.lines[at]}", hint=hint)
            _average(one)
        found.append(one)
    return found


def _average(one: Found) -> None:
    """Replace several values at one time by their mean; missing ones are ignored."""
    times, of_N = np.unique(one.times, return_inverse=True)
    columns = []
    for column in (one.values, *one.covariates.T):
        there = np.isfinite(column)
        count = np.bincount(of_N[there], minlength=len(times))
        with np.errstate(invalid="ignore"):
            columns.append(np.bincount(of_N[there], column[there], minlength=len(times)) / count)
    one.doubled = len(one.times) - len(times)
    one.times, one.values, one.covariates = times, columns[0], np.array(columns[1:]).reshape(-1, len(times)).T


def laid_out(one: Found, freq: str, gaps: Gaps, where: str) -> Found:
    """The series on the grid from its first value on, with gaps filled.

    Raises:
        UserError: there is no value, a time is off the grid, the series has longer steps than the grid, `gaps` refuses
            a gap, or a covariate is missing.
    """
    if not np.isfinite(one.values).any():
        raise UserError("no value", where=where)
    first = int(np.flatnonzero(np.isfinite(one.values))[0])
    try:
        times, places = grid(one.times[first:], freq, where)
    except UserError as error:
        hint = f"{IN_UTC}{error.hint}" if one.utc else error.hint
        raise UserError(error.what, where=error.where, hint=hint) from None
    if gaps != "zero" and len(times) > 2 * len(places):  # hours from daily values would be mostly filled
        own = frequency([one.times])
        if own not in (None, freq):
            hint = "put series with other steps into another file; if missing lines mean 0, set data.gaps=zero"
            raise UserError(f"its step is {own}, but that of the data is {freq}", where=where, hint=hint)
    values = np.full(len(times), np.nan)
    covariates = np.full((len(times), one.covariates.shape[1]), np.nan)
    values[places], covariates[places] = one.values[first:], one.covariates[first:]
    ends = int(np.flatnonzero(np.isfinite(values))[-1]) + 1
    missing = np.isnan(values[:ends]) | np.isnan(covariates[:ends]).any(axis=1)
    if missing.any() and gaps == "refuse":
        first_missing = written(times[missing.argmax(), None], one.utc)[0]
        what = f"{int(missing.sum()):,} times without a value or a covariate, the first {first_missing}"
        raise UserError(what, where=where, hint="fill them with data.gaps=forward or data.gaps=zero")
    edges = np.flatnonzero(np.diff(missing.astype(np.int8), prepend=0, append=0))
    if gaps == "forward" and missing.sum() > MOST_FILLED * len(places):
        what = f"only {len(places):,} of {ends:,} steps ({freq}) have a line, up to {written(times[-1:], one.utc)[0]}"
        hint = (
            "correct times that are wrong, or set data.freq to a longer step; if missing lines mean 0, data.gaps=zero"
        )
        raise UserError(what, where=where, hint=hint)
    one.filled, one.longest = int(missing.sum()), int((edges[1::2] - edges[::2]).max(initial=0))
    values[:ends] = np.nan_to_num(values[:ends]) if gaps == "zero" else forward(values[:ends, None])[:, 0]
    covariates[:ends] = forward(covariates[:ends])  # a price isn't 0 when nothing was sold
    if (gone := np.isnan(covariates).any(axis=1)).any():
        what = f"a covariate is missing at {written(times[gone.argmax(), None], one.utc)[0]}"
        raise UserError(what, where=where, hint="covariates must be given for every step, including those to predict")
    one.times, one.values, one.covariates = times, values, covariates
    return one


def forward(columns_TK: np.ndarray) -> np.ndarray:
    """Replace NaN by the last number before it. NaN at the beginning stays."""
    steps_T1 = np.arange(len(columns_TK))[:, None]
    last_TK = np.maximum.accumulate(np.where(np.isnan(columns_TK), 0, steps_T1), axis=0)
    return np.take_along_axis(columns_TK, last_TK, axis=0)
