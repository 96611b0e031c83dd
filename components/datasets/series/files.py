"""Base of the readers of files of series: the grid, gaps, names, and series that go on in the next split's file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.beside_data import footer
from components.datasets.labelled import LabelledReader, Row
from components.datasets.series.grid import Found, Gaps, laid_out
from components.datasets.series.parts import TOO_SHORT, SeriesParts
from components.datasets.series.times import REGULAR, fits, following, frequency, offset, season_of, written
from components.datasets.targets import sense
from components.encodings.series import Series
from components.errors import UserError, listed

MOST_HORIZON, MOST_ORIGINS = 5000, 1000


@dataclass(kw_only=True, eq=False)
class SeriesFiles(SeriesParts, TextFilesReader, LabelledReader):
    """`found_in_files` reads the series as written; here they are laid on the grid of one frequency.

    If val or test has its own files, they hold the series of train. A series whose steps follow those of the split
    before is joined to it: what came before is its past.
    """

    pairs = False
    ways_out = {TOO_SHORT: "set smaller ones"}

    freq: str | None = None
    season: Annotated[int, Field(gt=0, le=5000)] | None = None
    horizon: Annotated[int, Field(gt=0, le=MOST_HORIZON)] | None = None
    origins: Annotated[int, Field(gt=0, le=MOST_ORIGINS)] = 1
    gaps: Gaps = "forward"

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        if self.freq:
            offset(self.freq)
        self.kept: dict[str, Any] = {}
        self.written_freq: str | None = None  # as a file says, if data.freq and data.horizon don't
        self.written_horizon: int | None = None

    @abstractmethod
    def found_in_files(self) -> tuple[list[Found], list[str]]:
        """The series of all files as written, and notes for the user."""

    def whole(self) -> list[Series]:
        if "series" not in self.kept:
            found, notes = self.found_in_files()
            freq = self.freq or self.written_freq or frequency([one.times for one in found])
            empty = [one.name for one in found if not np.isfinite(one.values).any()]
            found = [one for one in found if np.isfinite(one.values).any()]
            if isinstance(self.before, SeriesFiles) and (earlier := list(self.before.items())):
                found, freq = self._like(self.before, earlier, found, notes), earlier[0].freq
            self.kept["series"] = [self._laid_out(one, freq) for one in found]
            self.found.setdefault("frequency", (self.files[0].name, (str(freq),)))
            timed = [made for one, made in zip(found, self.kept["series"], strict=True) if not one.counted]
            self.kept["notes"] = notes + self._of_gaps(found) + _of_ends(timed) + _of_names(found)
            if empty:
                self.kept["notes"].append(f"series without any value, left out: {len(empty):,} ({listed(empty, 5)})")
        if self.part in (None, "train"):
            self.tell(*self.kept["notes"])
        return self.kept["series"]

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        """The series to be continued, of any length, including unreadable ones with their problem."""
        found, notes = self.found_in_files()
        self.notes += notes
        known = self.found.get("frequency", ("", ()))[1]
        inferred = frequency([one.times for one in found])
        for one in found:
            freq = self.freq or self.written_freq or (known[0] if known and fits(one.times, known[0]) else inferred)
            shown = {"series": one.name}
            try:
                yield Row(one.name, shown, self._laid_out(one, freq))
            except UserError as error:
                yield Row(one.name, shown, problem=error.what)
        self.notes += self._of_gaps(found)

    def group(self, item: Series) -> str | None:
        return None

    def add(self, series: dict[str, Found], one: Found, where: str) -> None:
        """Add a series that was read to those of all files.

        Raises:
            UserError: there is one of its name.
        """
        if one.name in series:
            what = f"the series {one.name!r} is also in {series[one.name].path.name}"
            hint = "a series must be in one file; for tables of several series set data.series"
            raise UserError(what, where=where, hint=hint)
        series[one.name] = one

    def _laid_out(self, one: Found, freq: str | None) -> Series:
        if freq is None:
            raise UserError("the times have no regular step", where=str(one.path), hint=REGULAR)
        season = self.season or season_of(freq)
        laid = laid_out(one, freq, self.gaps, f"{one.path}: series {one.name!r}")
        return laid.as_series(freq, season, self.horizon or self.written_horizon or season, self.origins)

    def _like(
        self, before: SeriesFiles, earlier: Sequence[Series], found: Sequence[Found], notes: list[str]
    ) -> list[Found]:
        """The series of the split before, in its order, each joined to its past if it goes on there. Results name a
        series by its place, so the splits must have the same ones."""
        of, named = {one.name: one for one in found}, before.files[0].name
        if missing := [one.name for one in earlier if one.name not in of]:
            what = f"{len(missing):,} of the {len(earlier):,} series of {named} are missing: {listed(missing, 5)}"
            hint = "each split needs the same series with the same names; or give one file, which is split by time"
            raise UserError(what, where=str(self.files[0]), hint=hint)
        if others := len(of) - len(earlier):
            notes.append(f"series of {self.files[0].name} that {named} doesn't have, left out: {others:,}")
        pasts = {one.name: one for one in before.whole()}
        like = [of[one.name] for one in earlier]
        if joined := sum(_joined(one, pasts[one.name], named) for one in like):
            notes.append(f"{joined:,} series of {self.files[0].name} continue those of {named}")
        return like

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


def _of_names(found: Sequence[Found]) -> list[str]:
    """Warnings about names that look like totals, and about names that are almost the same."""
    notes = []
    if sums := [one.name for one in found if len(found) > 2 and footer([one.name])]:
        what = "are they sums of the others? Then leave them out"
        notes.append(f"warning: series called {', '.join(sums[:5])}: {what}")
    senses: dict[str, list[str]] = {}
    for one in found:
        senses.setdefault(sense(one.name), []).append(one.name)
    if alike := [" and ".join(map(repr, names)) for names in senses.values() if len(names) > 1]:
        what = "names that differ only in case, blanks or signs are treated as different series"
        notes.append(f"warning: {what}: {'; '.join(alike[:5])}")
    return notes


def _joined(one: Found, past: Series, named: str) -> bool:
    """Put a series' past before it if it goes on there; whether it did. A row of counted steps has no times: it either
    repeats the past and goes on, or goes on at once.

    Raises:
        UserError: a row of counted steps has fewer new values than are predicted.
    """
    steps = len(past.values)
    if one.counted:
        values = one.values[int(np.isfinite(one.values).argmax()) :]
        begin = values[:steps]
        repeats = len(begin) == steps and bool(((begin == past.values) | np.isnan(begin)).all())
        new, needed = len(values) - steps if repeats else len(one.values), past.horizon * past.origins
        if new < needed:
            what = f"{one.name} has {new:,} values that {named} doesn't have, but {needed:,} are predicted"
            raise UserError(what, where=str(one.path), hint="lower data.horizon or data.origins")
        if repeats:
            return False
        one.times = following(past.times[steps - 1], past.freq, new)
    elif one.times[0] != following(past.times[steps - 1], past.freq, 1)[0]:
        return False
    one.times = np.concatenate([past.times[:steps], one.times])
    one.values = np.concatenate([past.values, one.values])
    one.covariates = np.concatenate([past.covariates[:steps], one.covariates])
    return True
