"""Base of the readers of labelled data: labels are checked, dropped rows are counted by reason."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from components.datasets.base import Reader
from components.datasets.beside_data import footer
from components.datasets.folders import ending, unpacked_name
from components.datasets.text import TextFiles
from components.errors import UserError, unknown
from components.provenance import digest_file, digest_json

LONGEST_LINE = 32 << 20  # characters
NUMBERS = {"", "?", "na", "nan", "null", "none"}  # how files mark missing numbers
DECIMAL_COMMA = re.compile(r"\s*[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+([eE][-+]?\d+)?\s*")
SEPARATOR_LINE = re.compile(r"sep=(.)\s*")  # written first by Excel, to tell the separator
THREE_DECIMALS = re.compile(r"\s*[-+]?[1-9]\d{0,2},\d{3}\s*")  # a decimal comma, or a thousands separator as in English
THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2}(\.\d{3})+\s*")  # thousands separators, or a number with three decimals
PLAIN = "numbers are written as 1234.5, without units and signs for thousands; where semicolons separate, as 1234,5 too"


@dataclass(frozen=True)
class Row:
    """One example as read. `shown` is displayed with its prediction. `problem`: why it can't be read."""

    where: str
    shown: Mapping[str, str]
    input: Any = None
    target: Any = None  # None: missing
    problem: str = ""
    steps: Sequence[Mapping[str, str]] = ()  # columns displayed with each step's answer, if a step is a line of a file


class LabelledReader(Reader):
    """Items (input, target). `labels`: the allowed labels in the files, mapped to the names they get.

    Rows without an input or a label are dropped. `unique`: repeated rows with the same label are dropped. `dropped`
    counts each reason. Equal inputs are in the same split whatever their labels are.

    Raises:
        UserError: a label isn't among `labels`; the nearest one is suggested.
    """

    framing, pairs = "sequences", True

    columns_set_by: ClassVar[str] = ""  # the settings that name a table's columns, if any

    # (shortest, longest) input in training in steps, set before `inputs()` if a model is loaded: only the length of
    # some rows shows whether they have a label
    trained_steps: tuple[int, int] | None = None
    trained_labels: Collection[str] = ()  # the model's labels: whether a row's last number is one
    pictures: bool = False  # the model reads images [T, height, width], so a file of frames may hold them

    def __init__(self, files: Sequence[Path], labels: Mapping[str, str] | None, unique: bool, /) -> None:
        super().__init__(files)
        self.labels, self.unique = labels, unique

    @abstractmethod
    def rows(self, *, labelled: bool) -> Iterator[Row]:
        """All rows in file order, including unreadable ones; without `labelled`, targets are optional."""

    def items(self) -> Iterator[tuple[Any, Any]]:
        return ((row.input, self._named(row)) for row in self._good())

    def places(self, indices: Collection[int]) -> dict[int, str]:
        return {index: row.where for index, row in enumerate(self._good()) if index in indices}

    def _good(self) -> Iterator[Row]:
        """The rows that become items."""
        self.dropped.clear()
        seen: set[str] = set()
        last = Row("", {})
        for row in self.rows(labelled=True):
            if _file_of(row) != _file_of(last):
                self._below(last)
                last = Row(row.where, {})
            problem = row.problem or ("" if row.target not in (None, "") else "no label")
            if not problem and self.unique:
                key = f"{_key(row.input)}\0{row.target}"
                problem = "repeated" if key in seen else ""
                seen.add(key)
            if problem:
                self.dropped[problem] += 1
            else:
                last = row
                yield row
        self._below(last)

    def _below(self, last: Row) -> None:
        """Warn if a file's last example looks like a total or a note below the table."""
        texts = [text for text in (last.target, last.input) if isinstance(text, str)]
        if _file_of(last) and (found := footer([*texts, *last.shown.values()])):
            note = (
                f"warning: {last.where}, the last one, is read as an example: {found[:60]!r}. Is it a total or a note?"
            )
            self.notes += [note] * (note not in self.notes)

    def inputs(self) -> Iterator[Row]:
        """The rows to be predicted, targets optional, including those with a `problem`."""
        self.dropped.clear()
        yield from self.rows(labelled=False)

    def trained_on(self, columns: Mapping[str, Sequence[str]]) -> None:
        """Set the columns that the model was trained on, by role: those of new files must be the same."""
        self.found = {role: ("the training data", tuple(names)) for role, names in columns.items()}

    def known(self, role: str, names: Sequence[str]) -> tuple[str, ...]:
        """The columns in a role in another file's header, if this file has all of these names; else ()."""
        columns = self.found.get(role, ("", ()))[1]
        return columns if set(columns) <= set(names) else ()

    def same(self, role: str, columns: Sequence[str], path: Path) -> None:
        """Refuse a file whose header names the columns in a role differently from the first file's: they would be
        confused."""
        first, names = self.found.setdefault(role, (path.name, tuple(columns)))
        if tuple(columns) != names:
            what = f"the columns {role} would be {_listed(columns)}, but those of {first} are {_listed(names)}"
            way = f", or set {self.columns_set_by}" if self.columns_set_by else ""
            raise UserError(what, where=str(path), hint=f"give the columns the same names in the same order{way}")

    def group(self, item: tuple[Any, Any]) -> str:
        return _key(item[0])

    def digest(self) -> str | None:
        """Digest of the contents and the names: the name of a file or folder may be the label."""
        return digest_json([[file.parent.name, file.name, digest_file(file)] for file in self.files])

    def _named(self, row: Row) -> Any:
        if self.labels is None or not isinstance(row.target, str):
            return row.target
        if row.target not in self.labels:
            error = unknown("label", row.target, self.labels, where=row.where)
            way = "--set data.labels=null takes the labels as they are"
            raise UserError(error.what, where=row.where, hint=f"{error.hint}; {way}")
        return self.labels[row.target]


