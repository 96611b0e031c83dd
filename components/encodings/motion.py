"""Movements as frames of positions and their changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field as Bounds

from components.encodings.base import Field
from components.encodings.frames import Frames, warped


@dataclass(kw_only=True, eq=False)
class Motion(Frames):
    """Float arrays [T, width] → [T, 2 · width]: the positions, standardised as in Frames, and their changes from step
    to step, scaled to variance 1 over the training data. `centre`: subtract the mean of each series.

    Augmentation, drawn anew for each series in every epoch (Um et al. 2017, arXiv:1706.00527). `warp`: warp time;
    standard deviation of the speed's logarithm. `scale`: scale each feature; standard deviation of the factor's
    logarithm. `rotate`: rotate the plane of two features; standard deviation in degrees. `jitter`: add noise, in
    standard deviations of the data.
    """

    kind = "motion"

    standardise: bool = True
    centre: bool = False
    warp: Annotated[float, Bounds(ge=0, le=2)] = 0.0
    scale: Annotated[float, Bounds(ge=0, le=2)] = 0.0
    rotate: Annotated[float, Bounds(ge=0, le=180)] = 0.0
    jitter: Annotated[float, Bounds(ge=0, le=10)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.change_W = np.zeros(0)

    @property
    def fields(self) -> dict[str, Field]:
        return {"frames": Field(width=2 * len(self.mean_W))}

    def fit(self, items: Iterable[Any]) -> None:
        super().fit(items)
        squares, count = np.zeros(len(self.mean_W)), 0
        for item in items:
            changes = np.diff(super().encode(item), axis=0).astype(np.float64)
            squares, count = squares + (changes**2).sum(0), count + len(changes)
        self.change_W = np.sqrt(squares / max(1, count))
        self.change_W[self.change_W < 1e-12] = 1.0

    def encode(self, item: Any) -> np.ndarray:
        places_TW = super().encode(item)
        return self._moving(places_TW - places_TW.mean(0) if self.centre and len(places_TW) else places_TW)

    def decode(self, ids: Sequence[Any] | np.ndarray) -> np.ndarray:
        """The positions, float64 [T, width]; those of a centred series, around the training data's mean."""
        return super().decode(np.asarray(ids)[..., : len(self.mean_W)])

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not (self.warp or self.scale or self.rotate or self.jitter) or len(ids) < 2:
            return ids
        T, W = len(ids), len(self.mean_W)
        places_TW = np.asarray(ids[:, :W], dtype=np.float64)
        if self.warp:
            when_T = warped(T, self.warp, rng)
            places_TW = np.stack([np.interp(when_T, np.arange(T), feature) for feature in places_TW.T], axis=1)
        places_TW = places_TW * np.exp(rng.normal(0.0, self.scale, W))
        if self.rotate and W == 2:
            angle = np.deg2rad(rng.normal(0.0, self.rotate))
            places_TW = places_TW @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return self._moving((places_TW + rng.normal(0.0, self.jitter, places_TW.shape)).astype(np.float32))

    def learned(self) -> dict[str, Any]:
        return super().learned() | {"change": self.change_W.tolist()}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        super().set_learned(state)
        self.change_W = np.array(state["change"], dtype=np.float64)
        if self.change_W.shape != self.mean_W.shape:
            raise ValueError("mean and change differ in shape")

    def _moving(self, places_TW: np.ndarray) -> np.ndarray:
        changes_TW = np.diff(places_TW, axis=0, prepend=places_TW[:1]) / self.change_W
        return np.concatenate([places_TW, changes_TW], axis=1).astype(np.float32)
