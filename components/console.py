"""Console output: lines on standard output, and a progress bar on standard error if it is a terminal."""

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

OURS = ("components", "flows")  # loggers whose warnings are shown


class _Console(Console):
    """A console whose write errors (a closed pipe, a full disk) don't end a run. `failed`: the error, unless the reader
    closed the pipe."""

    failed: OSError | None = None

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as error:
            self.failed = error
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with suppress(OSError, ValueError):  # discards the rest of the stream when the process ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class _Warnings(logging.Handler):
    """Writes the code's warnings to standard error and passes them to `listeners`."""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {without_secrets(record.getMessage())}"
        err.print(line, soft_wrap=True)
        _pass_on(line, record.levelno)


out = _Console(markup=False, highlight=False, soft_wrap=True)
err = _Console(stderr=True, markup=False, highlight=False)
_warnings = _Warnings(logging.WARNING)
listeners: list[Callable[[str, int], None]] = []  # called with each line and its level of `logging`


def prepare() -> None:
    """Set up a process: console output that can't fail, warnings shown, files private to the user, and a garbage
    collector that leaves imported objects alone."""
    # importing torch, MLflow and Prefect creates many objects that stay: by default the collector visits them again and
    # again, and once more when the interpreter ends, which takes most of a second
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: otherwise the next opened file would get this number and receive the output
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    for name in OURS:
        if _warnings not in (logger := logging.getLogger(name)).handlers:
            logger.addHandler(_warnings)
    keep_private()


def say(line: str) -> None:
    """Print a line and pass it to `listeners`."""
    out.print(line)
    _pass_on(line, logging.INFO)


def _pass_on(line: str, level: int) -> None:
    for listener in listeners:
        listener(line, level)


@contextmanager
def bar(title: str, total: int | None, unit: str) -> Iterator[Callable[[int, str], None]]:
    """A progress bar. Yields a function that takes the number done and a short text."""
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
    """Print a table."""
    shown = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    out.print(shown)


def lines(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table with one line per row, whatever the terminal's width."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in [columns, *rows]:
        out.print("  ".join(map(str.ljust, row, widths)).rstrip())
