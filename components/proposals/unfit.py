"""Data for which the likeliest proposal would be wrong: refused, with what to do."""

from __future__ import annotations

import csv
import re
from collections import Counter

from components.datasets.files.folders import ending
from components.datasets.files.text_doubts import written_as
from components.datasets.labelled import same_names
from components.datasets.series.table import CLOCK, OF_TIME
from components.datasets.tables.columns import is_header, is_number
from components.datasets.tables.dates import dates
from components.datasets.tables.reader import BY_ENDING, SEPARATORS
from components.proposals.base import AS_TEXT, Look, Sample, Stopped, Unlike
from components.proposals.columns import OF_INPUT, OF_TARGET, Grid, grid_of

OF_TEXTS = {"tokens", "lines", "text", "labelled-lines"}  # kinds that fit any text
OF_TABLES = {"labels", "numbers", "ratings", "pairs"}
PERIOD = re.compile(
    r"(?i)quarter|week|hour|datetime.*|.*\bdate|date\b.*|.*[ _]date|zeit(punkt|stempel)?|datum|monat|woche|quartal|"
    r"jahr|fecha|mes|jour|mois|semaine|trimestre|heure|hora"
)
PARTS = (  # columns that give a time together
    *({"year", "month"}, {"date", "hour"}, {"day", "hour"}, {"date", "time"}, {"datum", "uhrzeit"}, {"datum", "zeit"}),
    *({"jahr", "monat"}, {"fecha", "hora"}, {"date", "heure"}),
)
MONTHS = re.compile(r"(?i)(jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-zé]*\.?")
HOURS = re.compile(r"(?i)(?:h|hour|hr|he|stunde)?[ _]?(\d{1,2})(?::00|h| ?uhr)?")
SPLITS_OF_LINES = {"train", "training", "val", "valid", "validation", "dev", "test"}
DATED = re.compile(r"(\d{4}-\d{2}-\d{2}|\d{1,2}([./-])\d{1,2}\2\d{2,4})\b")  # begins with a date
TAG = re.compile(r"O|[BIESLUM]-\w+")
SERIAL = range(20_000, 80_000)  # the days of 1954 to 2119 as Excel counts them
NUMERIC = re.compile(r"[-+]?(\d+:)?[-+]?\d[\d.]*([eE][-+]?\d+)?")  # 0.5 and 3:0.5
FEW = 3  # most lines of a header
MANY = 8  # columns of numbers, of which none is named as a target
MOST_SHOWN = 4


def check(look: Look, kind: str) -> None:
    """Refuse a kind that fits the data only because nothing better does. Raises Stopped."""
    if kind in OF_TEXTS:
        _folders_and_files(look)
    if kind in OF_TEXTS | OF_TABLES and look.texts:
        _formats(look)
    _different_tables(look)
    try:
        grid = grid_of(look)
    except Unlike:
        if kind in OF_TEXTS:
            _blanks(look)
        return
    if kind in OF_TEXTS and ending(grid.path) in BY_ENDING and _several_headers(grid):
        what = "has numbers below several lines of names, or below a line of units"
        raise Stopped(what, f"keep one line of names above the numbers; {AS_TEXT}")
    table = kind in OF_TEXTS and len(look.files) == 1 and ending(grid.path) in BY_ENDING
    if table and not grid.header and len(grid.columns) > 2:
        way = "give it a first line with the columns' names, without columns that are empty"
        raise Stopped(f"is {grid.told}, which no kind fits", f"{way}; {_odd_cells(grid)}{AS_TEXT}")
    if not grid.header:
        return
    if table:
        _unread_times(grid, "texts", "labels")
        raise Stopped(f"is {grid.told}, but {_no_use(grid)}", f"{_odd_cells(grid)}{AS_TEXT}")
    if kind in OF_TABLES:
        _unread_times(grid, "texts")
        _words_and_tags(grid)
        _splits(grid)
    if kind == "pairs":
        _numbers_as_texts(grid)
    if kind == "numbers" and len(grid.numbers) > MANY and not any(OF_TARGET.fullmatch(c.name) for c in grid.numbers):
        what = f"has {len(grid.numbers)} columns of numbers, and none is named as what to predict"
        hint = "if each line is a series, name these columns by their times in order: 2024-01, 2024-02, …, and give "
        raise Stopped(what, f"{hint}each line another name; to predict the last one: --as numbers")
    if kind in ("forecast", "windows", "series-lines"):
        _parts_of_times(grid)
        _times_across(grid)
        _hours_as_series(grid)


def _no_use(grid: Grid) -> str:
    texts = grid.of("texts")
    return "no column of numbers or labels was found" if texts else "no column of texts was found beside the labels"


