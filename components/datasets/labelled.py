"""What the readers of labelled data share: labels checked, every row that is left out counted with its reason."""

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
NUMBERS = {"", "?", "na", "nan", "null", "none"}  # how files write that a number isn't there
DECIMAL_COMMA = re.compile(r"\s*[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+([eE][-+]?\d+)?\s*")
SEPARATOR_LINE = re.compile(r"sep=(.)\s*")  # which Excel puts first, and reads
THREE_DECIMALS = re.compile(r"\s*[-+]?[1-9]\d{0,2},\d{3}\s*")  # or a thousand, as English writes it
THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2}(\.\d{3})+\s*")  # or a number with three decimals
PLAIN = "numbers are written as 1234.5, without units and signs for thousands; where semicolons separate, as 1234,5 too"


@dataclass(frozen=True)
class Row:
    """One example as a file has it. `shown` is what stands beside its prediction. `problem`: why it can't be read."""

    where: str
    shown: Mapping[str, str]
    input: Any = None
    target: Any = None  # None: the row has none
    problem: str = ""
    steps: Sequence[Mapping[str, str]] = ()  # what stands beside each step's answer, where a step is a line of a file


class LabelledReader(Reader):
    """Items (input, target). `labels`: the labels there may be in the files, and the names they get.

    A row without an input or a label is dropped, and with `unique` one that was there before with the same label;
    `dropped` counts each reason. Equal inputs stay on one side of a split whatever their labels are.

    Raises:
        UserError: a label isn't among `labels`; the nearest one is suggested.
    """

    framing, pairs = "sequences", True

    columns_set_by: ClassVar[str] = ""  # the settings that name the columns of a table, where there are some

    # the steps of the shortest and longest input in training, set before `inputs()` where a model is there: some rows
    # say only by their length whether they have a label
    trained_steps: tuple[int, int] | None = None
    pictures: bool = False  # does that model read pictures [T, height, width]? A file of frames may hold them then

    def __init__(self, files: Sequence[Path], labels: Mapping[str, str] | None, unique: bool, /) -> None:
        super().__init__(files)
        self.labels, self.unique = labels, unique

    @abstractmethod
    def rows(self, *, labelled: bool) -> Iterator[Row]:
        """All rows in file order, those that can't be read too; without `labelled`, a target need not be there."""

    def items(self) -> Iterator[tuple[Any, Any]]:
        return ((row.input, self._named(row)) for row in self._good())

    def places(self, indices: Collection[int]) -> dict[int, str]:
        return {index: row.where for index, row in enumerate(self._good()) if index in indices}

    def _good(self) -> Iterator[Row]:
        """The rows that are items."""
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
        """Tell of a file's last example, where it looks like a total or a note below the table."""
        texts = [text for text in (last.target, last.input) if isinstance(text, str)]
        if _file_of(last) and (found := footer([*texts, *last.shown.values()])):
            note = (
                f"warning: {last.where}, the last one, is read as an example: {found[:60]!r}. Is it a total or a note?"
            )
            self.notes += [note] * (note not in self.notes)

    def inputs(self) -> Iterator[Row]:
        """The rows to be predicted, no target needed, those with a `problem` too."""
        self.dropped.clear()
        yield from self.rows(labelled=False)

    def trained_on(self, columns: Mapping[str, Sequence[str]]) -> None:
        """The columns of the data that a model learned from, by role: those of new files have to be the same."""
        self.found = {role: ("the training data", tuple(names)) for role, names in columns.items()}

    def known(self, role: str, names: Sequence[str]) -> tuple[str, ...]:
        """The columns that another file's header has in a role, where this one has all of these names; else ()."""
        columns = self.found.get(role, ("", ()))[1]
        return columns if set(columns) <= set(names) else ()

    def same(self, role: str, columns: Sequence[str], path: Path) -> None:
        """Refuse a file whose header calls the columns in a role otherwise than the first file's: they would be taken
        for one another."""
        first, names = self.found.setdefault(role, (path.name, tuple(columns)))
        if tuple(columns) != names:
            what = f"by their places {_listed(columns)} would be {role}, where {first} has {_listed(names)}"
            way = f", or name them: {self.columns_set_by}" if self.columns_set_by else ""
            raise UserError(what, where=str(path), hint=f"give the columns the same names in the same order{way}")

    def group(self, item: tuple[Any, Any]) -> str:
        return _key(item[0])

    def digest(self) -> str | None:
        """Of the contents and the names: a file's or folder's name may be the label."""
        return digest_json([[file.parent.name, file.name, digest_file(file)] for file in self.files])

    def _named(self, row: Row) -> Any:
        if self.labels is None or not isinstance(row.target, str):
            return row.target
        if row.target not in self.labels:
            raise unknown("label", row.target, self.labels, where=row.where)
        return self.labels[row.target]


