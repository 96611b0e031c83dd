"""Generation with given tokens: a melody to harmonise, a beginning to continue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.encodings.base import Encoding, Wrapped
from components.encodings.vocabulary import BOS, EOS, PAD

FREE = -1  # a token for the model to choose


class Given(Wrapped):
    """An encoding for sampling whose `allowed` only allows the given ids (without BOS; FREE where the model chooses).
    With `ends`, the sequence ends after them."""

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
        """The ids before the first FREE."""
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
                mask[EOS] = False  # not before the end of the given ids
        elif self.ends:
            mask = np.zeros_like(mask)
            mask[EOS] = True
        return mask
