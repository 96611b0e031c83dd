"""Cache for contexts that are computed one id at a time, continued when the next id is known."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np

Walk = Generator[tuple[int, ...], int, None]  # ignores the first value; then yields a row for each id sent
MOST_KEPT = 64  # cached sequences, those of a batch in generation


class Resumed:
    """The rows of ids [T], computed by a generator `walk` from the beginning. Sampling passes the whole sequence for
    each token, so the generator of its beginning is cached: the cost is linear in the length, not quadratic."""

    def __init__(self, walk: Callable[[], Walk], width: int) -> None:
        self.walk, self.width = walk, width
        self._kept: dict[bytes, tuple[Walk, np.ndarray]] = {}  # ids so far → generator, rows

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """int64 [T, width]."""
        ids = np.ascontiguousarray(ids, dtype=np.int64)
        found = self._kept.pop(ids[:-1].tobytes(), None)  # removed, since a generator can only be continued once
        walk, before = found or (self.walk(), np.zeros((0, self.width), dtype=np.int64))
        if found is None:
            next(walk)
        new = [walk.send(id) for id in ids[len(before) :].tolist()]
        rows = np.concatenate([before, np.array(new, dtype=np.int64).reshape(-1, self.width)])
        self._kept[ids.tobytes()] = walk, rows
        while len(self._kept) > MOST_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        return rows.copy()