def lines(files: TextFiles, path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of a text file; as TextFiles reads it, gzip included.

    Raises:
        UserError: it isn't text, or a line has no end within LONGEST_LINE.
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
    """The cells of a line; those in double quotes may hold the separator.

    Raises:
        csv.Error: a cell has no end.
    """
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


class Points:
    """Decimal points for the numbers of one file: `with_points` for its lines, in order.

    Raises:
        UserError: numbers have decimal commas, and 1.234 stands among them: 1234, or 1 and a bit. `apart`: each column
            has its own way of writing, else all of the file's are written in one.
    """

    def __init__(self, separator: str, *, apart: bool) -> None:
        self.separator, self.apart = separator, apart
        self._commas: dict[int, str] = {}  # column → such a cell
        self._thousands: dict[int, str] = {}
        self._sure: set[int] = set()  # columns with a comma that can't be anything but a decimal one

    def __call__(self, cells: Sequence[str], where: str) -> list[str]:
        if self.separator != ";":
            return list(cells)
        for at, cell in enumerate(cells):
            if "," in cell or "." in cell:
                column = at if self.apart else 0
                found = self._commas if DECIMAL_COMMA.fullmatch(cell) else self._thousands
                if found is self._commas or THOUSANDS.fullmatch(cell):
                    found.setdefault(column, cell.strip())
                if found is self._commas and not THREE_DECIMALS.fullmatch(cell):
                    self._sure.add(column)
                if column in self._commas and column in self._thousands:
                    what = f"{self._thousands[column]} beside {self._commas[column]}: are its three digits decimals?"
                    raise UserError(what, where=where, hint="write thousands without a point, and decimals in one way")
        return with_points(cells, self.separator)

    @property
    def notes(self) -> list[str]:
        """What a person should know: commas that are taken for decimal ones, and may be of thousands."""
        cells = [cell for column, cell in self._commas.items() if column not in self._sure][:1]
        why = "where semicolons separate, a comma is the decimal one"
        return [f"{cell} is read as {float(cell.replace(',', '.'))}: {why}" for cell in cells]


def with_points(cells: Sequence[str], separator: str) -> list[str]:
    """The cells, with decimal points where semicolons separate them and numbers have decimal commas: 2,5 is 2.5, and
    1.234,5 is 1234.5."""
    if separator != ";":
        return list(cells)
    return [cell.replace(".", "").replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells]


def numbers(cells: Sequence[str]) -> tuple[np.ndarray, str]:
    """The cells as float64 [N], and what is wrong with them where they aren't all finite numbers. An encoding rounds
    them to float32 when their mean is subtracted: large ones lose digits before."""
    try:
        if any("_" in cell for cell in cells):  # Python's own 1_000: in files it is a name
            raise ValueError
        values = np.array(cells, dtype=np.float64)
    except ValueError:
        missing = any(cell.strip().casefold() in NUMBERS for cell in cells)
        return np.zeros(0), "missing value" if missing else "not a number"
    if np.isfinite(values).all() and (np.abs(values) < np.finfo(np.float32).max).all():
        return values, ""
    return np.zeros(0), "missing value" if any(map(math.isnan, values)) else "not a finite number"


def stem(path: Path) -> str:
    """The file's name without its endings, which begin with a letter: Arabic for Arabic.txt.gz, 3.5 for 3.5.txt."""
    return re.split(r"\.(?=[^\W\d])", path.name, maxsplit=1)[0]


def names_as_labels(files: Sequence[Path], label_in: str | None) -> tuple[dict[Path, str], str]:
    """The label of each file, by its name; and what the labels are. `label_in`: file (the name without its endings),
    ending, or folder. None: the folders, where the files lie in several; the endings, where the names differ in them
    alone; else the names.

    Raises:
        UserError: None, and some files lie in a folder of their own and others beside it.
    """
    folders = {path.parent for path in files}
    if label_in is None and any(one in other.parents for one in folders for other in folders):
        hint = "say what the label is: data.label_in=file, ending or folder"
        raise UserError("files lie beside folders with files", where=str(min(folders)), hint=hint)
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
    """Of a row that has a place in a file; "" of others."""
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