def _several_headers(grid: Grid) -> bool:
    """Whether most columns are numbers except for their first cells."""
    below = [column for column in grid.columns if column.kind in ("texts", "labels") and len(column.cells) > MANY]
    numbers = [c for c in below if not is_number(c.cells[0]) and all(map(is_number, c.cells[FEW:]))]
    return 2 * len(numbers) >= len(grid.columns)


def _odd_cells(grid: Grid) -> str:
    """The cells because of which columns are no numbers: those with digits."""
    found = []
    for column in grid.of("texts", "labels"):
        odd = [cell for cell in column.cells if not is_number(cell)]
        if len(odd) < len(column.cells) or all(re.search(r"\d", cell) and len(cell) < 20 for cell in odd):
            found.append(f"{column.name}: {odd[0].strip()[:20]!r}")
    if not found:
        return ""
    way = "write numbers as 1234.5 or -1234.5, without signs and units, and leave missing ones empty"
    return f"not numbers: {', '.join(found[:MOST_SHOWN])}{', …' * (len(found) > MOST_SHOWN)}; {way}; "


def _unread_times(grid: Grid, *kinds: str) -> None:
    """A column of times that can't be read would be taken for texts."""
    for column in grid.of(*kinds):
        name = column.name.strip()
        of_time = name and not OF_INPUT.fullmatch(name) and (OF_TIME.fullmatch(name) or PERIOD.fullmatch(name))
        of_time = of_time or all(map(DATED.match, column.cells))
        if of_time and all(re.search(r"\d", cell) and len(cell) <= 40 for cell in column.cells):
            read = dates(column.cells)
            cell = column.cells[read.index(None)] if None in read else column.cells[0]
            what = f"column {name} seems to hold times, but {cell.strip()[:40]!r} can't be read as one"
            raise Stopped(what, "write all times alike, as 2024-03-31 or 2024-03-31 14:00 (a quarter as 2024-01-01)")


def _words_and_tags(grid: Grid) -> None:
    """A word on each line, with a tag that depends on the words around it."""
    for column in grid.of("labels"):
        if "O" in column.cells and all(map(TAG.fullmatch, column.cells)):
            way = "write sentences in CoNLL's form: a word and its tag on each line, an empty line between sentences"
            raise Stopped(f"column {column.name} has tags of words, such as {column.cells[0]} and O", way)


def _numbers_as_texts(grid: Grid) -> None:
    """A column of numbers of which some can't be read, or of durations, would be texts to translate to."""
    for column in grid.of("texts"):
        odd = [cell for cell in column.cells if not is_number(cell)]
        if 2 * len(odd) < len(column.cells):
            what = f"column {column.name} has numbers, but {odd[0].strip()[:20]!r} isn't one"
            raise Stopped(what, "leave cells without a number empty")
        if all(map(CLOCK.fullmatch, column.cells)):
            what = f"column {column.name} has times such as {column.cells[0]}, which can't be predicted as such"
            raise Stopped(what, "write them as numbers, for example of seconds")


def _splits(grid: Grid) -> None:
    """A column that says which split each line belongs to."""
    for column in grid.of("labels"):
        values = {cell.lower() for cell in column.cells}
        if "train" in values and len(values) > 1 and values <= SPLITS_OF_LINES:
            what = (
                f"column {column.name} says which lines are {', '.join(sorted(values))}; lines would be split at random"
            )
            raise Stopped(what, "save the lines of each split in a file of its own (train.csv, val.csv, test.csv)")


def _parts_of_times(grid: Grid) -> None:
    kinds = ("whole", "times", "labels", "texts")
    names = {c.name.strip().lower() for c in grid.of(*kinds) if c.kind != "texts" or CLOCK.fullmatch(c.cells[0])}
    for parts in PARTS:
        if parts <= names:
            what = f"gives each time in several columns: {', '.join(sorted(names & {'year', 'month', 'day', *parts}))}"
            raise Stopped(what, "join them into one column, such as 2024-03-31 or 2024-03-31 14:00")


def _hours_as_series(grid: Grid) -> None:
    """Refuse days in one column and the hours in another, which would be 24 series of days."""
    for column in grid.of("whole", "labels"):
        found = [int(hour[1]) for cell in set(column.cells) if (hour := HOURS.fullmatch(cell))]
        if len(found) == column.distinct == 24 and sorted(found) in (list(range(24)), list(range(1, 25))):
            what = f"column {column.name} seems to give the hours of the days: {', '.join(column.cells[:3])}, …"
            way = "join it with the date, such as 2024-03-31 14:00"
            raise Stopped(what, f"{way}; if these are 24 series of days: --as forecast")


