"""Updates as CUDA graphs: the GPU replays a recorded update, instead of Python launching each operation.

Only for tasks whose loss never waits for the device (`capturable`). A graph is for one shape: batch, state and learning
rate are copied into the recorded tensors.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import torch

from components.layers.base import State
from components.training.update import Update

AFTER = 3  # updates of a shape that run without a graph first, so that libraries can initialise
MOST = 32  # limit of recorded shapes


class CapturedUpdate(Update):
    """Like `Update`, on a GPU, with the same results."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: Counter[Any] = Counter()
        self.graphs: dict[Any, _Graph] = {}
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(self.device)

    def take(self, batch: Any, state: State | None) -> State:
        key = _shape(batch, state)
        if key in self.graphs:
            return self.graphs[key].replay(batch, state)
        self.seen[key] += 1
        if self.seen[key] > AFTER and len(self.graphs) < MOST:
            self.graphs[key] = _Graph(self, batch, state)
            return self.graphs[key].replay(batch, state)
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):  # the stream used for recording
            after = super().take(batch, state)
        torch.cuda.current_stream().wait_stream(self.stream)
        return after

    def record(self, batch: Any, state: State | None) -> State:
        """What a graph records."""
        return super().take(batch, state)


class _Graph:
    """One recorded update. Recording doesn't execute it and leaves everything unchanged."""

    def __init__(self, update: CapturedUpdate, batch: Any, state: State | None) -> None:
        device = update.device
        arrays = {name: value for name, value in vars(batch).items() if isinstance(value, np.ndarray)}
        self.inputs = {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}
        self.state = None if state is None else {name: value.clone() for name, value in state.items()}
        recorded = dataclasses.replace(batch, **self.inputs)
        self.graph = torch.cuda.CUDAGraph()
        update.optimizer.zero_grad(set_to_none=True)
        # other threads, which build batches ahead, may use the device meanwhile
        with torch.cuda.graph(self.graph, pool=update.pool, stream=update.stream, capture_error_mode="thread_local"):
            self.after = update.record(recorded, self.state)

    def replay(self, batch: Any, state: State | None) -> State:
        for name, held in self.inputs.items():
            held.copy_(torch.from_numpy(getattr(batch, name)).pin_memory(), non_blocking=True)
        if self.state is not None:
            for name, held in self.state.items():
                held.copy_(state[name])
        self.graph.replay()
        return self.after


def _shape(batch: Any, state: State | None) -> Any:
    arrays = tuple((name, value.shape) for name, value in vars(batch).items() if isinstance(value, np.ndarray))
    return arrays, None if state is None else tuple((name, value.shape) for name, value in state.items())
