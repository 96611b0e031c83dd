"""Generated clips of a moving shape: a motion recognition task without files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from components.datasets.made.base import MadeReader

# classes: motion of the shape's middle (right, down) and change of its radius
MOVES = {
    "left": (-1, 0, 0),
    "right": (1, 0, 0),
    "up": (0, -1, 0),
    "down": (0, 1, 0),
    "nearer": (0, 0, 1),
    "away": (0, 0, -1),
}
# distance of a point from the middle: a square, a disc, a diamond
SHAPES = (
    lambda right, down: np.maximum(abs(right), abs(down)),
    np.hypot,
    lambda right, down: (abs(right) + abs(down)) / np.sqrt(2),
)


@dataclass(kw_only=True, eq=False)
class MovingShapes(MadeReader):
    """Clips uint8 [pictures, size, size] and their class, one of MOVES: a bright or dark square, disc or diamond at a
    random place of a spotted background, with random speed, a slightly curved path, and noise in every pixel.

    A single picture doesn't show the class. `pictures`: number of pictures in a clip. `size`: width and height of a
    picture in pixels.
    """

    pairs, kept, files_by = True, False, "video"

    pictures: Annotated[int, Field(ge=2, le=1000)] = 16
    size: Annotated[int, Field(ge=16, le=128)] = 32
    count: Annotated[int, Field(gt=0)] = 1200

    @property
    def steps(self) -> int:  # type: ignore[override]
        return self.pictures * self.size

    def made(self, number: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        label = str(rng.choice(list(MOVES)))
        T, size = self.pictures, self.size
        # −½ to ½ around the middle of the clip, so that the position at a given time carries no information
        along_T = np.linspace(-0.5, 0.5, T)[:, None]
        way_3 = np.array(MOVES[label]) * size * np.array([1, 1, 0.4]) * rng.uniform(0.12, 0.5)
        drift_3 = rng.normal(0, 0.02, 3) * size
        radius = size * rng.uniform(0.15, 0.22)
        middle_3 = np.array([*rng.uniform(0.35, 0.65, 2) * size, radius])
        right_T, down_T, radius_T = (middle_3 + along_T * (way_3 + drift_3)).T[:, :, None, None]
        place = np.arange(size) + 0.5
        shape = SHAPES[rng.integers(len(SHAPES))]
        distance_THW = shape(place[None, None, :] - right_T, place[None, :, None] - down_T)
        inside_THW = np.clip(radius_T - distance_THW + 0.5, 0, 1)  # soft edges: the shape moves by less than a pixel
        bright = rng.choice([-1, 1])
        ground_HW = 128 - bright * rng.uniform(20, 60) + rng.normal(0, 8, (size, size))
        grey_THW = ground_HW + inside_THW * (128 + bright * rng.uniform(20, 90) - ground_HW)
        noisy_THW = grey_THW + rng.normal(0, 10, grey_THW.shape)
        return np.clip(np.round(noisy_THW), 0, 255).astype(np.uint8), label
