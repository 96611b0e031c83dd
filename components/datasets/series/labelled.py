"""Labelled time series: `.ts` files, tables with a series a row, and a file of frames per series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.beside_data import names_a_count, rises_evenly
from components.datasets.files.cells import Points, lines, numbers, split_cells
from components.datasets.files.folders import ending
from components.datasets.labelled import NamedLabels, Row, one_label
from components.errors import UserError, unknown

LARGEST_SERIES = 64 << 20  # numbers
LOOKED_AT = 100  # arrays whose axes are compared, and lines whose first cells are
WHITE = 1.5  # brighter pictures don't go from 0 to 1
COUNTED = 5  # minimum number of lines that begin with 0, 1, 2 …: fewer may be chance
FRAME_FILES = (".npy", ".csv", ".tsv")
COLUMNS = (
    "a header is skipped; if each line is a time step, use data.reader=series-windows for one long series, "
    "or tagged-frames for a label on each line"
)
NO_LABEL = "its last number isn't one of the model's labels: is the first number an index?"
UNCLEAR = "its last number may be a label: end the row with a comma in place of the label"


@dataclass(kw_only=True, eq=False)
class TsReader(NamedLabels, TextFilesReader):
    """`.ts` files of the UEA and UCR archives: a line has channels, separated by colons, and the label.

    Items: (float64 [steps, channels], label). The labels are listed in the header.
    """

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        for path in self.files:
            header, count = None, 0
            facts: dict[str, list[str]] = {}
            for number, line in lines(self._text, path):
                line, where = line.strip(), f"{path}: line {number}"
                if header is not None:
                    if line:
                        count += 1
                        yield self._row(where, count, line, header, labelled)
                elif line.startswith("@"):
                    name, *values = line[1:].split()
                    facts[name.lower()] = values
                    if name.lower() == "data":
                        header = _classes(facts, path)
                elif line and not line.startswith("#"):
                    hint = "a .ts file begins with lines that start with # or @; @data comes before the series"
                    raise UserError(f"isn't a .ts file: {line[:40]!r} before @data", where=where, hint=hint)
            if header is None:
                raise UserError("isn't a .ts file: there is no @data", where=str(path))

    def _row(self, where: str, count: int, line: str, classes: list[str], labelled: bool) -> Row:
        shown = {"series": str(count)}
        *channels, label = line.split(":") if classes else [*line.split(":"), ""]
        if classes and label.strip() not in classes:
            raise unknown("label", label.strip()[:80], classes, where=where)
        if line.startswith("("):
            return Row(where, shown, problem="has time stamps")
        cells = [channel.split(",") for channel in channels]
        if len({len(channel) for channel in cells}) != 1:
            return Row(where, shown, problem="channels of unequal length")
        values, problem = numbers([cell for channel in cells for cell in channel])
        series = values.reshape(len(cells), -1).T if not problem else None
        return Row(where, shown, series, label.strip() if labelled else None, problem)


@dataclass(kw_only=True, eq=False)
class SeriesRowsReader(NamedLabels, TextFilesReader):
    """Text files (commas, tabs or semicolons), a series a row: its frames and a label. `features`: numbers of a frame.
    `label`: whether the label is the last or the first cell (the UCR archive has it first).

    Items: (float64 [steps, features], label). For prediction, a row may lack the label or have an empty one. Rows that
    aren't numbers (a header, say) are dropped. `steps`: rows of another length are dropped.
    """

    ways_out = {"not a number": COLUMNS}
    _headed = False  # the file names its columns

    features: Annotated[int, Field(gt=0, le=100_000)] = 1
    steps: Annotated[int, Field(gt=0)] | None = None
    label: Literal["last", "first"] = "last"

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        for path in self.files:
            points: Points | None = None
            begins: list[float] = []
            name = ""
            for number, line in lines(self._text, path):
                where = f"{path}: line {number}"
                if not line.strip():
                    yield Row(where, {"line": str(number)}, problem="empty line")
                    continue
                cells, points = _cells(line, where, points)
                if number == 1 and self._counts(cells, path):
                    yield Row(where, {"line": "1"}, problem="a header that counts the columns")
                    continue
                if self.label == "first":
                    cells = [*cells[1:], cells[0]]
                if number == 1:
                    name = cells[0]
                    self._headed = False
                    self._first(cells, path, labelled)
                row = self._row(where, number, cells, labelled)
                if len(begins) < LOOKED_AT and not row.problem:
                    begins.append(float(row.input[0, 0]))
                yield row
            self._text.tell(points.notes if points else [])
            index = names_a_count(name) and len(set(begins)) == len(begins)
            counting = begins[:1] in ([0], [1]) and all(b == a + 1 for a, b in pairwise(begins))
            if len(begins) >= COUNTED and (counting or index):
                what = f"warning: {path.name}: the first number of each line counts the lines: is it an index?"
                self._text.tell([f"{what} (leave it out; in pandas: to_csv(index=False))"])

    def _counts(self, cells: list[str], path: Path) -> bool:
        """Whether a file's first line is 0, 1, 2 …, as pandas writes unnamed columns. If there is a label, it occurs in
        no other line; without one, the next line has numbers that aren't whole."""
        count = next((at for at, cell in enumerate(cells) if cell != str(at)), len(cells))
        if count < 2 or count < len(cells) - 1:
            return False
        others = islice((line for _, line in lines(self._text, path)), 1, None)
        if count < len(cells):
            return numbers(cells[-1:])[1] == "not a number" and not any(line.endswith(cells[-1]) for line in others)
        return "." in next(others, "")

    def _first(self, cells: list[str], path: Path, labelled: bool) -> None:
        """Check a file's first line: if it names the columns, it must match the other files. The last column is the
        label, which new rows may lack."""
        index, named = cells[0] == "", [cell for cell in cells if cell]
        counted = [cell for cell in named if numbers([cell])[1] != "not a number"]
        if index and named and counted == [str(number) for number in range(len(counted))]:
            what = "its first column has no name, so row numbers would be read as the first step"
            raise UserError(what, where=str(path), hint="leave it out; in pandas: to_csv(index=False)")
        if counted or len(named) < len(cells):
            return
        self._headed = True
        if labelled:
            self.same("read", cells[:-1], path)
            self.same("predicted", cells[-1:], path)
        elif before := self.found.get("read"):
            self.same("read", cells[: len(before[1])], path)

    def _row(self, where: str, number: int, cells: list[str], labelled: bool) -> Row:
        shown, label = {"line": str(number)}, None
        bare = not labelled and self._bare(cells)
        if bare is None:
            return Row(where, shown, problem=UNCLEAR)
        if bare and self.label == "first":
            cells = [cells[-1], *cells[:-1]]
        if not bare:
            *cells, label = cells
            if not labelled and not self._headed and self._foreign(label):
                return Row(where, shown, problem=NO_LABEL)
        if not cells or len(cells) % self.features:
            return Row(
                where, shown, problem=f"not frames of {self.features} numbers and a label, separated by , ; or tabs"
            )
        if self.steps and len(cells) != self.steps * self.features:
            return Row(where, shown, problem=f"not {self.steps} frames")
        values, problem = numbers(cells)
        series = values.reshape(-1, self.features) if not problem else None
        return Row(where, shown, series, label if labelled else None, problem)

    def _foreign(self, label: str) -> bool:
        """Whether a row's last cell is a number that is none of the model's labels."""
        known = self.trained_labels if self.labels is None else self.labels
        if not self.trained_labels or label == "" or label in known or numbers([label])[1]:
            return False
        return all(numbers([one])[1] or float(one) != float(label) for one in known)

    def _bare(self, cells: list[str]) -> bool | None:
        """Whether a row ends without a label. None: unknown."""
        if cells[-1] == "" or numbers(cells[-1:])[1] == "not a number":
            return False  # an empty label, or a label
        if self.steps is None and self.features > 1:
            return len(cells) % self.features == 0
        shortest, longest = (self.steps, self.steps) if self.steps else self.trained_steps or (0, 1)
        return len(cells) != shortest * self.features + 1 if shortest == longest else None


