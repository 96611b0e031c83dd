"""Labelled tables: CSV, TSV and Parquet with an input column and a target column."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.beside_data import names_a_count
from components.datasets.files.cells import PLAIN, SEPARATOR_LINE, Points, lines, numbers
from components.datasets.files.folders import ending
from components.datasets.labelled import NamedLabels, Row
from components.datasets.tables.header import Columns
from components.datasets.tables.parquet import PARQUET, parquet_rows
from components.datasets.text.labelled_lines import LabelledLinesReader
from components.errors import UserError, unknown
from components.options import options_of

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|"}
BY_ENDING = {".csv": "comma", ".tsv": "tab", ".tab": "tab"}
RULE = re.compile(r":?-{3,}:?")
BAD_QUOTES = "quotes out of place"
OTHERS = {  # files of other types, and a hint for each
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), "a spreadsheet: save the sheet as CSV (UTF-8)"),
    **dict.fromkeys((".bz2", ".xz", ".zst", ".7z", ".rar"), "compressed: unpack it, or compress it as .gz or .zip"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson", ".pkl", ".pickle", ".feather", ".sqlite", ".db", ".rds"),
                    "not a text table: save it as CSV, in pandas with to_csv('table.csv', index=False)"),
}  # fmt: skip


def refuse_other(path: Path) -> None:
    """Raise UserError for a file whose suffix isn't that of a text table."""
    if other := OTHERS.get(ending(path)):
        what, _, hint = other.partition(": ")
        raise UserError(f"is {what}", where=str(path), hint=hint)


