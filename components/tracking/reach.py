"""Calls to a service with a timeout."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

REACH_SECONDS = 8.0  # timeout of the first request to a store


def within(seconds: float, call: Callable[[], None]) -> None:
    """Run the call in a thread and raise TimeoutError after `seconds`: a driver may have a timeout, DNS has none."""
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
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