@dataclass(kw_only=True, eq=False)
class FrameFilesReader(NamedLabels, TextFilesReader):
    """A folder with a folder for each label, with files of frames: NumPy's .npy [steps, features], or CSV and TSV with
    a frame a line (a header is skipped). Or files of pictures, .npy [steps, height, width]. Items: (float64 [steps,
    features] or [steps, height, width], label)."""

    endings, binary = FRAME_FILES, (".npy",)
    ways_out = {"not a number": COLUMNS}

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        if labelled:
            self._check_axes()
            self._text.tell(one_label(self.files))
        first = next((path for path in self.files if ending(path) == ".npy"), None)
        pictures = self.pictures or (labelled and first is not None and len(npy_shape(first)) == 3)
        even: list[bool] = []
        brightest: list[float] = []  # of each file of pictures
        for path in self.files:
            frames, problem = _array(path, pictures) if ending(path) == ".npy" else self._table(path)
            if frames is not None and frames.ndim == 2 and len(even) < LOOKED_AT:
                even.append(frames.shape[1] > 1 and rises_evenly(frames[:, 0]))
            elif frames is not None and frames.ndim == 3:
                brightest.append(float(frames.max()))
            yield Row(str(path), {"file": path.name}, frames, path.parent.name if labelled else None, problem)
        most = max(brightest, default=0.0)
        if dark := sum(one <= 1 for one in brightest) * (most > WHITE):
            what = f"the pictures of {dark:,} of {len(brightest):,} files go to 1, those of others to {most:g}"
            self._text.tell([f"warning: {what}: scale all alike"])
        if even and all(even):
            what = "the first number of each frame increases by a constant: is it a frame number or time?"
            self._text.tell([f"warning: {what} (leave it out)"])

    def _check_axes(self) -> None:
        """Refuse transposed arrays: the same number of rows in each, and as many columns as there are steps."""
        arrays = [path for path in self.files[:LOOKED_AT] if ending(path) == ".npy"]
        shapes = {shape for shape in map(npy_shape, arrays) if len(shape) == 2}
        rows, columns = ({shape[axis] for shape in shapes} for axis in (0, 1))
        if len(rows) == 1 and len(columns) > 2:
            what = (
                f"all arrays have {rows.pop()} rows, but {min(columns)} to {max(columns)} columns: are they the steps?"
            )
            raise UserError(what, where=str(self.files[0].parent), hint="rows must be steps: save array.T")

    def _table(self, path: Path) -> tuple[np.ndarray | None, str]:
        frames: list[np.ndarray] = []
        names: list[str] = []
        points: Points | None = None
        total = 0
        for number, line in lines(self._text, path):
            if not line.strip():
                continue
            cells, points = _cells(line, f"{path}: line {number}", points)
            values, problem = numbers(cells)
            header = number == 1 and numbers([cell for cell in cells if cell])[1] == "not a number"
            if problem and not header:
                return None, problem
            if problem:
                names = cells
                continue
            frames.append(values)
            total += len(values)
            if total > LARGEST_SERIES:
                raise UserError(f"more than {LARGEST_SERIES:,} numbers", where=str(path))
        self._text.tell(points.notes if points else [])
        if not frames or len({len(frame) for frame in frames}) != 1:
            return None, "frames of unequal length" if frames else "no frames"
        read = np.stack(frames)
        if names[:1] == [""] and (read[:, 0] == np.arange(len(read))).all():  # pandas' index
            names, read = names[1:], read[:, 1:]
        if not read.size:
            return None, "no frames"
        if len(names) == read.shape[1]:
            self.same("read", names, path)
        return read, ""