def _times_across(grid: Grid) -> None:
    """Refuse a table whose lines are days with a column for each hour (or each half), or years with a column for each
    month: each column would be a series of its own. And Excel's numbers for days, which would be no times."""
    names = [column.name.strip() for column in grid.numbers]
    hours = {int(found[1]) for name in names if (found := HOURS.fullmatch(name))}
    clock = {name for name in names if CLOCK.fullmatch(name)}
    months = hours if hours == set(range(1, 13)) else list(filter(MONTHS.fullmatch, names))
    kinds = [(12, months, "month"), (24, hours, "hour"), *((count, clock, "time of day") for count in (48, 96))]
    for count, told, what in kinds:
        if len(told) == count and len(names) <= count + 1 and grid.of("times"):
            said = f"has a column for each {what}: {', '.join(names[:MOST_SHOWN])}, …"
            way = f"write the values below each other, a line for each {what} with its whole time"
            raise Stopped(said, f"{way}; to read each column as a series of its own: --as forecast")
    for column in grid.of("whole"):
        of_time = column.name and (OF_TIME.fullmatch(column.name) or PERIOD.fullmatch(column.name))
        if of_time and column.counts and int(column.values[0]) in SERIAL:
            what = f"column {column.name} has day numbers of Excel ({column.cells[0]}), which aren't read as times"
            raise Stopped(what, "give the column a date format in Excel, such as 2024-03-31, and save it again")


def _formats(look: Look) -> None:
    path, sample = look.first()
    if form := written_as(sample.text):
        what = f"is {form}" if len(look.files) == 1 else f"{path.name} is {form}"
        raise Stopped(what, f"convert it to plain text, or to a CSV table with a header; {AS_TEXT}")


def _blanks(look: Look) -> None:
    """Columns of numbers that are separated by blanks, and features as `index:value`."""
    words = [line.split() for line in look.first()[1].filled[:100]] if look.texts else []
    numbers = sum(bool(NUMERIC.fullmatch(word)) for line in words for word in line)
    if words and 2 * len(words) <= sum(map(len, words)) and numbers > 0.6 * sum(map(len, words)):
        what = f"is lines of numbers, separated by blanks: {' '.join(words[0])[:40]!r}"
        raise Stopped(what, f"separate them by commas or tabs; {AS_TEXT}")


def _folders_and_files(look: Look) -> None:
    """Most files are in folders, which would be the labels, and a few beside these."""
    folders = Counter(path.parent for path in look.files)
    if same := same_names(folders):
        names = " and ".join(f"{folder.parent.name}/{folder.name}" for folder in same)
        hint = "move the files of each label into one folder; if the innermost folders are the labels, write a recipe "
        hint += f"with data.label_in: folder; {AS_TEXT}"
        raise Stopped(f"contains {names}, so it is unclear what the labels are", hint)
    tops = [one for one in folders if any(one in other.parents for other in folders)]
    below = [one for one in folders if one not in tops]
    beside = [path for path in look.files if path.parent in tops]
    if len(below) > 1 and beside and 5 * len(beside) < len(look.files):
        what = f"has files beside the folders {', '.join(sorted(one.name for one in below)[:MOST_SHOWN])}"
        names = ", ".join(path.name for path in beside[:MOST_SHOWN])
        raise Stopped(f"{what}: {names}", f"if the folders are labels, move these files away; {AS_TEXT}")


def _different_tables(look: Look) -> None:
    """Tables with different headers, as of a competition: only one of them may have the labels."""
    tables = [path for path in look.having(tuple(BY_ENDING)) if path in dict(look.texts)]
    headers = {path.name: header for path in tables if (header := _header(look.sample(path)))}
    if len({tuple(sorted(header)) for header in headers.values()}) > 1:
        shown = [f"{name} ({', '.join(header[:6])})" for name, header in headers.items()]
        best = max(tables, key=lambda path: (len(headers.get(path.name, ())), path.stat().st_size))
        hint = f"give the file to learn from: reprise new {look.shown.rstrip('/')}/{best.relative_to(look.path)}"
        raise Stopped(f"contains tables with different columns: {'; '.join(shown[:MOST_SHOWN])}", hint)


def _header(sample: Sample | None) -> tuple[str, ...]:
    """The names in the first line of a table; () if there is none."""
    if sample is None or len(sample.filled) < 2:
        return ()
    separator = max(SEPARATORS.values(), key=sample.filled[0].count)
    try:
        first, second = csv.reader(sample.filled[:2], delimiter=separator)
    except (csv.Error, ValueError):
        return ()
    headed = len(first) > 1 and is_header(first, second) and len(set(first)) == len(first)
    return tuple(cell.strip() for cell in first) if headed else ()
