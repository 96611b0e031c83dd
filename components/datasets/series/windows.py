"""Windows of one long series: the numbers of some steps, and the numbers that come next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.files.cells import PLAIN
from components.datasets.labelled import LabelledReader, Row
from components.datasets.tables.columns import Table, as_names, read_columns
from components.errors import UserError, listed


@dataclass(kw_only=True, eq=False)
class SeriesWindowsReader(TextFilesReader, LabelledReader):
    """Tables with a line for each time step (CSV, or with tabs, semicolons or bars), one series a file.

    Items: (float64 [length, columns], the numbers of the next `horizon` steps, one step after the other). `length`:
    steps of the input. `horizon`: predicted steps. `columns`: input columns, by name, or by number from 1 if the table
    has no header; optional if only one has numbers. `target`: predicted columns (default: the input columns). `stride`:
    steps from the beginning of a window to that of the next. Windows with a missing value are dropped.

    Each series is split by time: the predicted steps are in the first part for training, in the next for val, in the
    last for test; the inputs of a window may be before its part. For prediction, a file has one answer: what comes
    after its last lines.
    """

    by_time = True
    columns_set_by = "data.columns"
    endings = (".csv", ".tsv", ".tab", ".txt")

    length: Annotated[int, Field(gt=0, le=20_000)] = field()  # required; without it the method would be the default
    horizon: Annotated[int, Field(gt=0, le=10_000)] = 1
    stride: Annotated[int, Field(gt=0)] = 1
    columns: str | tuple[str, ...] | None = None
    target: str | tuple[str, ...] | None = None

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        self.columns, self.target = as_names(self.columns), as_names(self.target)

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        for path in self.files:
            table = read_columns(self._text, path)
            table.check_order()
            if 3 * len(table.doubled) >= len(table.lines):
                table.check_one_series(read_columns(self._text, path, list(table.first_text)).texts)
            columns = self.columns or self.known("read", table.names) or self._only(table)
            if not self.columns and table.headed:
                self.same("read", columns, path)
            values_TC = table.values(columns, "data.columns")
            unread = [name for name in table.names if name not in {*columns, *self.target}]
            if not labelled:
                self.tell(table.falling(unread))
                yield self._last(table, values_TC)
                continue
            targets = self.target or columns
            targets_TK = table.values(targets, "data.target")
            if set(targets) <= set(columns):
                self.continues = [columns.index(name) for name in targets] * self.horizon
            yield from self._windows(table, values_TC, targets_TK)
            note = f"read of {path.name}: {', '.join(columns)}; not read: {listed(unread, 8)}"
            odd = f"{path.name}: {uneven}" if (uneven := table.uneven()) else ""
            if self.part in (None, "train"):
                self.tell(note if unread else "", odd, table.falling(unread))

    def _windows(self, table: Table, values_TC: np.ndarray, targets_TK: np.ndarray) -> Iterator[Row]:
        steps = len(values_TC)
        if steps < self.length + self.horizon:
            what = f"{steps} lines are too few for a window of {self.length} and {self.horizon} to predict"
            raise UserError(what, where=str(table.path), hint="decrease data.length")
        first, end = self.share(steps)
        for start in range(0, steps - self.length - self.horizon + 1, self.stride):
            at = start + self.length  # the first predicted step
            if at < first or at + self.horizon > end:
                continue
            window, after = values_TC[start:at], targets_TK[at : at + self.horizon].ravel()
            missing = np.isnan(window).any() or np.isnan(after).any()
            where = f"{table.path}: line {table.lines[start]}"
            yield Row(where, {}, window, after.tolist(), "window with a missing value" if missing else "")

    def _last(self, table: Table, values_TC: np.ndarray) -> Row:
        shown = {"file": table.path.name, "lines": str(len(values_TC))}
        window = values_TC[-self.length :]
        if len(window) < self.length:
            return Row(str(table.path), shown, problem=f"has {len(window)} lines, but the model needs {self.length}")
        problem = "a missing value in its last lines" if np.isnan(window).any() else ""
        return Row(str(table.path), shown, window, None, problem)

    def _only(self, table: Table) -> tuple[str, ...]:
        found = table.of_numbers()
        if len(found) == 1:
            return (found[0],)
        if not found:
            begin = ", ".join(
                f"{name} begins with {table.ends[name][0][:20]!r}" for name in table.names[:4] if table.ends
            )
            raise UserError("no column of numbers", where=str(table.path), hint="; ".join(filter(None, [begin, PLAIN])))
        what, hint = f"which of the {len(found)} columns of numbers?", f"set data.columns=[{', '.join(found[:50])}]"
        raise UserError(what, where=f"data.columns: {table.path}", hint=hint)
