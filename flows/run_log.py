"""Copies printed lines to the log of the Prefect run. Importing this module activates it."""

from __future__ import annotations

from contextlib import suppress

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from components import console


def log(line: str, level: int) -> None:
    """Write a line to the log of the current flow run or task run, if any."""
    with suppress(MissingContextError):
        get_run_logger().log(level, line)


console.listeners.append(log)