def is_rule(cells: Sequence[str]) -> bool:
    """Whether the cells are those below the header of a Markdown table: |---|:---:|."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return len(filled) > 1 and all(RULE.fullmatch(cell) for cell in filled)


@dataclass(kw_only=True, eq=False)
class TableReader(NamedLabels, TextFilesReader):
    """CSV and TSV files, gzip or not, and Parquet, or folders of them, as (text, label); with `numbers`, (text, the
    numbers to predict).

    `input`: the input column (default: the first of two). `target`: the target column (default: the second of two), or
    several columns of numbers. `header`: whether the first line names the columns; otherwise they are numbered from 1.
    An unnamed column, or one with the name of another before it, is named by its number. `separator`: between cells
    (default: tab for .tsv and .tab, comma for .csv); required for other files. `quotes`: fields may be in double quotes
    (default: yes with commas, no with tabs). `max_length`: texts with more characters are dropped.
    """

    endings, binary = (*BY_ENDING, *PARQUET), PARQUET
    columns_set_by = "data.input and data.target"
    ways_out = {BAD_QUOTES: "set data.quotes=false to read quotes as part of the text", "not a number": PLAIN}

    input: str | None = None
    target: str | tuple[str, ...] | None = None
    header: bool = True
    separator: Literal["comma", "tab", "semicolon", "bar"] | None = None
    quotes: bool | None = None
    numbers: bool = False
    max_length: Annotated[int, Field(gt=0)] = 20_000

    def __post_init__(self, files: Sequence[Path]) -> None:
        if self.separator:
            self.endings = ()  # any file suffix
        super().__post_init__(files)
        self.target = (self.target,) if isinstance(self.target, str) else self.target
        if self.input and self.input in (self.target or ()):
            raise UserError("is the input column too", where="data.target", hint="predict another column")
        if len(self.target or ()) > 1 and not self.numbers:
            raise UserError(
                "several columns can only be predicted as numbers", where="data.target", hint="set data.numbers: true"
            )

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        for path in self.files:
            places: list[int] | None = None
            self._points = Points("", apart=True)
            name_is_label = False
            of_file = parquet_rows(path, self.dropped) if ending(path) in PARQUET else self._csv(path)
            for where, columns, cells, problem in of_file:
                if places is None:
                    wanted = self._wanted(columns, path, labelled)
                    read, *targets = places = [columns.names.index(name) for name in wanted]
                    if not labelled and not self.header:
                        self._text.tell(self._unlike_a_row(cells, path))
                shown = dict(zip(columns.names, cells, strict=True))
                if self.header and [cell.strip() for cell in cells] == columns.names and len(cells) > 1:
                    yield Row(where, shown, problem="the header again")  # of concatenated files
                    continue
                if is_rule(cells):
                    yield Row(where, shown, problem="the line below the header of a Markdown table")
                    continue
                name_is_label |= bool(targets) and columns.names[targets[0]].strip() == cells[targets[0]].strip()
                if problem:
                    yield Row(where, shown, problem=problem)
                else:
                    yield self._row(where, shown, cells[read], [cells[index] for index in targets])
            self._text.tell(self._points.notes)
            if name_is_label and self.header:
                name = columns.names[targets[0]]
                note = f"warning: {path.name}: the first line is read as a header, but {name!r} is also a label"
                note += " (if there is no header, set data.header=false)"
                self.decided += [note] * (note not in self.decided)

    def nothing_here(self, given: Sequence[Path]) -> UserError:
        error = super().nothing_here(given)
        hint = f"{self._lines_instead()}; for other file endings set data.separator=tab (comma, semicolon, bar)"
        return UserError(error.what, where=error.where, hint=hint)

    def _lines_instead(self) -> str:
        """Settings for reading texts instead of tables."""
        others = options_of(LabelledLinesReader)
        mine = {name: default for name, (_, default) in options_of(type(self)).items() if name not in others}
        given = [name for name, default in mine.items() if getattr(self, name) != default]
        taken_away = [f" --set data.{name}=null" for name in (*given, *(["labels"] if self.labels else []))]
        return f"for one file of texts per label: --set data.reader=labelled-lines{''.join(taken_away)}"

    def _row(self, where: str, shown: Mapping[str, str], text: str, targets: list[str]) -> Row:
        text = text.strip()
        if not text:
            return Row(where, shown, problem="no input")
        if len(text) > self.max_length:
            return Row(where, shown, problem=f"longer than {self.max_length:,} characters")
        if not targets or not self.numbers:
            return Row(where, shown, text, targets[0].strip() if targets else None)
        values, problem = numbers(self._points(targets, where))
        return Row(where, shown, text, values.tolist(), problem)

    def _wanted(self, columns: Columns, path: Path, labelled: bool) -> tuple[str, ...]:
        """The input column, then the target columns (none if labels aren't needed)."""
        named = [name for name in columns.names if not self.header or name not in columns.numbered]
        two, only = len(named) == 2, len(named) == 1 and not labelled
        before = self.known("read", named)
        guessed = self.header and not labelled and "read" not in self.found
        first = two and not (guessed and names_a_count(named[0]))  # an index isn't the text
        read = self.input or (before[0] if before else named[0] if first or only else None)
        wanted = (self.target or self.known("predicted", named) or ((named[1],) if two else ())) if labelled else ()
        choices = f"columns: {', '.join(columns.names[:50])}{self._other_separator(columns, path)}"
        if not labelled and self.header:
            choices += "; choose the texts' with --column NAME"
        for setting, names in (("input", (read,)), ("target", wanted or (None,) * labelled)):
            where = f"data.{setting}: {path}"
            for name in names:
                if name is None:
                    raise UserError(f"which of the {len(columns.names)} columns?", where=where, hint=choices)
                if name not in columns.names:
                    raise UserError(unknown("column", name, columns.names).what, where=where, hint=choices)
                if name in columns.nested:
                    hint = f"convert them to texts first, in pandas: table[{name!r}] = table[{name!r}].map(' '.join)"
                    raise UserError(f"column {name!r} contains lists", where=where, hint=hint)
                if name in columns.twice:
                    hint = f"rename one of them, or use the second as data.{setting}={columns.twice[name]}"
                    raise UserError(f"two columns are called {name!r}", where=where, hint=hint)
        if not labelled:
            self._text.tell(self._unsure(columns, path))
        if self.header and not self.input and (not only or len(columns.names) > 1):  # a column of texts may be alone
            self.same("read", (read,), path)
        elif only and (trained := self.found.get("read", ("", ()))[1]) and read not in trained:
            parts = [part.strip("\"' ") for part in re.split(r"[,;|\t]", read or "")]
            if len(parts) > 1 and set(trained) & set(parts):
                hint = self._other_separator(columns, path).removeprefix("; ")
                raise UserError(f"has one column, {read!r}, instead of {trained[0]!r}", where=str(path), hint=hint)
        if self.header and labelled and not self.target:
            self.same("predicted", wanted, path)
        return read, *wanted

    def _other_separator(self, columns: Columns, path: Path) -> str:
        """A hint if the first line is one column: another separator is used, or it isn't the header."""
        if len(columns.names) != 1 or ending(path) in PARQUET:
            return ""
        first, *others = itertools.islice(lines(self._text, path), 20)
        found = [name for name, sign in SEPARATORS.items() if sign in first[1]]
        if found:
            return f"; its first line has another separator: set data.separator={found[0]}"
        more = [number for number, line in others if any(sign in line for sign in SEPARATORS.values())]
        return f"; does the table begin in line {more[0]}? Then delete the lines above it" if more else ""

    def _unlike_a_row(self, cells: list[str], path: Path) -> list[str]:
        """A warning if the label in a file's first line isn't one of the model's: it may be a header."""
        at = int(self.target[0]) - 1 if self.target and self.target[0].isdecimal() else 1
        label = cells[at].strip() if at < len(cells) else ""
        if not label or not self.trained_labels or label in (*self.trained_labels, *(self.labels or ())):
            return []
        what = f"the first line is read as an example, but {label[:60]!r} is none of the model's labels"
        return [f"warning: {path.name}: {what} (if the line is a header, set data.header=true)"]

    def _unsure(self, columns: Columns, path: Path) -> list[str]:
        """A warning if a file to predict for is read as one column, but may have two."""
        if ending(path) in PARQUET:
            return []
        first = [line for _, line in itertools.islice(lines(self._text, path), 20) if line.strip()]
        notes = []
        if len(columns.names) == 1:
            for name, sign in SEPARATORS.items():
                if {line.count(sign) for line in first} == {1} and (sign != "," or len(first) > 2):
                    what = f"each line of {path.name} has one {sign!r}, read as part of the text"
                    notes.append(f"warning: {what}: if it separates two columns, set data.separator={name}")
        return notes

    def _csv(self, path: Path) -> Iterator[tuple[str, Columns, list[str], str]]:
        """(location, the columns, the row's cells, why it can't be read) of each row."""
        name = self.separator or BY_ENDING.get(ending(path))
        if name is None:
            refuse_other(path)
            what = f"the separator of a {ending(path) or 'file without an ending'} is unknown"
            hint = f"set data.separator=tab (or comma, semicolon, bar); {self._lines_instead()}"
            raise UserError(what, where=str(path), hint=hint)
        numbered = lines(self._text, path)
        first = next(numbered, (1, ""))
        said = SEPARATOR_LINE.fullmatch(first[1])
        separator = said[1] if said else SEPARATORS[name]
        numbered = numbered if said else itertools.chain([first], numbered)
        self._points = Points(separator, apart=True)
        quotes = self.quotes if self.quotes is not None else separator != "\t"
        quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        taken: list[str] = []  # the lines of the current row
        source = (taken.append(line) or line + "\n" for _, line in numbered)
        # not pandas' reader: it reports neither skipped lines nor the location of a row
        table = csv.reader(source, delimiter=separator, quoting=quoting, strict=True, skipinitialspace=quotes)
        columns: Columns | None = None
        width = 0
        while True:
            taken.clear()
            before = table.line_num + bool(said)
            try:
                cells = next(table, None)
            except csv.Error as error:  # the reader continues with the next line
                if columns is None:
                    hint = "for other separators set data.separator; for unbalanced quotes set data.quotes=false"
                    raise UserError(f"isn't a table: {error}", where=f"{path}: line 1", hint=hint) from None
                reason = "too long a field" if "limit" in str(error) else BAD_QUOTES
                for at, line in enumerate(taken, start=before + 1):
                    yield f"{path}: line {at}", columns, [line, *[""] * (width - 1)], reason
                continue
            if cells is None:
                return
            if columns is None and not cells:  # empty lines before the table
                continue
            if columns is None:
                width = len(cells)
                columns = Columns.of([cell.strip() for cell in cells] if self.header else [""] * width, path)
                if self.header:
                    continue
            rest = any(cells[width:])  # spreadsheets may end lines with empty fields
            cells = (cells + [""] * width)[:width]
            yield f"{path}: line {before + 1}", columns, cells, "more fields than columns" if rest else ""
