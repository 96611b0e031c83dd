"""Nucleotide sequences: FASTA, and labelled windows in the format of UCI's splice junctions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.files.cells import lines
from components.datasets.labelled import NamedLabels, Row, names_as_labels
from components.encodings.bases import IUPAC
from components.errors import UserError

LONGEST = 64 << 20  # bases of one FASTA record, which is kept in memory
_UPPER = str.maketrans("uU", "TT")


@dataclass(kw_only=True, eq=False)
class BasesReader(NamedLabels, TextFilesReader):
    """Items (string of IUPAC letters, label).

    A file that begins with ">" or ";" is FASTA: the label is the last word of a record's header, or with `label_in` the
    file's name, its suffix or its folder's name. Else a line is "label, name, bases", as in UCI's splice junctions; for
    prediction, a line may be bases alone. With `window`, sequences of another length are dropped; with `step` as well,
    a longer FASTA record gives a window every `step` bases.
    """

    label_in: Literal["header", "file", "ending", "folder"] = "header"
    window: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    step: Annotated[int, Field(gt=0)] | None = None

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        self._labels: dict[Path, str] = {}
        if self.step and not self.window:
            raise UserError("only works with data.window", where="data.step", hint="set data.window too")

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        if self.label_in != "header":
            self._labels = names_as_labels(self.files, self.label_in)[0]
        for path in self.files:
            found = ((number, line.strip()) for number, line in lines(self._text, path))
            first = next(((number, line) for number, line in found if line), None)
            if first is not None:
                read = self._fasta if first[1][0] in ">;" else self._table
                yield from read(path, itertools.chain([first], found), labelled)

    def _table(self, path: Path, found: Iterator[tuple[int, str]], labelled: bool) -> Iterator[Row]:
        for number, line in found:
            cells = [cell.strip() for cell in line.split(",")]
            where = f"{path}: line {number}"
            if not line or len(cells) not in ((3,) if labelled else (1, 2, 3)):
                problem = "not a line of label, name, bases" if line else "empty line"
                yield Row(where, {"name": "", "bases": line[:100]}, problem=problem)
                continue
            shown = {"name": cells[-2] if len(cells) > 1 else "", "bases": cells[-1]}
            yield self._row(where, shown, cells[-1], cells[0] if len(cells) == 3 else None)

    def _fasta(self, path: Path, found: Iterator[tuple[int, str]], labelled: bool) -> Iterator[Row]:
        header, at, pieces, length = "", 0, [], 0
        for number, line in itertools.chain(found, [(0, ">")]):
            if line.startswith(">"):
                if at:
                    yield from self._record(path, at, header, "".join(pieces), labelled)
                header, at, pieces, length = line[1:].strip(), number, [], 0
            elif line and not line.startswith(";"):
                length += len(line)
                if length > LONGEST:
                    raise UserError(f"a record of more than {LONGEST:,} bases", where=f"{path}: line {at}")
                pieces.append(line.replace(" ", ""))

    def _record(self, path: Path, at: int, header: str, bases: str, labelled: bool) -> Iterator[Row]:
        words = header.split()
        label = words[-1] if len(words) > 1 else None
        if self.label_in != "header":
            label = self._labels[path]
        name, where = words[0] if words else "", f"{path}: line {at}"
        if not self.window or not self.step or len(bases) <= self.window:
            yield self._row(where, {"name": name, "bases": bases}, bases, label if labelled else None)
            return
        for start in range(0, len(bases) - self.window + 1, self.step):
            cut = bases[start : start + self.window]
            yield self._row(where, {"name": f"{name}:{start + 1}", "bases": cut}, cut, label if labelled else None)

    def _row(self, where: str, shown: dict[str, str], text: str, label: str | None) -> Row:
        bases = text.translate(_UPPER).upper()
        wrong = sorted(set(bases) - IUPAC.keys())
        problem = "no bases" if not bases else f"not a letter of IUPAC: {', '.join(wrong[:5])}" if wrong else ""
        if not problem and self.window and len(bases) != self.window:
            problem = f"not {self.window} bases"
        return Row(where, shown, bases, label, problem)
