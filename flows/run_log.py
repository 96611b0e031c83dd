"""Lines that a person sees go to the log of the Prefect run, too: importing this module is enough."""

from __future__ import annotations

from contextlib import suppress

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from components import console


def log(line: str, level: int) -> None:
    """To the log of the flow run or task run that is going on, if one is."""
    with suppress(MissingContextError):
        get_run_logger().log(level, line)


console.listeners.append(log)
