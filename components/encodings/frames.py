"""Numbers as they are: frames of features over time, or a few values to predict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from components.encodings.base import Encoding, Field
from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.errors import UserError


class Frames(Encoding):
    """Float arrays [T, width] ↔ the same, each feature with mean 0 and variance 1 over the training data where
    `standardise` is set. A list of K numbers is one frame of K."""

    kind = "frames"
    form = "frames"
    unit = "frame"

    def __init__(self, *, standardise: bool = True) -> None:
        self.standardise = standardise
        self.vocabulary = Vocabulary(SPECIALS)
        self.mean_W = self.deviation_W = np.zeros(0)

    @property
    def fields(self) -> dict[str, Field]:
        return {"frames": Field(width=len(self.mean_W))}

    def fit(self, items: Iterable[Any]) -> None:
        total, squares, count = np.zeros(0), np.zeros(0), 0
        for item in items:
            frames = _frames(item).astype(np.float64)
            if not count:
                total, squares = np.zeros(frames.shape[1]), np.zeros(frames.shape[1])
            if frames.shape[1] != len(total):
                raise _widths(frames.shape[1], len(total))
            total, squares, count = total + frames.sum(0), squares + (frames**2).sum(0), count + len(frames)
        self.mean_W = total / max(1, count)
        self.deviation_W = np.sqrt(np.maximum(squares / max(1, count) - self.mean_W**2, 0.0))
        if not self.standardise:
            self.mean_W, self.deviation_W = np.zeros_like(self.mean_W), np.ones_like(self.mean_W)
        self.deviation_W[self.deviation_W < 1e-12] = 1.0  # a feature that never changes says nothing

    def encode(self, item: Any) -> np.ndarray:
        frames = _frames(item)
        if frames.shape[1] != len(self.mean_W):
            raise _widths(frames.shape[1], len(self.mean_W))
        return ((frames - self.mean_W) / self.deviation_W).astype(np.float32)

    def decode(self, ids: Sequence[Any] | np.ndarray) -> np.ndarray:
        """The frames in their own units, float64 [T, width]."""
        return np.asarray(ids, dtype=np.float64) * self.deviation_W + self.mean_W

    def options(self) -> dict[str, Any]:
        return {"standardise": self.standardise}

    def learned(self) -> dict[str, Any]:
        return {"mean": self.mean_W.tolist(), "deviation": self.deviation_W.tolist()}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        self.mean_W = np.array(state["mean"], dtype=np.float64)
        self.deviation_W = np.array(state["deviation"], dtype=np.float64)
        if self.mean_W.ndim != 1 or self.mean_W.shape != self.deviation_W.shape:
            raise ValueError("mean and deviation differ in shape")


def _frames(item: Any) -> np.ndarray:
    frames = np.atleast_2d(np.asarray(item, dtype=np.float32))
    if frames.ndim != 2 or not np.isfinite(frames).all():
        raise UserError(
            f"frames are a table [steps, features] of finite numbers, not of shape {frames.shape}", where="data"
        )
    return frames


def _widths(found: int, wanted: int) -> UserError:
    return UserError(f"a sequence has {found} features a step, the first one had {wanted}", where="data")
