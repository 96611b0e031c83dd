"""Frames with a label each: sensor data labelled at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated

import numpy as np
from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.beside_data import counts, names_a_count, names_a_recording, rises_evenly
from components.datasets.labelled import LabelledReader, Row
from components.datasets.tables.columns import Table, read_columns
from components.errors import UserError, unknown


@dataclass(kw_only=True, eq=False)
class TaggedFramesReader(TextFilesReader, LabelledReader):
    """Tables with a frame a line: columns of numbers, and a column with the frame's label (many-to-many of equal
    length). Frames without a label are read, but don't count.

    Items: (float64 [frames, columns], the labels). `label` is the labels' column (default: the last); `columns` are the
    numbers that are read (default: all other named columns of numbers, sorted by name, except those that number the
    frames: time, frame, index, rising from line to line). If `recording` names a column, a recording ends when its
    value changes; else a file is one. Recordings are cut into windows of `window` frames.

    Each recording is split by time, its first part for training, the last for test; to hold out whole recordings, give
    the files of each split.
    """

    by_time = True
    columns_set_by = "data.columns and data.label"
    endings = (".csv", ".tsv", ".tab", ".txt")

    label: str | None = None
    columns: tuple[str, ...] | None = None
    recording: str | None = None
    window: Annotated[int, Field(gt=0, le=20_000)] = 100
    labels: dict[str, str] | None = None

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        for path in self.files:
            before = self.found.get("predicted", ("", ()))[1]
            table = read_columns(self._text, path, [self.label or "-1", *before, *filter(None, [self.recording])])
            label = self.label or next(iter(self.known("predicted", table.names)), table.names[-1])
            for name in filter(None, [label if labelled else None, self.recording]):
                if name not in table.names:
                    raise unknown("column", name, table.names, where=str(path))
            columns = self.columns or self.known("read", table.names) or self._numbers(table, label, labelled)
            if not self.columns:
                self.same("read", columns, path)
            if labelled and not self.label:
                self.same("predicted", [label], path)
            values_TC = table.values(columns, "data.columns")
            if self.part in (None, "train"):
                self._tell(table, columns, label)
            tags = [self._tag(tag, table) for tag in table.texts[label]] if labelled else []
            for begin, end in self._recordings(table):
                first, last = self.share(end - begin)
                for start in range(begin + first, begin + last, self.window):
                    stop = min(start + self.window, begin + last)
                    frames = values_TC[start:stop]
                    problem = "window with a missing value" if np.isnan(frames).any() else ""
                    steps = [{"file": path.name, "line": str(table.lines[at])} for at in range(start, stop)]
                    where = f"{path}: line {table.lines[start]}"
                    target = tags[start:stop] if labelled else None
                    yield Row(where, steps[0], frames, target, problem, steps=steps)

    def _tell(self, table: Table, columns: Sequence[str], label: str) -> None:
        """Notes on which columns are read and which aren't, and on one that seems to number the frames."""
        unread = [name for name in table.of_numbers() if name not in {*columns, label, self.recording, ""}]
        note = f"read of each frame: {', '.join(columns)}"
        notes = [note + f"; not read: {', '.join(unread)} (data.columns chooses others)" * bool(unread)]
        notes += filter(None, [table.falling([name for name in table.of_numbers() if names_a_count(name)])])
        for name in columns:
            if rises_evenly(table.numbers[:, table.names.index(name)]):
                what = f"{table.path.name}: {name} increases by a constant"
                notes.append(f"warning: {what}: is it a line number or time?")
            if names_a_recording(name) and not self.recording:
                what = f"warning: {name} is read as a number of each frame: does it identify the recording?"
                notes.append(f"{what} Then set data.recording={name}")
        self.tell(*notes)

    def _numbers(self, table: Table, label: str, labelled: bool) -> list[str]:
        texts = {name for name in table.first_text if name not in table.of_numbers()}
        others = {self.recording} | ({label} if labelled or self.label or label in texts else set())
        # an unnamed column is a spreadsheet's index
        found = sorted(name for name in table.of_numbers() if name and name not in others)
        parts = list(self._recordings(table))
        columns = {name: table.numbers[:, table.names.index(name)] for name in found}
        found = [name for name in found if not all(counts(name, columns[name][begin:end]) for begin, end in parts)]
        if not found:
            raise UserError("no column of numbers", where=str(table.path), hint=f"columns: {', '.join(table.names)}")
        return found

    def _tag(self, tag: str, table: Table) -> str:
        if not tag or self.labels is None:
            return tag
        if tag not in self.labels:
            raise unknown("label", tag[:80], self.labels, where=str(table.path))
        return self.labels[tag]

    def _recordings(self, table: Table) -> Iterator[tuple[int, int]]:
        """(begin, end) of each recording."""
        begin = 0
        for _, lines in groupby(table.texts[self.recording] if self.recording else [""] * len(table.numbers)):
            end = begin + len(list(lines))
            yield begin, end
            begin = end
