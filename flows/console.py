"""What a person sees of a run: lines on standard output (the Prefect run's log gets them too), a progress bar on
standard error when it is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """One line, here and in the log of the Prefect run that is going on."""
    out.print(line, markup=False)
    if "prefect" in sys.modules:
        from prefect.exceptions import MissingContextError
        from prefect.logging import get_run_logger

        try:
            get_run_logger().info(line)
        except MissingContextError:
            return


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
