"""Videos of small grey pictures as frames of movements: place, direction and strength."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
from pydantic import Field as Bounds

from components.encodings.base import Field
from components.encodings.frames import Frames
from components.errors import UserError


class Pictures(Frames):
    """uint8 [T, height, width] → frames [T, grid² · directions]: a histogram of `directions` in which edges move from
    one picture to the next, for each cell of a `grid` × `grid` raster.

    The change Iₜ of a pixel determines the movement across the edge, −Iₜ∇I / |∇I|² (Horn & Schunck 1981). Here −Iₜ∇I is
    accumulated as in histograms of oriented gradients (Dalal & Triggs 2005): its direction is the same for bright
    objects on dark ground and dark ones on bright, and it is 0 without an edge or a change. Square roots of the sums
    are taken, so that they are proportional to the contrast, and scaled to a mean square of 1 over the training data.
    """

    kind = "pictures"

    def __init__(
        self,
        *,
        grid: Annotated[int, Bounds(ge=1, le=16)] = 4,
        directions: Annotated[int, Bounds(ge=2, le=32)] = 8,
    ) -> None:
        super().__init__()
        self.grid, self.directions = grid, directions

    @property
    def fields(self) -> dict[str, Field]:
        return {"frames": Field(width=self.grid**2 * self.directions)}

    @property
    def step_shape(self) -> tuple[int | None, ...]:
        return (None, None)

    def fit(self, items: Iterable[Any]) -> None:
        squares, count = 0.0, 0
        for item in items:
            moved_TW = self.movement(item)
            squares, count = squares + float(np.square(moved_TW, dtype=np.float64).sum()), count + moved_TW.size
        scale = np.sqrt(squares / max(1, count)) or 1.0
        width = self.grid**2 * self.directions
        self.mean_W, self.deviation_W = np.zeros(width), np.full(width, scale)

    def encode(self, item: Any) -> np.ndarray:
        return super().encode(self.movement(item))

    def movement(self, item: Any) -> np.ndarray:
        """The square roots of the sums, float32 [T, grid² · directions]; the first picture has no movement.

        Raises:
            UserError: `item` isn't a series of pictures, each of them `grid` pixels wide and high at least.
        """
        grey_THW = np.asarray(item)
        T, H, W = grey_THW.shape if grey_THW.ndim == 3 else (0, 0, 0)
        if not T or min(H, W) < self.grid or grey_THW.dtype.kind not in "fiub":
            what = f"pictures must be numbers [pictures, height, width] of at least {self.grid} pixels per side"
            raise UserError(f"{what}, not of shape {grey_THW.shape}", where="data")
        grey_THW = grey_THW.astype(np.float32)
        change_THW = np.diff(grey_THW, axis=0, prepend=grey_THW[:1])
        # the gradient of the average of the two pictures, so that old and new position count equally
        down_THW, right_THW = np.gradient((grey_THW + np.roll(grey_THW, 1, axis=0)) / 2, axis=(1, 2))
        down_THW, right_THW = -change_THW * down_THW, -change_THW * right_THW
        angle_THW = np.arctan2(down_THW, right_THW)
        direction_THW = np.round(angle_THW * self.directions / (2 * np.pi)).astype(np.int64) % self.directions
        rows_H, columns_W = np.arange(H) * self.grid // H, np.arange(W) * self.grid // W
        cell_HW = rows_H[:, None] * self.grid + columns_W
        bins = self.grid**2 * self.directions
        index_THW = (np.arange(T)[:, None, None] * self.grid**2 + cell_HW) * self.directions + direction_THW
        sums = np.bincount(index_THW.ravel(), np.hypot(down_THW, right_THW).ravel(), minlength=T * bins)
        return np.sqrt(sums).reshape(T, bins).astype(np.float32)
