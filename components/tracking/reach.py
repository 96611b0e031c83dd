"""Asking a service that may be away, and not for long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

REACH_SECONDS = 8.0  # a store that doesn't answer in this time is said to be away


def within(seconds: float, call: Callable[[], None]) -> None:
    """Wait for the call no longer than this; a driver may have a time-out of its own, a name's look-up has none."""
    errors: queue.Queue[BaseException | None] = queue.Queue()

    def run() -> None:
        try:
            call()
            errors.put(None)
        except BaseException as error:
            errors.put(error)

    threading.Thread(target=run, name="reach", daemon=True).start()
    try:
        error = errors.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds:.0f} s") from None
    if error is not None:
        raise error