def lines(files: TextFiles, path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of a text file, decoded by TextFiles, gzip included.

    Raises:
        UserError: it isn't text, or a line is longer than LONGEST_LINE.
    """
    number, rest = 0, ""
    for block in files.blocks(path):
        *whole, rest = (rest + block).split("\n")
        for line in whole:
            number += 1
            yield number, line
        if len(rest) > LONGEST_LINE:
            raise UserError(f"line {number + 1} has more than {LONGEST_LINE:,} characters", where=str(path))
    if rest:
        yield number + 1, rest


def split_cells(line: str, separator: str) -> list[str]:
    """The cells of a line; quoted cells may contain the separator.

    Raises:
        csv.Error: a quoted cell isn't closed.
    """
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


class Points:
    """Decimal points for the numbers of one file: `with_points` for its lines, in order.

    `apart`: each column has its own number format, else the file has one.

    Raises:
        UserError: numbers have decimal commas, and an ambiguous 1.234 occurs among them.
    """

    def __init__(self, separator: str, *, apart: bool) -> None:
        self.separator, self.apart = separator, apart
        self._commas: dict[int, str] = {}  # column → a cell with a comma
        self._thousands: dict[int, str] = {}
        self._sure: set[int] = set()  # columns with a comma that must be decimal
        self._pointed: set[int] = set()  # columns with a point that must be decimal

    def __call__(self, cells: Sequence[str], where: str) -> list[str]:
        if self.separator != ";":
            return list(cells)
        for at, cell in enumerate(cells):
            if "," in cell or "." in cell:
                column = at if self.apart else 0
                found = self._commas if DECIMAL_COMMA.fullmatch(cell) else self._thousands
                if found is self._commas or THOUSANDS.fullmatch(cell):
                    found.setdefault(column, cell.strip())
                elif cell.count(".") == 1:
                    self._pointed.add(column)
                if found is self._commas and not THREE_DECIMALS.fullmatch(cell):
                    self._sure.add(column)
                if column in self._commas and column in self._thousands:
                    what = (
                        f"has both {self._thousands[column]} and {self._commas[column]}: which sign is the decimal one?"
                    )
                    raise UserError(what, where=where, hint="write numbers without thousands separators")
        return with_points(cells, self.separator)

    @property
    def notes(self) -> list[str]:
        """Notes on commas and points that are read as decimal but could separate thousands."""
        cells = [cell for column, cell in self._commas.items() if column not in self._sure][:1]
        why = "in tables separated by semicolons, a comma is the decimal separator"
        notes = [f"{cell} is read as {float(cell.replace(',', '.'))}: {why}" for cell in cells]
        pointed = [cell for column, cell in self._thousands.items() if column not in self._pointed][:1]
        if pointed and self._sure:
            comma = self._commas[min(self._sure)]
            what = f"{pointed[0]} is read with a decimal point, but {comma} in another column has a decimal comma"
            notes.append(f"warning: {what}: write numbers without thousands separators")
        elif pointed and pointed[0].count(".") == 1:
            notes.append(f"{pointed[0]} is read as {float(pointed[0])}: write numbers without thousands separators")
        return notes


def with_points(cells: Sequence[str], separator: str) -> list[str]:
    """The cells with decimal points, if semicolons separate them and numbers have decimal commas: 2,5 is 2.5, and
    1.234,5 is 1234.5."""
    if separator != ";":
        return list(cells)
    return [cell.replace(".", "").replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells]


def numbers(cells: Sequence[str]) -> tuple[np.ndarray, str]:
    """The cells as float64 [N], and a problem if they aren't all finite numbers. Float64, because an encoding subtracts
    the mean before it rounds to float32: large numbers would lose digits."""
    try:
        if any("_" in cell for cell in cells):  # Python reads 1_000 as a number; in files it is a name
            raise ValueError
        values = np.array(cells, dtype=np.float64)
    except ValueError:
        missing = any(cell.strip().casefold() in NUMBERS for cell in cells)
        return np.zeros(0), "missing value" if missing else "not a number"
    if np.isfinite(values).all() and (np.abs(values) < np.finfo(np.float32).max).all():
        return values, ""
    return np.zeros(0), "missing value" if any(map(math.isnan, values)) else "not a finite number"


def stem(path: Path) -> str:
    """The file's name without its suffixes, which begin with a letter: Arabic for Arabic.txt.gz, 3.5 for 3.5.txt."""
    return re.split(r"\.(?=[^\W\d])", path.name, maxsplit=1)[0]


def names_as_labels(files: Sequence[Path], label_in: str | None) -> tuple[dict[Path, str], str]:
    """The label of each file by its name, and what the labels are. `label_in`: file (the name without its suffixes),
    ending, or folder. None: the folders, if the files are in several; the endings, if only these differ; else the
    names.

    Raises:
        UserError: None, and some files are in subfolders and others aren't.
    """
    folders = {path.parent for path in files}
    if label_in is None and any(one in other.parents for one in folders for other in folders):
        hint = "set data.label_in to file, ending or folder"
        raise UserError(
            "contains both files and folders, so it is unclear what the labels are", where=str(min(folders)), hint=hint
        )
    stems, endings = {stem(path) for path in files}, {ending(path) for path in files}
    if label_in is None:
        alike = len(stems) == 1 and len(endings) == len(files) > 1
        label_in = "folder" if len(folders) > 1 else "ending" if alike else "file"
    if label_in == "folder":
        return {path: path.parent.name for path in files}, "the names of their folders"
    if label_in == "ending":
        return {path: Path(unpacked_name(path)).suffix[1:] for path in files}, "the files' endings"
    several = f" before their endings, {len(files)} files" if len(stems) < len(files) else ""
    return {path: stem(path) for path in files}, f"the files' names{several}"


def _file_of(row: Row) -> str:
    """The file of a row that has a location in one; else ""."""
    return row.where.rpartition(": ")[0]


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")


def _key(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, tuple):
        return " ".join(map(_key, value))
    array = np.ascontiguousarray(value)
    return hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()
