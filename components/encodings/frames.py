"""Numbers: frames of features over time, or a few values to predict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.encodings.base import Encoding, Field
from components.errors import UserError

KNOTS = 5  # of the time-warping curve


@dataclass(kw_only=True, eq=False)
class Frames(Encoding):
    """Float arrays [T, width] ↔ the same, with mean 0 and variance 1 for each feature over the training data if
    `standardise` is set: the mean is subtracted in float64, before rounding to float32. A list of K numbers is one
    frame of K.

    Raises:
        UserError: an item is no table of finite numbers, or the numbers vary too little for float32.
    """

    kind = "frames"
    form = "frames"
    reads = "frames"
    unit = "frame"

    standardise: bool = True

    def __post_init__(self) -> None:
        self.mean_W = self.deviation_W = np.zeros(0)
        self.steps: tuple[int, int] | None = None  # lengths of the shortest and the longest training item
        self.whole: tuple[int, int] | None = None  # smallest and largest training number if all are whole

    @property
    def fields(self) -> dict[str, Field]:
        return {"frames": Field(width=len(self.mean_W))}

    @property
    def step_shape(self) -> tuple[int | None, ...]:
        return (len(self.mean_W),)

    def fit(self, items: Iterable[Any]) -> None:
        total = squares = first = largest = np.zeros(0)
        count, lengths, whole, least, most = 0, [], True, np.inf, -np.inf
        for item in items:
            frames = _frames(item)
            if not lengths:
                # sums of differences from the first frame: sums of large numbers would cancel out
                first = frames[:1].sum(0)
                total = squares = largest = np.zeros(frames.shape[1])
            if frames.shape[1] != len(total):
                raise _widths(frames.shape[1], len(total))
            total, squares = total + (frames - first).sum(0), squares + ((frames - first) ** 2).sum(0)
            largest, count = np.maximum(largest, np.abs(frames).max(0, initial=0.0)), count + len(frames)
            whole = whole and bool((frames == np.round(frames)).all())
            least, most = frames.min(initial=least), frames.max(initial=most)
            lengths = [min([len(frames), *lengths]), max([len(frames), *lengths])]
        mean = total / max(1, count)
        self.mean_W, self.deviation_W = first + mean, np.sqrt(np.maximum(squares / max(1, count) - mean**2, 0.0))
        self.steps = (lengths[0], lengths[1]) if lengths else None
        self.whole = (int(least), int(most)) if whole and count else None
        if not self.standardise:
            self._check_float32(largest)
            self.mean_W, self.deviation_W = np.zeros_like(self.mean_W), np.ones_like(self.mean_W)
        self.deviation_W[self.deviation_W <= 1e-14 * largest] = 1.0  # constant feature

    def encode(self, item: Any) -> np.ndarray:
        frames = _frames(item)
        if frames.shape[1] != len(self.mean_W):
            raise _widths(frames.shape[1], len(self.mean_W))
        with np.errstate(over="ignore"):
            encoded = ((frames - self.mean_W) / self.deviation_W).astype(np.float32)
        if not np.isfinite(encoded).all():
            raise UserError("a number is too large for float32", where="data")
        return encoded

    def decode(self, ids: Sequence[Any] | np.ndarray) -> np.ndarray:
        """The frames in the units of the data, float64 [T, width]."""
        return np.asarray(ids, dtype=np.float64) * self.deviation_W + self.mean_W

    def rounded(self, ids: np.ndarray) -> list[list[float]]:
        """As `decode`, rounded to the precision of the float32 numbers [T, width]."""
        sizes = np.maximum(np.abs(ids), 1.0 if self.standardise else 0.0).astype(np.float32)
        resolution = np.spacing(sizes).astype(np.float64) * self.deviation_W
        rows = zip(self.decode(ids).tolist(), resolution.tolist(), strict=True)
        return [[_shortest(value, step) for value, step in zip(*row, strict=True)] for row in rows]

    def learned(self) -> dict[str, Any]:
        return {"mean": self.mean_W.tolist(), "deviation": self.deviation_W.tolist(), "steps": self.steps}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        self.mean_W = np.array(state["mean"], dtype=np.float64)
        self.deviation_W = np.array(state["deviation"], dtype=np.float64)
        if self.mean_W.ndim != 1 or self.mean_W.shape != self.deviation_W.shape:
            raise ValueError("mean and deviation differ in shape")
        self.steps = tuple(state["steps"]) if state.get("steps") else None  # missing in an older state

    def _check_float32(self, largest_W: np.ndarray) -> None:
        """Raise UserError if the numbers vary by too little for float32."""
        steps_W = np.spacing(largest_W.astype(np.float32))
        for largest, step, deviation in zip(largest_W, steps_W, self.deviation_W, strict=True):
            if 0 < deviation < 50 * step:
                what = f"float32 rounds numbers near {largest:.15g} to {step:g}, but they vary only by {deviation:.3g}"
                raise UserError(what, where="encoding", hint="set standardise: true, which subtracts the mean")


def warped(steps: int, warp: float, rng: np.random.Generator) -> np.ndarray:
    """When each step is read if time is warped, float64 [T], from 0 to T - 1; `warp`: standard deviation of the speed's
    logarithm."""
    speed_T = np.exp(np.interp(np.linspace(0, KNOTS - 1, steps - 1), np.arange(KNOTS), rng.normal(0.0, warp, KNOTS)))
    return np.concatenate([[0.0], np.cumsum(speed_T)]) * (steps - 1) / speed_T.sum()


def _frames(item: Any) -> np.ndarray:
    """Float64 [steps, features]."""
    try:
        frames = np.atleast_2d(np.asarray(item, dtype=np.float64))
    except (ValueError, TypeError):
        what = f"{item!r:.60} isn't a number" if isinstance(item, str) else "frames must be a table of numbers"
        raise UserError(what, where="data", hint="encode labels with {kind: labels}") from None
    if frames.ndim != 2 or not np.isfinite(frames).all():
        raise UserError(f"frames must be finite numbers of shape [steps, features], not {frames.shape}", where="data")
    return frames


def _shortest(value: float, step: float) -> float:
    """Round `value` to the fewest decimals with an error of at most `step` / 2."""
    decimals = math.floor(-math.log10(step))
    rounded = round(value, decimals)
    return rounded if abs(rounded - value) <= step / 2 else round(value, decimals + 1)


class OtherWidth(UserError):
    """A sequence has another number of features than the first one. Either may be the odd one, so none is left out."""


def _widths(found: int, wanted: int) -> OtherWidth:
    return OtherWidth(f"a sequence has {found} features per step, but the first one has {wanted}", where="data")
