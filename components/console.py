"""What a person sees of a run: lines on standard output, and a progress bar on standard error when it is a terminal."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from components.paths import keep_private
from components.redaction import without_secrets

OURS = ("components", "flows")  # loggers whose warnings a person is told


class _Console(Console):
    """No run ends because of what it prints: whoever read it is gone, or the disk is full."""

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with suppress(OSError, ValueError):  # what is left in the stream goes nowhere when the process ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class _Warnings(logging.Handler):
    """Warnings of the code, on standard error and wherever else `listeners` put them."""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {without_secrets(record.getMessage())}"
        err.print(line, markup=False, soft_wrap=True)
        _pass_on(line, record.levelno)


out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False)
_warnings = _Warnings(logging.WARNING)
listeners: list[Callable[[str, int], None]] = []  # get each line and its level, as of `logging`


def prepare() -> None:
    """What a process of ours does first: it can print whatever comes, tells warnings, writes for its user alone, and
    leaves what it imports to itself."""
    # torch, MLflow and Prefect make many objects that stay: by default the collector visits them again and again, and
    # all of them once more when the interpreter ends, which takes most of a second
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: else the next file that is opened would be written to as if it were the terminal
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    for name in OURS:
        if _warnings not in (logger := logging.getLogger(name)).handlers:
            logger.addHandler(_warnings)
    keep_private()


def say(line: str) -> None:
    """One line, here and wherever else `listeners` put it."""
    out.print(line, markup=False)
    _pass_on(line, logging.INFO)


def _pass_on(line: str, level: int) -> None:
    for listener in listeners:
        listener(line, level)


@contextmanager
def bar(title: str, total: int | None, unit: str) -> Iterator[Callable[[int, str], None]]:
    """A progress bar; call what it gives with how many are done and a few words."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(title, total=total, words="")
        yield lambda done, words="": progress.update(task, completed=done, words=words)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on standard output."""
    shown = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    out.print(shown)


def lines(columns: list[str], rows: list[list[str]]) -> None:
    """A table on standard output, a line for each row however wide the terminal is."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in [columns, *rows]:
        out.print("  ".join(map(str.ljust, row, widths)).rstrip(), markup=False)
