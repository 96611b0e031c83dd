"""Contexts that are computed one id after the other, and go on from there when the next id is known."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np

Walk = Generator[tuple[int, ...], int, None]  # first gives nothing of use; then, for each id it is sent, a row
MOST_KEPT = 64  # sequences that are written side by side


class Resumed:
    """The rows of ids [T] by a walk from their beginning. Sampling asks for each sequence anew with every token: the
    walk of its beginning is kept, so a sequence costs its length and not the square of it."""

    def __init__(self, walk: Callable[[], Walk], width: int) -> None:
        self.walk, self.width = walk, width
        self._kept: dict[bytes, tuple[Walk, np.ndarray]] = {}  # ids so far → their walk, and the rows

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """int64 [T, width]."""
        ids = np.ascontiguousarray(ids, dtype=np.int64)
        found = self._kept.pop(ids[:-1].tobytes(), None)  # taken away: nobody else goes on with it
        walk, before = found or (self.walk(), np.zeros((0, self.width), dtype=np.int64))
        if found is None:
            next(walk)
        new = [walk.send(id) for id in ids[len(before) :].tolist()]
        rows = np.concatenate([before, np.array(new, dtype=np.int64).reshape(-1, self.width)])
        self._kept[ids.tobytes()] = walk, rows
        while len(self._kept) > MOST_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        return rows.copy()
