"""Time series: each value as two float32 numbers that keep its precision, with covariates and calendar features.

Shapes: T steps, C covariates, W features of a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field as Bounds

from components.encodings.base import Encoding, Field
from components.errors import UserError

Cycle = Literal["hour", "day", "week", "month", "year"]
SECONDS: dict[str, float] = {"hour": 3600, "day": 86400, "week": 604_800, "month": 2_629_800, "year": 31_557_600}
LONGEST_LAG = 5000
PARTS = 2  # float32 numbers of a value: together twice the digits of one
STEADY = 1e-4  # relative variation of a series below which it looks constant to the network


class Series(NamedTuple):
    """A series on a regular grid. `covariates` and `times` may continue after the last value.

    `freq` is the step in pandas' notation, `season` the number of steps in a season. `horizon` steps are predicted at
    once, from the last `origins` forecast origins of a split, which are `horizon` steps apart.
    """

    name: str
    times: np.ndarray  # datetime64 [T or more]
    values: np.ndarray  # float64 [T]
    covariates: np.ndarray  # float64 [as times, C]
    freq: str
    season: int
    horizon: int
    origins: int = 1
    utc: bool = False
    named: tuple[str, ...] = ()  # names of the covariates

    def until(self, steps: int) -> Series:
        """The first `steps` steps."""
        return self._replace(times=self.times[:steps], values=self.values[:steps], covariates=self.covariates[:steps])


@dataclass(kw_only=True, eq=False)
class SeriesValues(Encoding):
    """Series ↔ float32 [T, 2 + W]: a value and its rounding error in float32; then the covariates, standardised over
    the training data, and sine and cosine of the time in each cycle of the `calendar`.

    By default the calendar has the cycles that are longer than a step and occur at least twice in the training data.
    `lags`: steps of earlier values that a model reads besides the last one; by default 2 to 7 steps, and one to three
    seasons, one and two weeks and a year ago with the values next to those, if the training data have twice as many
    steps.

    Raises:
        UserError: a value is out of range, or the series of a data set differ in frequency or covariates.
    """

    kind = "series"
    form = "series"
    reads = "series"
    unit = "step"

    calendar: tuple[Cycle, ...] | None = None
    lags: Annotated[tuple[Annotated[int, Bounds(gt=0, le=LONGEST_LAG)], ...], Bounds(max_length=100)] | None = None

    def __post_init__(self) -> None:
        self.freq, self.season, self.horizon, self.origins, self.utc = "D", 1, 1, 1, False
        self.named: tuple[str, ...] = ()
        self.mean_C = self.deviation_C = np.zeros(0)
        self.cycles: tuple[str, ...] = ()
        self.read_lags: tuple[int, ...] = ()
        self.counts_only = False  # whether all training values are counts
        self.series: list[tuple[str, str]] = []  # (name, first time) of each training series
        self.steady = 0  # number of them with a relative variation below STEADY

    @property
    def width(self) -> int:
        """Number of features of a step besides the value."""
        return len(self.named) + 2 * len(self.cycles)

    @property
    def fields(self) -> dict[str, Field]:
        return {"series": Field(width=PARTS + self.width)}

    def fit(self, items: Iterable[Series]) -> None:
        first: Series | None = None
        self.series, self.steady, self.counts_only = [], 0, True
        count, span, longest = 0, 0.0, 0
        total = squares = np.zeros(0)
        for item in items:
            if first is None:
                first, total, squares = item, np.zeros(len(item.named)), np.zeros(len(item.named))
                self.freq, self.season, self.horizon = item.freq, item.season, item.horizon
                self.origins, self.utc, self.named = item.origins, item.utc, item.named
            self._check(item)
            self.series.append((item.name, str(item.times[0])))
            span = max(span, _seconds(item.times[-1] - item.times[0]))
            longest = max(longest, len(item.values))
            shifted = item.covariates - first.covariates[0]
            total, squares, count = total + shifted.sum(0), squares + (shifted**2).sum(0), count + len(shifted)
            self.counts_only &= are_counts(item.values)
            self.steady += 0 < np.ptp(item.values) < STEADY * np.abs(item.values).mean()
        if first is None:
            return
        mean = total / count
        self.mean_C = first.covariates[0] + mean
        self.deviation_C = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        self.deviation_C[self.deviation_C <= 1e-12 * np.abs(self.mean_C)] = 1.0
        step = _seconds(first.times[-1] - first.times[0]) / max(1, len(first.times) - 1)
        seen = tuple(name for name, seconds in SECONDS.items() if 1.5 * step < seconds <= span / 2)
        self.cycles = seen if self.calendar is None else tuple(dict.fromkeys(self.calendar))
        week, year = (round(SECONDS[name] / step) for name in ("week", "year"))
        again = {self.season, 2 * self.season, 3 * self.season, week, 2 * week, year}
        usual = {*range(2, 8), *(lag + beside for lag in again for beside in (-1, 0, 1))}
        usual = {lag for lag in usual if 1 < lag <= min(longest // 2, LONGEST_LAG)}
        self.read_lags = tuple(sorted(usual if self.lags is None else set(self.lags)))

    def encode(self, item: Series) -> np.ndarray:
        self._check(item)
        values_T = np.zeros(len(item.times))
        values_T[: len(item.values)] = item.values
        with np.errstate(over="ignore"):
            high_T = values_T.astype(np.float32)
        if not np.isfinite(high_T).all() or ((high_T == 0) & (values_T != 0)).any():
            what = f"{item.name}: a value is NaN, infinite or outside float32's range (1e-38 to 3e38)"
            raise UserError(what, where="data", hint="give the values in another unit")
        parts = [high_T, values_T - high_T.astype(np.float64)]
        parts += list(((item.covariates - self.mean_C) / self.deviation_C).T)
        for cycle in self.cycles:
            turn_T = 2 * np.pi * place_in(cycle, item.times)
            parts += [np.sin(turn_T), np.cos(turn_T)]
        return np.stack(parts, axis=1).astype(np.float32)

    def decode(self, ids: Sequence[Any] | np.ndarray) -> np.ndarray:
        """The values, float64 [T]."""
        frames = np.asarray(ids).reshape(-1, PARTS + self.width)
        return frames[:, :PARTS].astype(np.float64).sum(axis=1)

    def remarks(self) -> list[str]:
        lags = ", ".join(map(str, self.read_lags)) or "none"
        told = [
            f"{len(self.series):,} series, step {self.freq}, season of {self.season} steps; "
            f"{self.horizon} steps are predicted; lags {lags}; calendar {', '.join(self.cycles) or 'none'}"
        ]
        if self.steady:
            told.append(
                f"warning: {self.steady:,} series vary by less than {STEADY:g} of their size: set task.centre: true "
                "to subtract their mean"
            )
        return told

    def learned(self) -> dict[str, Any]:
        return {name: _plain(getattr(self, name)) for name in LEARNED}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        for name in LEARNED:
            setattr(self, name, state[name])
        self.named, self.cycles, self.read_lags = map(tuple, (self.named, self.cycles, self.read_lags))
        self.series = [(str(name), str(start)) for name, start in self.series]
        self.mean_C, self.deviation_C = np.array(self.mean_C, dtype=float), np.array(self.deviation_C, dtype=float)
        if self.mean_C.shape != self.deviation_C.shape or len(self.mean_C) != len(self.named):
            raise ValueError("mean, deviation and names of the covariates differ in number")

    def _check(self, item: Series) -> None:
        if not isinstance(item, Series):
            raise UserError(f"{type(item).__name__} isn't a series", where="data", hint="data.reader=series-table")
        if item.freq != self.freq:
            hint = "train another model for it; or set data.freq if the file's step was read wrongly"
            raise UserError(
                f"{item.name}: has step {item.freq}, but the training data have {self.freq}", where="data", hint=hint
            )
        if item.named != self.named:
            found, wanted = (", ".join(names) or "none" for names in (item.named, self.named))
            raise UserError(f"{item.name}: has the covariates {found}, but the model needs {wanted}", where="data")
        if not np.isfinite(item.covariates).all():
            raise UserError(f"{item.name}: a covariate is NaN or infinite", where="data")


LEARNED = (
    "freq", "season", "horizon", "origins", "utc", "named", "mean_C", "deviation_C", "cycles", "read_lags",
    "counts_only", "series", "steady",
)  # fmt: skip


def are_counts(values: np.ndarray) -> bool:
    """Whether all are whole numbers from 0 to 2⁵³ (above, float64 isn't exact)."""
    return bool(((values >= 0) & (values <= 2**53) & (values == np.round(values))).all())


def place_in(cycle: str, times: np.ndarray) -> np.ndarray:
    """Position of times in their hour, day, week, month or year, from 0 to below 1. Week, month and year count whole
    days: a week has seven positions."""
    days = times.astype("datetime64[D]")
    if cycle in ("hour", "day"):
        length = np.timedelta64(int(SECONDS[cycle]), "s")
        return ((times - days) % length) / length
    if cycle == "week":
        return ((days.astype(np.int64) + 3) % 7) / 7  # from Monday
    unit, longest = ("M", 31) if cycle == "month" else ("Y", 366)
    return (days - days.astype(f"datetime64[{unit}]").astype("datetime64[D]")).astype(np.int64) / longest


def _seconds(span: np.timedelta64) -> float:
    return float(span / np.timedelta64(1, "s"))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | tuple):
        return list(value.tolist() if isinstance(value, np.ndarray) else value)
    return int(value) if isinstance(value, np.integer) else value
