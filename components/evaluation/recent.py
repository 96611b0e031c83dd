"""Language models of one long text that adapt to the recent past in evaluation: neural cache, dynamic evaluation.

Their metrics have separate names: "cache/perplexity", "dynamic/perplexity". All settings are chosen on val; a text is
read once, from its beginning to its end.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from components.console import say
from components.datasets.store import Sequences, Store
from components.evaluation.cache import cache_probabilities, mixed, read
from components.evaluation.dynamic import Adaptation, dynamic_nats, gradient_sizes
from components.tasks.base import Task

FLATNESS = (0.03, 0.1, 0.2, 0.3, 0.5, 1.0)
WEIGHTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
RATES, DECAYS = (1e-4, 2e-4, 4e-4, 8e-4), (1e-3, 1e-2, 1e-4)
WINDOW = 256  # steps read at once for the cache
TRIED = 4000  # tokens of val used to choose rate and decay


@dataclass(eq=False)
class Recent:
    """`cache`: number of recent tokens in a neural cache (Grave et al. 2017; 0: none); adds final metrics "cache/…".
    `dynamic`: add metrics "dynamic/…" of a model that keeps learning during evaluation (Krause et al. 2018).
    `dynamic_window`: number of tokens that are scored and then learned at a time. Both are for language models of one
    long text; their settings are chosen on validation data.
    """

    task: Task
    model: nn.Module
    store: Store
    _: KW_ONLY
    cache: Annotated[int, Field(ge=0, le=100_000)] = 0
    dynamic: bool = False
    dynamic_window: Annotated[int, Field(gt=0, le=10_000)] = 20

    def metrics(self, split: str) -> dict[str, float]:
        """The metrics of a split with the model's current weights, which aren't changed. Empty without validation
        data."""
        sequences = self.store.split(split)
        if not (self.cache or self.dynamic) or len(sequences.tokens) < 2 or len(self.store.split("val").tokens) < 2:
            return {}
        self.model.eval()
        found = {}
        if self.cache:
            flatness, weight = self.cache_settings
            nats_N, *past = self._read(sequences)
            cached_N = cache_probabilities(*past, size=self.cache, flatness=flatness)
            found |= self._figures("cache", mixed(nats_N, cached_N, weight))
        if self.dynamic:
            found |= self._figures("dynamic", self._adapted(sequences, self.adaptation))
        return found

    @cached_property
    def cache_settings(self) -> tuple[float, float]:
        """The flatness and weight that are best on val."""
        nats_N, *past = self._read(self.store.split("val"))
        tried = {}
        for flatness in FLATNESS:
            cached_N = cache_probabilities(*past, size=self.cache, flatness=flatness)
            tried |= {(flatness, weight): float(mixed(nats_N, cached_N, weight).mean()) for weight in WEIGHTS}
        best = min(tried, key=tried.__getitem__)
        say(f"cache   flatness {best[0]:g}, weight {best[1]:g}, chosen on val")
        return best

    @cached_property
    def adaptation(self) -> Adaptation:
        """The rate and decay that are best on the beginning of val."""
        batches = self.task.batches(
            self.store.split("train"), batch_size=32, window=self.dynamic_window, seed=0, training=False
        )
        sizes = gradient_sizes(self.model, batches)
        tokens = self.store.split("val").tokens[:TRIED]
        val = Sequences(tokens, np.array([0, len(tokens)]))
        best, least = Adaptation(sizes, 0.0, 0.0), math.inf
        for rate in RATES:
            one = Adaptation(sizes, rate, DECAYS[0])
            if (nats := self._adapted(val, one).mean()) < least:
                best, least = one, nats
        for decay in DECAYS[1:]:
            one = Adaptation(sizes, best.rate, decay)
            if (nats := self._adapted(val, one).mean()) < least:
                best, least = one, nats
        say(f"dynamic rate {best.rate:g}, decay {best.decay:g}, chosen on val")
        return best

    def _adapted(self, sequences: Sequences, adaptation: Adaptation) -> Tensor:
        batches = self.task.batches(sequences, batch_size=1, window=self.dynamic_window, seed=0, training=False)
        return dynamic_nats(self.model, batches, adaptation)

    def _read(self, sequences: Sequences) -> tuple[Tensor, Tensor, Tensor]:
        return read(self.model, self.task.batches(sequences, batch_size=1, window=WINDOW, seed=0, training=False))

    def _figures(self, way: str, nats_N: Tensor) -> dict[str, float]:
        nats = float(nats_N.mean())
        figures = {f"nats_per_{self.task.encoding.unit}": nats, "perplexity": math.exp(min(nats, 700.0))}
        return {f"{way}/{name}": value for name, value in figures.items()}
