"""A series given for a forecast: in Python, over HTTP or through MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from components.datasets.series.times import fits, following, frequency, grid, on_step, read_times
from components.datasets.tables.dates import either_way
from components.encodings.series import Series, SeriesValues
from components.errors import UserError, unknown

KEYS = ("values", "start", "times", "covariates", "name")
FORM = "{values: [...], start: 2024-01-01}; or times in place of start"


def given_series(given: Any, encoding: SeriesValues, where: str) -> Series:
    """A series from a mapping, or from a pandas Series with times as its index.

    `values` are the numbers, oldest first; `start` is the time of the first, or `times` are those of all of them;
    `covariates` map names to the numbers of these steps and of the predicted ones.

    Raises:
        UserError: not such a mapping, a value is missing, or the times don't fit the frequency of the model's data.
    """
    if isinstance(given, Series):
        return given
    if hasattr(given, "to_numpy") and hasattr(given, "index"):
        times = [str(time) for time in given.index]
        given = {"values": given.to_numpy(), "times": times, "name": str(given.name or "")}
    if not isinstance(given, Mapping):
        raise UserError(f"{type(given).__name__} isn't a series", where=where, hint=FORM)
    given = {key: value for key, value in given.items() if value is not None}  # MLflow adds missing keys as None
    for key in given:
        if key not in KEYS:
            raise unknown("key", str(key), KEYS, where=where)
    values = _numbers(given.get("values", ()), f"{where}.values")
    if not len(values):
        raise UserError("no values", where=where, hint=FORM)
    if ("start" in given) == ("times" in given):
        raise UserError("give either `start` or `times`", where=where, hint=FORM)
    texts = [str(time) for time in given.get("times", [given.get("start")])]
    if "times" in given and len(texts) != len(values):
        raise UserError(f"has {len(texts):,} times for {len(values):,} values", where=where)
    times, utc = read_times(texts, [f"{where}.times[{at}]" for at in range(len(texts))])
    freq = encoding.freq
    if "start" in given:
        if either_way(texts):
            what = f"{texts[0]} may have the day or the month first"
            raise UserError(what, where=f"{where}.start", hint="write it as 2024-03-31")
        if not on_step(times[0], freq):
            what = f"{given['start']} isn't on the model's time grid ({freq})"
            raise UserError(what, where=f"{where}.start", hint="choose a time on the grid")
        times = np.concatenate([times, following(times[0], freq, len(values) - 1)])
    elif (np.diff(times) <= np.timedelta64(0)).any():
        raise UserError("the times must increase", where=f"{where}.times", hint="sort them, oldest first, each once")
    elif not fits(times, freq):
        own = frequency([times]) or "no regular length"
        raise UserError(f"has steps of {own}, but the model's data have {freq}", where=f"{where}.times")
    elif len(grid(times, freq, f"{where}.times")[0]) != len(times):
        raise UserError(f"a step is missing ({freq})", where=f"{where}.times", hint="give a value for each step")
    covariates = given.get("covariates") or {}
    if set(covariates) != set(encoding.named):
        wanted = ", ".join(encoding.named) or "none"
        found = ", ".join(map(str, covariates)) or "none"
        raise UserError(f"has the covariates {found}, but the model needs {wanted}", where=f"{where}.covariates")
    columns = [_numbers(covariates[name], f"{where}.covariates.{name}") for name in encoding.named]
    if any(len(column) < len(values) or len(column) != len(columns[0]) for column in columns):
        what = "all covariates need equally many numbers, at least one for each value"
        raise UserError(what, where=f"{where}.covariates", hint="the steps to predict need covariates too")
    known = np.stack(columns, axis=1) if columns else np.zeros((len(values), 0))
    times = np.concatenate([times, following(times[-1], freq, len(known) - len(values))])
    name = str(given.get("name") or where)
    return Series(name, times, values, known, freq, encoding.season, encoding.horizon, 1, utc, encoding.named)


def _numbers(given: Any, where: str) -> np.ndarray:
    listed = given if isinstance(given, list | tuple) else ()
    if any(isinstance(one, str | bytes | bool) for one in listed):  # NumPy reads "0.5" and True as numbers
        raise UserError("must be a list of numbers, not of texts or truth values", where=where)
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise UserError(
            "some numbers are masked", where=where, hint="fill gaps first, e.g. by repeating the last value"
        )
    try:
        values = np.array(given, dtype=np.float64)
    except OverflowError:
        raise UserError("must be numbers below 1e308", where=where) from None
    except (TypeError, ValueError):
        raise UserError("must be a list of numbers", where=where) from None
    if values.ndim != 1 or not np.isfinite(values).all():
        raise UserError(
            "must be a list of finite numbers", where=where, hint="fill gaps first, e.g. by repeating the last value"
        )
    return values
