"""Writing around what is given: a melody to harmonise, a beginning to go on from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.encodings.base import Encoding, Wrapped
from components.encodings.vocabulary import BOS, EOS, PAD

FREE = -1  # a place for the model to fill


class Given(Wrapped):
    """An encoding whose `allowed` holds to the given ids (without BOS; FREE where the model chooses), and ends the
    sequence after them where `ends` is set: what `sample` is given in its place."""

    def __init__(self, encoding: Encoding, ids: Sequence[int] | np.ndarray, *, ends: bool) -> None:
        super().__init__(encoding)
        self.ids, self.ends = np.asarray(ids, dtype=np.int64), ends
        size = len(encoding.vocabulary)
        if len(self.ids) and not FREE <= int(self.ids.min()) <= int(self.ids.max()) < size:
            raise ValueError(f"ids from {FREE} to {size - 1}, not {self.ids.min()} to {self.ids.max()}")
        if np.isin(self.ids, [PAD, BOS, EOS]).any():
            raise ValueError("<PAD>, <BOS> and <EOS> can't be given")

    @property
    def beginning(self) -> np.ndarray:
        """The ids before the first free place."""
        free = np.flatnonzero(self.ids == FREE)
        return self.ids[: free[0]] if len(free) else self.ids

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        place = len(ids) - 1
        mask = self.encoding.allowed(ids)
        if place < len(self.ids):
            if self.ids[place] != FREE:
                mask = np.zeros_like(mask)
                mask[self.ids[place]] = True
            elif mask.sum() > mask[EOS]:
                mask[EOS] = False  # not before all that is given has been heard
        elif self.ends:
            mask = np.zeros_like(mask)
            mask[EOS] = True
        return mask
