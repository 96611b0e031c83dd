"""The batches of a training in order. For a GPU they are built ahead in a thread."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from components.datasets.batches.truncated import Batches

AHEAD = 3


class Feed:
    """`next()` returns a batch and the position to continue from: (epoch, index). `at` of batches depends only on
    these, so unused batches that were built ahead can be discarded."""

    def __init__(self, batches: Batches, epoch: int, index: int, /, *, ahead: bool) -> None:
        self.batches, self.place = batches, (epoch, index)
        self.pool = ThreadPoolExecutor(1, "batches") if ahead else None
        self.building: deque[tuple[Future, tuple[int, int]]] = deque()

    def next(self) -> tuple[Any, int, int]:
        if self.pool is None:
            batch = self.batches.at(*self.place)
            self.place = self._after(self.place)
            return batch, *self.place
        while len(self.building) < AHEAD:
            future = self.pool.submit(self.batches.at, *self.place)
            self.place = self._after(self.place)
            self.building.append((future, self.place))
        future, place = self.building.popleft()
        return future.result(), *place

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def _after(self, place: tuple[int, int]) -> tuple[int, int]:
        epoch, index = place
        return (epoch, index + 1) if index + 1 < self.batches.count(epoch) else (epoch + 1, 0)
