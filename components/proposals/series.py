"""Proposals for series of numbers in files and tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np

from components.datasets.beside_data import counts, names_a_count, names_a_recording
from components.datasets.files.folders import ending
from components.datasets.series.labelled import FRAME_FILES, FrameFilesReader, npy_shape
from components.datasets.series.times import frequency, read_times, season_of
from components.datasets.series.windows import SeriesWindowsReader
from components.errors import UserError
from components.proposals.base import Look, Proposal, Unlike, pair
from components.proposals.columns import Column, Grid, grid_of, text_grid, time_column

FEW = 20  # most distinct whole numbers that may be labels
REPEATED = 0.02  # share of times that may be there twice, as in the hour when clocks are put back
VALUE = ("value", "y", "target", "sales", "sold", "demand", "count", "amount", "load", "volume")
FEWEST_STEPS = 4  # of series after their label
WINDOW, LENGTH = 100, 24  # default windows, in lines
USUAL_HORIZON, HORIZON_SHARE = 12, 6  # steps without a season; minimum length of a series in horizons
FORECAST = {"kind": "forecast", "output": "student_t", "samples": 100}


def ts(look: Look) -> Proposal:
    path, sample = look.first()
    if ending(path) != ".ts" or not any(line.lower().startswith("@data") for line in sample.lines):
        raise Unlike("no .ts file with @data in it")
    rows = [line for line in sample.filled if not line.startswith(("@", "#"))]
    return _series(look, "series of the UEA and UCR archives", "a header with @data", {"reader": "ts"}, len(rows))


def frame_files(look: Look) -> Proposal:
    folders = {path.parent for path in look.files}
    files = look.having(FRAME_FILES)
    if len(folders) < 2 or not files:
        raise Unlike("not one folder per label with .npy, .csv or .tsv files of frames")
    pictures = len(npy_shape(files[0])) == 3
    if ending(files[0]) != ".npy":
        for row in FrameFilesReader(files[:3], **look.coding()).rows(labelled=True):
            if row.problem:
                raise Unlike(f"{row.where}: {row.problem}")
    names = sorted({path.parent.name for path in files})
    found = _series(
        look,
        f"a file of {'pictures' if pictures else 'frames'} for each series, {len(names)} labels",
        f"the labels are the folders' names: {', '.join(names[:6])}",
        {"reader": "frame-files"},
        len(files),
    )
    if not pictures:
        return found
    return replace(found, like="moving-shapes", encoding=pair({"kind": "pictures"}, "labels"))


def forecast(look: Look) -> Proposal:
    grid = grid_of(look)
    time = time_column(grid)
    others = [column for column in grid.columns if column is not time]
    if grid.of("texts"):
        raise Unlike(f"a column of texts: {grid.of('texts')[0].name}")
    at = grid.columns.index(time)
    times = [row[at] for row in grid.rows]
    alone = len(times) - len(set(times)) <= len(times) * REPEATED
    series = [column for column in others if column.kind == "labels"]
    if len(series) > 1 or (not alone and not series):
        series = series[:1] or [c for c in others if c.kind == "whole" and c.distinct * 2 <= len(grid.rows)][:1]
    if not alone and not series:
        raise Unlike("the times repeat, and no column identifies the series")
    values = [column for column in others if column in grid.numbers and column not in series]
    if not values:
        raise Unlike("no column of numbers besides the times")
    data: dict = {"reader": "series-table", "time": time.name}
    notes = []
    if series:
        value = next((column for column in values if column.name.lower() in VALUE), values[0])
        data |= {"series": series[0].name, "value": value.name}
        if rest := [column.name for column in values if column is not value]:
            notes.append(f"not read: {', '.join(rest[:6])}; what is known ahead can be data.covariates")
    elif len(values) < len(others):
        data["value"] = [column.name for column in values]
    data |= _horizon(grid, at, series, notes)
    shape = (
        f"{data['value']} in a line for each time and {series[0].name}"
        if series
        else f"{len(values)} series, a column each"
    )
    return Proposal(
        f"{grid.told}: numbers over time, {shape}",
        f"{time.name} has times such as {time.cells[0]}",
        "forecast",
        {**data, **look.coding()},
        {"kind": "series"},
        FORECAST,
        grid.lines,
        likely=not (alone and series),
        notes=tuple(notes),
    )


def _horizon(grid: Grid, at: int, series: list[Column], notes: list[str]) -> dict:
    """The setting `horizon`: a season, or less if the series are short."""
    of = grid.columns.index(series[0]) if series else None
    groups: dict[str, list[str]] = {}
    for row in grid.rows:
        groups.setdefault(row[of] if of is not None else "", []).append(row[at])
    try:
        read = [sorted(read_times(cells, [str(grid.path)] * len(cells))[0]) for cells in groups.values()]
        freq = frequency([np.array(times) for times in read])
    except UserError as error:
        raise Unlike(error.what) from None
    if freq is None:
        raise Unlike("the times have no regular step")
    whole = grid.lines <= len(grid.rows)
    shortest = min(map(len, groups.values())) if whole else max(map(len, groups.values()))
    horizon = usual_horizon(freq, shortest)
    notes.append(f"{horizon} steps of {freq} are predicted: change it with data.horizon")
    return {"horizon": horizon}


def usual_horizon(freq: str, shortest: int) -> int:
    """A season, or less if the shortest series, of so many steps, is short."""
    season = season_of(freq)
    usual = season if season > 1 else USUAL_HORIZON
    return usual if shortest >= HORIZON_SHARE * usual else max(1, shortest // HORIZON_SHARE)


def tagged_frames(look: Look) -> Proposal:
    grid = text_grid(look)
    label = (grid.of("labels") or grid.columns)[-1]
    if label.kind != "labels" and not (label.kind == "whole" and label.distinct <= FEW):
        raise Unlike("no column of labels")
    if grid.of("texts") or not [column for column in grid.numbers if column is not label]:
        raise Unlike("no lines with numbers and a label")
    runs = [tag for tag, _ in groupby(label.cells)]
    steady = len(runs) > label.distinct and 3 * len(runs) <= len(label.cells)
    window = min(WINDOW, max(4, grid.lines // 20))
    who = next(
        (column for column in grid.of("whole", "labels") if column is not label and _names_recordings(column)), None
    )
    columns = [
        column.name
        for column in grid.numbers
        if column not in (label, who) and not column.counts and not _counts_again(column)
    ]
    times = grid.of("times")
    return Proposal(
        f"{grid.told}: a frame of numbers on each line, with its label in {label.name}",
        f"each of the {label.distinct} labels lasts {len(label.cells) / len(runs):.0f} lines on average",
        "activity",
        {
            "reader": "tagged-frames",
            **({"label": label.name} if label is not grid.columns[-1] else {}),
            **({"recording": who.name} if who else {}),
            **({"columns": columns} if times or len(columns) < len(grid.columns) - 1 else {}),
            "window": window,
            **look.coding(),
        },
        pair({"kind": "frames"}, "labels"),
        {"kind": "tagging"},
        max(1, grid.lines // window),
        likely=steady and label.kind == "labels" and grid.header,
        model={"pooling": None},
        notes=("if a column identifies the recording, set data.recording to it",) * (who is None),
    )


def _names_recordings(column: Column) -> bool:
    """Whether a column tells by its name and its runs of the same value who or what was recorded."""
    runs = len([value for value, _ in groupby(column.cells)])
    return names_a_recording(column.name) and 5 * runs <= len(column.cells)


def _counts_again(column: Column) -> bool:
    """Whether a column that is named as a count or time goes up evenly, and begins anew at most every fifth line."""
    steps = [after - before for before, after in pairwise(column.values)]
    up = [step for step in steps if step > 0]
    return names_a_count(column.name) and len(set(up)) == 1 and 5 * (len(steps) - len(up)) < len(steps)


def rows_labels(look: Look) -> Proposal:
    grid = text_grid(look)
    first, steps = grid.columns[0], len(grid.columns) - 1
    if _label_first(grid):
        return _series(
            look,
            f"{grid.told}: a series of {steps} numbers in each row, with a label before it",
            f"the first column has {first.distinct} different values, such as {first.cells[0]}",
            {"reader": "series-rows", "steps": steps, "label": "first"},
            grid.lines,
        )
    grid, last = _rows(look)
    if last.kind == "numbers" or (last.kind == "whole" and last.distinct > FEW) or last.kind == "texts":
        raise Unlike(f"the last column isn't a label: {last.distinct} different values in {len(last.cells)} rows")
    evident = last.kind == "labels" or (not grid.header and 3 * last.distinct <= len(last.cells))
    return _series(
        look,
        f"{grid.told}: a series of {len(grid.columns) - 1} numbers in each row, with a label at its end",
        f"the last column has {last.distinct} different values",
        {"reader": "series-rows", "steps": len(grid.columns) - 1},
        grid.lines,
        likely=evident and len(grid.columns) > 2,
        notes=("for several numbers per step set data.features, and data.steps to match",),
    )


def _label_first(grid: Grid) -> bool:
    """Whether the rows are those of the UCR archive: a label, then numbers, which are no whole ones."""
    first, *others = grid.columns
    return (
        not grid.header
        and grid.separator != "bar"
        and len(others) >= FEWEST_STEPS
        and first.kind in ("labels", "whole")
        and 2 <= first.distinct <= FEW
        and 3 * first.distinct <= len(first.cells)
        and all(column.kind in ("numbers", "empty") for column in others)
        and others[0].kind == "numbers"
    )


def rows_numbers(look: Look) -> Proposal:
    grid, last = _rows(look)
    if last not in grid.numbers:
        raise Unlike("the last column isn't a number")
    return Proposal(
        f"{grid.told}: a series of {len(grid.columns) - 1} numbers in each row, and a number to predict at its end",
        f"only numbers; the last column has {last.distinct} different ones",
        "activity",
        {"reader": "series-rows", "steps": len(grid.columns) - 1, **look.coding()},
        pair({"kind": "frames"}, "frames"),
        {"kind": "regression"},
        grid.lines,
        likely=not grid.header and len(grid.columns) > 3,
    )


def windows(look: Look) -> Proposal:
    grid = text_grid(look)
    if grid.of("texts"):
        raise Unlike(f"a column of texts: {grid.of('texts')[0].name}")
    columns = [
        column
        for column in grid.numbers
        if len(grid.columns) == 1 or not (column.counts or counts(column.name, np.array(column.values)))
    ]
    if not columns:
        raise Unlike("no column of numbers")
    if ending(grid.path) not in SeriesWindowsReader.endings:
        raise Unlike(f"a long series is read from {', '.join(SeriesWindowsReader.endings)} files")
    length = min(LENGTH, max(2, grid.lines // 10))
    named = [column.name for column in columns]
    return Proposal(
        f"{grid.told}: a long series of {', '.join(named[:6]) if grid.header else 'numbers'}, a line for each step",
        "one number on each line"
        if len(grid.columns) == 1
        else f"numbers below each other, {'and times without a regular step' if grid.of('times') else 'and no times'}",
        "adding-problem",
        {"reader": "series-windows", "length": length, "columns": named if grid.header or len(named) > 1 else "1"}
        | look.coding(),
        pair({"kind": "frames"}, "frames"),
        {"kind": "regression"},
        grid.lines,
        likely=not grid.of("labels", "texts") and grid.lines > 9,
        notes=(f"windows of {length} lines: data.length; steps to predict: data.horizon",),
    )


def _rows(look: Look) -> tuple[Grid, Column]:
    """A table of numbers and its last column."""
    grid = text_grid(look)
    *before, last = grid.columns
    if len(before) < 2 or any(column not in grid.numbers for column in before):
        raise Unlike("no rows with at least two numbers and a value to predict")
    if grid.separator == "bar":
        raise Unlike("rows of numbers must be separated by commas, tabs or semicolons")
    return grid, last


def _series(
    look: Look, what: str, why: str, data: dict, size: int, likely: bool = True, notes: tuple[str, ...] = ()
) -> Proposal:
    """The proposal for series to classify."""
    encoding, task = pair({"kind": "frames"}, "labels"), {"kind": "classification"}
    return Proposal(what, why, "activity", {**data, **look.coding()}, encoding, task, size, likely, notes=notes)
