"""Labelled tables: CSV, TSV and Parquet with a column to read and a column to predict; and a file of lines a label."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.datasets.labelled import LabelledReader, Row, lines, numbers, stem
from components.datasets.text import TextFiles
from components.errors import UserError, unknown

ROWS = 5_000  # of a Parquet file, read at once
MOST_ROWS = 100_000_000  # of a Parquet file: a kilobyte of it can claim any number
MOST_COLUMNS = 100_000
LARGEST_GROUP = 2 << 30  # bytes that a part of a Parquet file may expand to
SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|"}


class TableReader(LabelledReader):
    """CSV and TSV files, gzip or not, and Parquet as (text, label); with `numbers`, (text, the numbers to predict).

    `input` and `target` are columns by name, or by number from 1 where there is no `header`; in a table of two columns
    they are the first and the second. `target` may list several columns of numbers. Tabs separate where the name ends
    in .tsv or .tab, else commas; `quotes`: fields may stand in double quotes (commas: yes, tabs: no, as is usual).
    Texts with more characters than `max_length` are dropped.
    """

    def __init__(
        self,
        files: Sequence[Path],
        /,
        *,
        input: str | None = None,
        target: str | tuple[str, ...] | None = None,
        header: bool = True,
        separator: Literal["comma", "tab", "semicolon", "bar"] | None = None,
        quotes: bool | None = None,
        numbers: bool = False,
        labels: dict[str, str] | None = None,
        unique: bool = True,
        max_length: Annotated[int, Field(gt=0)] = 20_000,
        errors: Literal["refuse", "replace"] = "refuse",
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(files, labels, unique)
        self.input, self.header, self.separator, self.quotes = input, header, separator, quotes
        self.target = (target,) if isinstance(target, str) else target
        self.numbers, self.max_length = numbers, max_length
        if len(self.target or ()) > 1 and not numbers:
            raise UserError("several columns are predicted as numbers only", where="data.target", hint="numbers: true")
        self._text = TextFiles(errors=errors, max_bytes=max_bytes, dropped=self.dropped)

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        for path in self.files:
            places: list[int] | None = None
            for where, columns, cells in _parquet(path) if path.suffix in (".parquet", ".pq") else self._csv(path):
                if places is None:
                    read, *targets = places = [columns.index(name) for name in self._columns(columns, path, labelled)]
                shown = dict(zip(columns, cells, strict=True))
                yield self._row(where, shown, cells[read], [cells[index] for index in targets])

    def _row(self, where: str, shown: Mapping[str, str], text: str, targets: list[str]) -> Row:
        text = text.strip()
        if not text:
            return Row(where, shown, problem="no input")
        if len(text) > self.max_length:
            return Row(where, shown, problem=f"longer than {self.max_length:,} characters")
        if not targets or not self.numbers:
            return Row(where, shown, text, targets[0].strip() if targets else None)
        values, problem = numbers(targets)
        return Row(where, shown, text, values.tolist(), problem)

    def _columns(self, columns: list[str], path: Path, labelled: bool) -> tuple[str, ...]:
        """The column that is read, then those that are predicted (none where the labels aren't wanted)."""
        two = len(columns) == 2
        read = self.input or (columns[0] if two or (len(columns) == 1 and not labelled) else None)
        wanted = (self.target or ((columns[1],) if two else ())) if labelled else ()
        hint = f"columns: {', '.join(columns[:50])}"
        if read is None or (labelled and not wanted):
            setting = "input" if read is None else "target"
            raise UserError(f"which of the {len(columns)} columns?", where=f"data.{setting}: {path}", hint=hint)
        for setting, names in (("input", (read,)), ("target", wanted)):
            for name in names:
                if name not in columns:
                    raise unknown("column", name, columns, where=f"data.{setting}: {path}")
        return read, *wanted

    def _csv(self, path: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        ending = Path(path.name.removesuffix(".gz")).suffix
        separator = SEPARATORS[self.separator or ("tab" if ending in (".tsv", ".tab") else "comma")]
        quotes = self.quotes if self.quotes is not None else separator != "\t"
        quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        # not pandas' reader: it says neither which lines it leaves out nor where the row stands
        table = csv.reader(
            (line + "\n" for _, line in lines(self._text, path)), delimiter=separator, quoting=quoting, strict=True
        )
        columns: list[str] | None = None
        while True:
            before = table.line_num
            try:
                cells = next(table, None)
            except csv.Error as error:  # the reader goes on with the next line
                if columns is None:
                    hint = "other separators: data.separator; quotes that are no quotes: data.quotes"
                    raise UserError(f"isn't a table: {error}", where=f"{path}: line 1", hint=hint) from None
                reason = "too long a field" if "limit" in str(error) else "quotes out of place"
                self.dropped[reason] += table.line_num - before
                continue
            if cells is None:
                return
            if columns is None:
                columns = _named(cells if self.header else [str(number + 1) for number in range(len(cells))], path)
                if self.header:
                    continue
            if len(cells) > len(columns):
                self.dropped["more fields than columns"] += 1
            else:
                cells += [""] * (len(columns) - len(cells))
                yield f"{path}: line {before + 1}", columns, cells


def _parquet(path: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            facts = file.metadata
            groups = [facts.row_group(index).total_byte_size for index in range(facts.num_row_groups)]
            if facts.num_rows > MOST_ROWS or facts.num_columns > MOST_COLUMNS or max(groups, default=0) > LARGEST_GROUP:
                raise UserError(
                    f"{facts.num_rows:,} rows × {facts.num_columns:,} columns are too many", where=str(path)
                )
            for batch in file.iter_batches(batch_size=ROWS):
                table = batch.to_pandas()
                columns = _named([str(column) for column in table.columns], path)
                for row in table.itertuples(index=False, name=None):
                    number += 1
                    missing = (cell is None or cell != cell for cell in row)  # NaN isn't itself
                    cells = ["" if gone else str(cell) for gone, cell in zip(missing, row, strict=True)]
                    yield f"{path}: row {number}", columns, cells
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"isn't a Parquet file: {str(error).splitlines()[0]}", where=str(path)) from None


def _named(columns: list[str], path: Path) -> list[str]:
    if len(columns) > MOST_COLUMNS:
        raise UserError(f"more than {MOST_COLUMNS:,} columns", where=str(path))
    twice = (
        next((name for at, name in enumerate(columns) if name in columns[:at]), None) if len(columns) < 1000 else None
    )
    if twice is not None:
        raise UserError(f"two columns are called {twice!r}", where=str(path), hint="name them apart, or header: false")
    return columns


class LabelledLinesReader(LabelledReader):
    """One item a line; the label is the file's name: Arabic.txt, Czech.txt …"""

    def __init__(
        self,
        files: Sequence[Path],
        /,
        *,
        labels: dict[str, str] | None = None,
        unique: bool = True,
        max_length: Annotated[int, Field(gt=0)] = 1000,
        errors: Literal["refuse", "replace"] = "refuse",
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(files, labels, unique)
        self.max_length = max_length
        self._text = TextFiles(errors=errors, max_bytes=max_bytes, dropped=self.dropped)

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        for path in self.files:
            for number, line in lines(self._text, path):
                text, where = line.strip(), f"{path}: line {number}"
                problem = "" if text else "empty line"
                if len(text) > self.max_length:
                    problem = f"longer than {self.max_length:,} characters"
                yield Row(where, {"input": text[: self.max_length]}, text, stem(path) if labelled else None, problem)
