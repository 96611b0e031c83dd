"""System metrics of a run, under the names that MLflow's UI shows on its own tab.

MLflow's sampler stops at the first error of the store; these samples are spooled like other metrics.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any


class SystemSampler:
    """A thread that passes a sample to `write` every `every_seconds`, until `stop`."""

    def __init__(self, write: Callable[[dict[str, float]], None], every_seconds: float) -> None:
        self._write, self._every, self._stopping = write, every_seconds, threading.Event()
        self._thread = threading.Thread(target=self._loop, name="system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling; no sample is written after this returns."""
        self._stopping.set()
        self._thread.join()

    def _loop(self) -> None:
        import psutil

        process = psutil.Process()
        psutil.cpu_percent()  # the first call only starts the interval of the next one
        graphics = _graphics_cards()
        while not self._stopping.wait(self._every):
            self._write(_sample(process, graphics))


def _sample(process: Any, graphics: list[Any]) -> dict[str, float]:
    import psutil

    memory = psutil.virtual_memory()
    found = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_megabytes": process.memory_info().rss / 1e6,
    }
    for number, card in enumerate(graphics):
        import pynvml

        with contextlib.suppress(pynvml.NVMLError):  # not supported by every card
            held = pynvml.nvmlDeviceGetMemoryInfo(card)
            found[f"system/gpu_{number}_memory_usage_megabytes"] = held.used / 1e6
            found[f"system/gpu_{number}_memory_usage_percentage"] = held.used / held.total * 100
            found[f"system/gpu_{number}_utilization_percentage"] = pynvml.nvmlDeviceGetUtilizationRates(card).gpu
    return found


def _graphics_cards() -> list[Any]:
    """Handles of the NVIDIA cards; empty if their library isn't installed."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no library, no driver or no card
        return []
