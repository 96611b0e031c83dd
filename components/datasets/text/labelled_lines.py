"""Lines of text, with a file or a folder for each label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.files.cells import lines
from components.datasets.labelled import NamedLabels, Row, names_as_labels


class LabelledLinesReader(NamedLabels, TextFilesReader):
    """One item a line; the label is the file's name: Arabic.txt, Czech.txt … Any suffix will do.

    If the names differ in their endings only (rt-polarity.pos, rt-polarity.neg) the label is the ending; if the files
    are in several folders (pos/1.txt, neg/1.txt) it is the folder's name. `label_in` chooses explicitly: file, ending
    or folder. Lines of more than `max_length` characters are dropped.
    """

    plain = True

    def __init__(
        self,
        files: Sequence[Path],
        /,
        *,
        label_in: Literal["file", "ending", "folder"] | None = None,
        max_length: Annotated[int, Field(gt=0)] = 1000,
        **settings: Any,
    ) -> None:
        super().__init__(files, **settings)
        self.label_in, self.max_length = label_in, max_length

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        label_of, what = names_as_labels(self.files, self.label_in) if labelled else ({}, "")
        if labelled:
            named = sorted(set(label_of.values()))
            note = f"labels are {what}: {', '.join(named[:12])}{', …' if len(named) > 12 else ''}"
            self.decided += [note] * (note not in self.decided)
        for path in self.files:
            for number, line in lines(self._text, path):
                text, where = line.strip(), f"{path}: line {number}"
                problem = "" if text else "empty line"
                if len(text) > self.max_length:
                    problem = f"longer than {self.max_length:,} characters"
                yield Row(where, {"input": text[: self.max_length]}, text, label_of.get(path), problem)
