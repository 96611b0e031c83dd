"""Lines of text, with a file or a folder for each label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.files.cells import lines
from components.datasets.labelled import NamedLabels, Row, names_as_labels
from components.errors import listed


@dataclass(kw_only=True, eq=False)
class LabelledLinesReader(NamedLabels, TextFilesReader):
    """One item a line; the label is the file's name: Arabic.txt, Czech.txt … Any suffix will do.

    If the names differ in their endings only (rt-polarity.pos, rt-polarity.neg) the label is the ending; if the files
    are in several folders (pos/1.txt, neg/1.txt) it is the folder's name. `label_in` chooses explicitly: file, ending
    or folder. Lines of more than `max_length` characters are dropped.
    """

    plain = True

    label_in: Literal["file", "ending", "folder"] | None = None
    max_length: Annotated[int, Field(gt=0)] = 1000

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        label_of, what = names_as_labels(self.files, self.label_in) if labelled else ({}, "")
        if labelled:
            named = sorted(set(label_of.values()))
            note = f"labels are {what}: {listed(named, 12)}"
            self.decided += [note] * (note not in self.decided)
        for path in self.files:
            for number, line in lines(self._text, path):
                text, where = line.strip(), f"{path}: line {number}"
                problem = "" if text else "empty line"
                if len(text) > self.max_length:
                    problem = f"longer than {self.max_length:,} characters"
                yield Row(where, {"input": text[: self.max_length]}, text, label_of.get(path), problem)