def _cells(line: str, where: str, points: Points | None) -> tuple[list[str], Points]:
    """The cells of a line, and the file's number format."""
    separator = next((sign for sign in "\t;" if sign in line), ",")
    if points is None or points.separator != separator:
        points = Points(separator, apart=False)
    cells = split_cells(line, separator, where, hint="quotes must enclose whole cells")
    return [cell.strip() for cell in points(cells, where)], points


def npy_shape(path: Path) -> tuple[int, ...]:
    """The shape of the array in a .npy file; () if it can't be read."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError, SyntaxError, TypeError):
        return ()


def _array(path: Path, pictures: bool) -> tuple[np.ndarray | None, str]:
    """The frames of a .npy file; its header is checked before the data are read."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        return None, f"not a NumPy array of numbers ({type(error).__name__})"
    wanted, axes = ("pictures [steps, height, width]", (3,)) if pictures else ("frames [steps, features]", (1, 2))
    if array.dtype.kind not in "fiub" or array.ndim not in axes or not 0 < array.size <= LARGEST_SERIES:
        return None, f"not {wanted} of numbers"
    frames = np.array(array, dtype=np.float64)
    frames = frames if pictures else frames.reshape(len(array), -1)
    return (frames, "") if np.isfinite(frames).all() else (None, "not a finite number")


def _classes(facts: dict[str, list[str]], path: Path) -> list[str]:
    """The labels in the header; [] if the series have none."""
    known, *classes = facts.get("classlabel", ["false"]) or ["false"]
    if known.lower() == "true" and not classes:
        raise UserError("`@classLabel true` must be followed by the labels", where=str(path))
    return classes if known.lower() == "true" else []
