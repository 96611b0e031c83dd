"""Times of series: parsing, frequency, grid, and the next times."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from components.datasets.tables.dates import dates
from components.errors import UserError

MOST_STEPS = 16 << 20  # of a series, with its gaps
LOOKED_AT = 200  # series whose frequency is inferred
RUN = 12  # consecutive times, if each series has gaps: two weeks of working days
FIRST_YEAR, LAST_YEAR = 1980, 2100  # for times written as whole numbers: others may be counts or ids
EPOCH_S = (315_532_800, 4_102_444_800)  # the beginnings of 1980 and 2100
WHOLE_NUMBER = re.compile(r"(\d{6,19})(?:\.0+)?")  # spreadsheets may write 20240131.0
WRITTEN = {
    6: ("%Y%m", "year and month"),
    8: ("%Y%m%d", "year, month and day"),
    10: ("%Y%m%d%H", "year, month, day and hour"),
    12: ("%Y%m%d%H%M", "year, month, day and time"),
    14: ("%Y%m%d%H%M%S", "year, month, day and time"),
}
UNITS = {
    "s": ("seconds", 1),
    "ms": ("milliseconds", 10**3),
    "us": ("microseconds", 10**6),
    "ns": ("nanoseconds", 10**9),
}
ZONE = re.compile(r"(Z|[+-]\d{2}:?\d{2})$")
SEASONS = {"B": 5, "D": 7, "W": 52, "MS": 12, "ME": 12, "BMS": 12, "BME": 12, "QS": 4, "QE": 4, "BQS": 4, "BQE": 4}
REGULAR = "set data.freq: h, D, W, MS …; or resample the file first, in pandas: resample('h').mean()"


def read_times(cells: Sequence[str], places: Sequence[str]) -> tuple[np.ndarray, bool]:
    """The times, datetime64 [N], with the resolution as written, and whether they are UTC: times with a zone are
    converted. `places` are the cells' locations for messages.

    Raises:
        UserError: a cell isn't a time, or only some of them have a zone.
    """
    texts = [cell.strip() for cell in cells]
    if whole := counted(texts):
        return whole[0], whole[1]
    zones = [bool(ZONE.search(text)) and ":" in text for text in texts]
    if any(zones) and not all(zones):
        where = places[zones.index(not zones[0])]
        raise UserError("some times have a zone, others don't", where=where, hint="write all times in the same way")
    try:
        found = pd.to_datetime(texts, format="ISO8601", utc=any(zones))
        times = found.tz_localize(None) if any(zones) else found
        missing = np.flatnonzero(times.isna())
        if not len(missing):
            return times.to_numpy(), any(zones)
        at = int(missing[0])
    except (ValueError, OverflowError):
        read = dates(texts)
        if None not in read:
            return np.array(read, dtype="datetime64[us]"), False
        at = read.index(None)
    hint = "write 2024-03-31, 2024-03-31 14:00, 31/3/2024, 20240331 or seconds since 1970; data.time sets the column"
    raise UserError(f"{texts[at][:40]!r} isn't a time", where=places[at], hint=hint)


def counted(cells: Sequence[str]) -> tuple[np.ndarray, bool, str] | None:
    """Times written as whole numbers: 20240131, or seconds since 1970 (or thousandths, millionths and so on). Returns
    datetime64 [N], whether they are UTC, and a description of the format. None unless all are times in one format, from
    FIRST_YEAR to LAST_YEAR."""
    texts = [WHOLE_NUMBER.fullmatch(cell.strip()) for cell in cells]
    numbers = [found[1] for found in texts if found]
    widths = {len(number) for number in numbers}
    if not numbers or len(numbers) < len(texts):
        return None
    if len(widths) == 1 and (written := WRITTEN.get(widths.pop())):
        form, parts = written
        try:
            times = pd.to_datetime(numbers, format=form)
            if times.min().year >= FIRST_YEAR and times.max().year <= LAST_YEAR:
                return times.to_numpy(), False, f"{numbers[0]} is read as {parts}: {times[0]}"
        except ValueError:  # no such day
            pass
    values = np.array(numbers, dtype=np.float64)
    for unit, (name, of_second) in UNITS.items():
        if values.min() / of_second >= EPOCH_S[0] and values.max() / of_second <= EPOCH_S[1]:
            times = pd.to_datetime(np.array(numbers, dtype=np.int64), unit=unit)
            return times.to_numpy(), True, f"{numbers[0]} is read as {name} since 1970: {times[0]} UTC"
    return None


def frequency(times: Sequence[np.ndarray]) -> str | None:
    """The commonest frequency of the series, each sorted and without duplicates, as pandas infers it; for one with
    gaps, that of its runs. None: there is none."""
    votes: Counter[str] = Counter()
    for one in times[:LOOKED_AT]:
        if whole := _inferred(one):
            votes[whole] += len(one)
            continue
        for start in range(0, min(len(one), 100 * RUN), RUN // 2):
            if run := _inferred(one[start : start + RUN]):
                votes[run] += 1
    return votes.most_common(1)[0][0] if votes else None


def _inferred(times: np.ndarray) -> str | None:
    if len(times) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a later pandas returns the same as an object
        return pd.infer_freq(pd.DatetimeIndex(times))


@lru_cache(maxsize=64)
def offset(freq: str) -> Any:
    """The step that pandas calls `freq`.

    Raises:
        UserError: there is no such step.
    """
    try:
        found = pd.tseries.frequencies.to_offset(freq)
        if pd.Timestamp("2024-01-01") + found <= pd.Timestamp("2024-01-01"):
            raise ValueError("it doesn't go forward")
    except (ValueError, OverflowError) as error:
        hint = "use one of pandas's: h, 15min, D, B, W, MS, ME, QS, YS"
        raise UserError(f"{freq!r} isn't a frequency: {str(error)[:80]}", where="data.freq", hint=hint) from None
    return found


def following(last: np.datetime64, freq: str, steps: int) -> np.ndarray:
    """The next `steps` times, datetime64 [steps]."""
    grid = pd.date_range(pd.Timestamp(last), periods=steps + 1, freq=offset(freq))
    return grid[-steps:].to_numpy().astype(np.asarray(last).dtype) if steps else np.zeros(0, np.asarray(last).dtype)


def from_start(start: np.datetime64, freq: str, steps: int) -> np.ndarray:
    """The first `steps` times from `start` on, datetime64 [steps]."""
    return pd.date_range(pd.Timestamp(start), periods=steps, freq=offset(freq)).to_numpy().astype("datetime64[s]")


def at_step(time: np.datetime64, freq: str) -> np.datetime64:
    """The step that a time is in: the Monday of its week for W-MON, the first of its month for MS."""
    step = offset(freq)
    if isinstance(step, pd.offsets.Tick) or on_step(time, freq):
        return time
    return np.datetime64(step.rollback(pd.Timestamp(time)).normalize(), "s")


def on_step(time: np.datetime64, freq: str) -> bool:
    """Whether a series of this frequency can begin at this time. A monthly one begins with a month."""
    return bool(offset(freq).is_on_offset(pd.Timestamp(time)))


def grid(times: np.ndarray, freq: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """All times from the first to the last, datetime64 [T], and the index of each given time in them.

    Raises:
        UserError: one of them is between the steps, or there would be too many.
    """
    first, last = pd.Timestamp(times[0]), pd.Timestamp(times[-1])
    step = offset(freq)
    usual = (first + step + step) - (first + step)
    if (last - first) / usual > MOST_STEPS:
        what = f"has more than {MOST_STEPS:,} steps of {freq}, from {first} to {last}"
        raise UserError(what, where=where, hint="is one of the times wrong?")
    whole = pd.date_range(first, last, freq=step)
    places = whole.get_indexer(pd.DatetimeIndex(times))
    if (off := np.flatnonzero(places < 0)).size:
        what = f"{pd.Timestamp(times[off[0]])} isn't on a grid of step {freq} ({off.size:,} of {len(times):,} aren't)"
        raise UserError(what, where=where, hint=REGULAR)
    return whole.to_numpy(), places


def fits(times: np.ndarray, freq: str) -> bool:
    """Whether sorted times are on the grid of a frequency, and fill half of it. Quarterly frequencies have several
    names."""
    try:
        return len(grid(times, freq, "")[0]) <= 2 * len(times)
    except UserError:
        return False


def season_of(freq: str) -> int:
    """The usual seasonal period in steps: a day for hours and minutes, a week for days, a year for weeks, months and
    quarters."""
    step = offset(freq)
    if isinstance(step, pd.offsets.Tick) and not isinstance(step, pd.offsets.Day):
        day = pd.Timedelta("1D") / pd.Timedelta(step)
        hour = pd.Timedelta("1h") / pd.Timedelta(step)
        return next((round(steps) for steps in (day, hour) if 1 < steps <= 1440 and steps == round(steps)), 1)
    season = SEASONS.get(str(step.rule_code).partition("-")[0], 1)
    return max(1, season // step.n) if season % step.n == 0 else 1


def written(times: np.ndarray, utc: bool) -> list[str]:
    """Times as text: dates only if all are at midnight."""
    days = times.astype("datetime64[D]")
    if (days == times).all() and not utc:
        return [str(day) for day in days]
    shown = [pd.Timestamp(time).isoformat(sep=" ") for time in times]
    return [f"{time}Z" for time in shown] if utc else shown
