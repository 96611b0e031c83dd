"""Proposals for series that stand one on each line: tables of the M competitions, and `.tsf` files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from components.datasets.files.cells import separator_of, split_cells
from components.datasets.files.folders import ending, given_splits
from components.datasets.files.text import TextFiles
from components.datasets.series.header import numbered_in, times_in
from components.datasets.series.times import frequency
from components.datasets.series.tsf import read_tsf
from components.datasets.tables.columns import is_finite, is_number
from components.datasets.tables.dates import dates
from components.errors import UserError
from components.proposals.base import Look, Proposal, Sample, Stopped, Unlike
from components.proposals.series import FORECAST, usual_horizon

LOOKED_AT = 100  # series
FEWEST = 8  # values, for columns that are only numbered: fewer may be features
STEPS = {
    "hour": "h",
    "dail": "D",
    "day": "D",
    "week": "W",
    "month": "MS",
    "quarter": "QS",
    "year": "YS",
    "annual": "YS",
}


def series_lines(look: Look) -> Proposal:
    path, sample = look.first()
    if ending(path) == ".tsf":
        return _tsf(look, path)
    header, rows = _table(sample)
    timed, begin = times_in(header), numbered_in(header)
    names = [row[0].strip() for row in rows]
    of_days = all(dates(names))
    if timed is None and begin is None and _headless([header, *rows]):
        if of_days:
            hint = (
                "if the columns are the hours of a day, write the values below each other, a line for each hour with "
                "its whole time, such as 2024-03-31 14:00; else add a first line with the columns' names: date,…"
            )
            raise Stopped(f"has a time and {len(header) - 1:,} numbers on each line, but no header", hint)
        hint = f"if each line is a series, add a first line: name,1,2,… to {len(header) - 1}"
        raise Stopped(f"has a name and {len(header) - 1:,} numbers on each line, but no header", hint)
    if timed is None and begin is None:
        raise Unlike("the names of the last columns are no times, and don't count up")
    begin = timed[0] if timed else begin or 0
    if of_days:
        raise Unlike(f"each line has a time: {names[0]}")
    if "" in names or len(set(names)) < len(names):
        raise Unlike(f"{header[0]} doesn't name a series on each line")
    values = [row[begin : len(header)] for row in rows]
    if not all(is_number(cell) for cells in values for cell in cells) or all(map(is_number, header[:1])):
        raise Unlike("no lines of a name and numbers")
    lengths = [max((at for at, cell in enumerate(cells, 1) if is_finite(cell)), default=0) for cells in values]
    freq = frequency([timed[1]]) if timed else None
    if timed and freq is None:
        raise Unlike("times without a regular step")
    data, notes = _steps(look, path, freq, lengths)
    which = "times" if timed else "numbered columns"
    return Proposal(
        f"a table with a series on each line: its name in {header[0]}, then {len(header) - begin:,} values in {which}",
        f"the columns {', '.join(header[begin : begin + 2])} … {header[-1]}",
        "forecast",
        {"reader": "series-lines", **data, **look.coding()},
        {"kind": "series"} if timed else {"kind": "series", "calendar": []},
        FORECAST,
        max(1, sample.all_lines - 1),
        likely=timed is not None or max(lengths) >= FEWEST,
        notes=notes,
    )


def _headless(rows: Sequence[Sequence[str]]) -> bool:
    """Whether every line, the first too, is another name and the same number of numbers, at least FEWEST."""
    names = [row[0] for row in rows]
    return (
        len({len(row) for row in rows}) == 1
        and len(rows[0]) > FEWEST
        and len(set(names)) == len(names) > 1
        and not any(map(is_number, names))
        and all(is_number(cell) for row in rows for cell in row[1:])
    )


def _table(sample: Sample) -> tuple[list[str], list[list[str]]]:
    """The header and the first lines below it."""
    first, *others = sample.filled[: LOOKED_AT + 1] or [""]
    separator = separator_of(first)
    try:
        header, *rows = [split_cells(line, separator) for line in (first, *others)]
    except UserError:  # a quote that isn't closed
        raise Unlike("no table") from None
    header = [cell.strip() for cell in header]
    while header and not header[-1]:
        header.pop()
    if len(header) < 3 or not rows:
        raise Unlike("no table with a name and values on each line")
    return header, rows


def _tsf(look: Look, path: Path) -> Proposal:
    try:
        header, lines = read_tsf(TextFiles(dropped=Counter()), path)
        first = list(islice(lines, LOOKED_AT))
    except UserError as error:
        raise Unlike(error.what) from None
    if not first:
        raise Unlike("no series below @data")
    data, notes = _steps(look, path, header.freq, [len(line.cells) for line in first])
    data = {name: value for name, value in data.items() if not (name == "horizon" and header.horizon)}
    timed = first[0].start is not None
    return Proposal(
        f"series of the Monash archive, such as {first[0].name}, with {len(first[0].cells):,} values",
        "a header with @data",
        "forecast",
        {"reader": "series-lines", **data, **look.coding()},
        {"kind": "series"} if timed else {"kind": "series", "calendar": []},
        FORECAST,
        look.first()[1].all_lines,
        notes=notes,
    )


def _steps(look: Look, path: Path, freq: str | None, lengths: Sequence[int]) -> tuple[dict, tuple[str, ...]]:
    """The settings `freq`, if the file doesn't say it, and `horizon`; and notes on them."""
    data, notes = {}, []
    if freq is None:
        named = next((step for word, step in STEPS.items() if word in path.name.lower()), None)
        data["freq"] = freq = named or "D"
        why = "by the file's name" if named else "a guess: nothing says it"
        notes.append(f"data.freq={freq}, the time from one value to the next, is {why}")
    data["horizon"] = horizon = _given(look) or usual_horizon(freq, min(lengths))
    notes.append(f"{horizon} steps of {freq} are predicted: data.horizon says how many")
    return data, tuple(notes)


def _given(look: Look) -> int:
    """The number of values that the first line of a test file has more than train's; 0 if there is no such file."""
    splits = given_splits(look.path)[0] if look.path.is_dir() else {}
    if "test" not in splits or not splits["test"][0].is_file():
        return 0
    try:
        header, rows = _table(look.sample(splits["test"][0]) or Sample("", 1.0, ""))
        names, (first, *_) = _table(look.first()[1])
    except Unlike:
        return 0
    later, past = (
        [cell for cell in row[numbered_in(columns) or 1 :] if is_finite(cell)]
        for columns, row in ((header, rows[0]), (names, first))
    )
    return len(later) - len(past) if len(later) > len(past) and later[: len(past)] == past else len(later)
