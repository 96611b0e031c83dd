"""Windows of series: past values as input, the next steps as target. Each is scaled by its own past.

Shapes: B rows, L steps that only lags read, C steps of context, H of the horizon, T = C + H, I inputs of a step, F
known features of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from components.datasets.batches.examples import ExampleBatch
from components.datasets.batches.truncated import Batches
from components.datasets.store import Sequences
from components.encodings.series import PARTS


@dataclass(frozen=True)
class ForecastBatch(ExampleBatch):
    """`inputs` [B, T, I]: for each step the last value, the lags, whether the last value exists, and the known
    features. `targets` [B, T]: 1 for steps that count, 0 before a series' beginning. `values_BT` are scaled by
    `scales_B1`."""

    values_BT: np.ndarray = field(kw_only=True)
    scales_B1: np.ndarray = field(kw_only=True)
    windows: Sequence[Window] = ()


@dataclass(frozen=True)
class Window:
    """A series around an origin, the index of the first predicted step. Values before the series begins are 0.

    `past` float32 [L + C], scaled; `known` float32 [T, F]; `wanted` float64 [H] or fewer, in the data's units. value =
    centre + scale · scaled.
    """

    row: int
    origin: int
    past: np.ndarray
    seen: np.ndarray  # bool [L + C]: is the step in the series?
    known: np.ndarray
    wanted: np.ndarray
    centre: float
    scale: float
    frames: np.ndarray  # the whole series, encoded

    @property
    def history(self) -> np.ndarray:
        """All values before the origin, float64."""
        return values_of(self.frames[: self.origin])

    @property
    def scaled(self) -> np.ndarray:
        """The target values, float32, scaled."""
        return ((self.wanted - self.centre) / self.scale).astype(np.float32)


@dataclass(frozen=True)
class Shape:
    """The shape of windows. `lags` include 1, the last value."""

    context: int
    horizon: int
    lags: tuple[int, ...]
    centre: bool

    @property
    def before(self) -> int:
        """Steps before the context, read by the lags only."""
        return max(self.lags)

    @property
    def past(self) -> int:
        return self.before + self.context

    def inputs(self, width: int) -> int:
        """Inputs of a step, with `width` known features."""
        return len(self.lags) + 1 + width


def window(frames: np.ndarray, origin: int, shape: Shape, row: int = 0) -> Window:
    """The window of encoded frames [T', 2 + F] at an origin. `past`, `centre` and `scale` don't depend on anything from
    the origin on."""
    first = max(0, origin - shape.past)
    history, wanted = values_of(frames[first:origin]), values_of(frames[origin : origin + shape.horizon])
    context = history[-shape.context :]
    centre = float(context.mean()) if shape.centre else 0.0
    sizes = (np.abs(part).mean() for part in (context - centre, history - centre, context))
    scale = next((float(size) for size in sizes if size > 0), 1.0)
    past, seen = np.zeros(shape.past, np.float32), np.zeros(shape.past, bool)
    past[shape.past - len(history) :] = (history - centre) / scale
    seen[shape.past - len(history) :] = True
    known = np.zeros((shape.context + shape.horizon, frames.shape[1] - PARTS), np.float32)
    there = frames[max(0, origin - shape.context) : origin + shape.horizon, PARTS:]
    late = shape.context - min(origin, shape.context)
    known[late : late + len(there)] = there
    return Window(row, origin, past, seen, known, wanted, centre, scale, frames)


def values_of(frames: np.ndarray) -> np.ndarray:
    """The values of encoded frames, float64."""
    return frames[:, :PARTS].astype(np.float64).sum(axis=1)


class ForecastBatches(Batches):
    """Training draws random windows: a series in proportion to its number of possible origins, and one of them. An
    epoch has as many windows as fit without overlap. In evaluation, the last `origins` origins of each series,
    `horizon` apart, in order.

    The order is a pure function of (seed, epoch, index).
    """

    def __init__(
        self, sequences: Sequences, shape: Shape, /, *, origins: int, batch_size: int, seed: int, training: bool
    ) -> None:
        self.sequences, self.shape, self.origins = sequences, shape, origins
        self.batch_size, self.seed, self.training = batch_size, seed, training
        # an origin needs a value before it and the whole horizon after it
        self.room = np.maximum(sequences.lengths - shape.horizon, 0)
        places = [
            (row, int(length) - shape.horizon * (back + 1))
            for row, length in enumerate(sequences.lengths)
            for back in reversed(range(origins))
        ]
        self.places = [(row, origin) for row, origin in places if origin > 0]

    def count(self, epoch: int) -> int:
        """Batches in an epoch."""
        if not self.training:
            return -(-len(self.places) // self.batch_size)
        windows = int(self.room.sum()) // (self.shape.context + self.shape.horizon)
        return max(1, windows // self.batch_size) if self.room.sum() else 0

    def at(self, epoch: int, index: int) -> ForecastBatch:
        """Batch `index` of an epoch."""
        if self.training:
            rng = self.rng(epoch, index)
            rows = rng.choice(len(self.room), self.batch_size, p=self.room / self.room.sum())
            chosen = [(int(row), int(rng.integers(1, self.room[row] + 1))) for row in rows]
        else:
            chosen = self.places[index * self.batch_size : (index + 1) * self.batch_size]
        return batch([window(self.sequences[row], origin, self.shape, row) for row, origin in chosen], self.shape)


def batch(windows: Sequence[Window], shape: Shape) -> ForecastBatch:
    """A batch of windows whose horizon is known."""
    values = np.stack([np.concatenate([one.past, one.scaled]) for one in windows])
    steps = shape.context + shape.horizon
    seen_BW = np.pad(np.stack([one.seen for one in windows]), ((0, 0), (0, shape.horizon)), constant_values=True)
    known_BTF = np.stack([one.known for one in windows])
    inputs = step_inputs(values, seen_BW, known_BTF, shape, shape.before, steps)
    lengths_B = np.full(len(windows), steps)
    return ForecastBatch(
        inputs=inputs,
        lengths_B=lengths_B,
        targets=seen_BW[:, shape.before :].astype(np.int64),
        target_lengths_B=lengths_B,
        rows=np.array([one.row for one in windows]),
        values_BT=values[:, shape.before :],
        scales_B1=scales(windows),
        windows=windows,
    )


def scales(windows: Sequence[Window]) -> np.ndarray:
    """The scale of each window, float64 [B, 1]."""
    return np.array([[one.scale] for one in windows])


def step_inputs(
    values_BW: np.ndarray, seen_BW: np.ndarray, known_BTF: np.ndarray, shape: Shape, first: int, steps: int
) -> np.ndarray:
    """float32 [B, steps, I] for the steps of the window from `first` on, each from earlier values only."""
    ends = range(first, first + steps)
    lagged = [values_BW[:, ends.start - lag : ends.stop - lag] for lag in shape.lags]
    lagged.append(seen_BW[:, ends.start - 1 : ends.stop - 1].astype(np.float32))
    return np.concatenate([np.stack(lagged, axis=2), known_BTF], axis=2)
