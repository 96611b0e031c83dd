"""Settings and results of sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from components.bounds import MAX_CHARACTERS, MAX_COUNT, MAX_LENGTH, MOST_BARS, MOST_SECONDS

Progress = Callable[[int], None]  # called with the number of tokens, points or frames of each sequence so far


def unwatched(done: int) -> None:
    """A Progress that does nothing."""


@dataclass(kw_only=True, eq=False)
class Settings:
    """How to sample: the recipe's generation section, which commands may override.

    `count` sequences of at most `max_length` tokens are generated, each continuing `prompt`. `temperature` divides the
    logits (0 = always the likeliest token); `top_k` samples from the k likeliest tokens (0 = all), `top_p` from the
    fewest tokens with this total probability (nucleus sampling, Holtzman et al. 2020). The first tokens of a piece of
    music, its metre, length and the like, are sampled without these settings, so that they vary as in training.
    `precision: int8` rounds the weights to 8 bits for speed, on the CPU and with a C++ compiler; the probabilities
    change a little.
    `gate_temperature` is that of the gate of a model that copies (`model.copy`): below 1 it continues a copy for
    longer, above 1 it stops sooner.
    `bars`: the number of bars of a piece, for a model that plans them (`encoding.planned`; 0: the model chooses).
    `seconds`: the length of a performance, for a model that plans it (0: the model chooses).
    `form`: a letter for each section, as in "AABA", for a model that copies: sections with the same letter repeat each
    other, with e^`form_strength` times the model's odds of copying (0: unchanged). All sections have the same number of
    bars: the piece's divided by the number of sections, else 8. When a piece is rewritten, the form is only displayed.
    `pattern_strength`: a model that copies interval patterns (`encoding.patterns`) repeats those of its piece with
    e^`pattern_strength` times its odds of copying; not when a piece is rewritten.
    `constraints` are rules of music that a score follows, in order of priority (components.generation.constraints).
    `given` are fixed token ids, −1 where the model chooses, and `given_ends` ends a sequence after them: commands set
    them for a file with a melody or a beginning. `rewrite` is the part of a `given` piece to regenerate, as in "bars
    5-8, alto tenor"; it is sampled with this number of `particles` (components.generation.infill).
    """

    count: Annotated[int, Field(gt=0, le=MAX_COUNT)] = 4
    max_length: Annotated[int, Field(gt=0, le=MAX_LENGTH)] = 1000
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    top_k: Annotated[int, Field(ge=0, lt=2**31)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    prompt: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    precision: Literal["float32", "int8"] = "float32"
    gate_temperature: Annotated[float, Field(ge=0.05, le=10)] = 1.3
    bars: Annotated[int, Field(ge=0, le=MOST_BARS)] = 0
    seconds: Annotated[int, Field(ge=0, lt=MOST_SECONDS)] = 0
    form: Annotated[str, Field(max_length=MOST_BARS)] = ""
    form_strength: Annotated[float, Field(ge=0, le=20)] = 2.0
    pattern_strength: Annotated[float, Field(ge=0, le=20)] = 0.0
    constraints: tuple[Annotated[str, Field(max_length=200)], ...] = ()
    given: tuple[Annotated[int, Field(ge=-1, lt=2**31)], ...] = ()
    given_ends: bool = False
    rewrite: Annotated[str, Field(max_length=1000)] = ""
    particles: Annotated[int, Field(gt=0, le=4096)] = 64

    def as_trained(self) -> Settings:
        """These settings without temperature, top_k and top_p; temperature 0 is kept."""
        return replace(self, temperature=1.0 if self.temperature else 0.0, top_k=0, top_p=1.0)


@dataclass(frozen=True)
class Sampled:
    """One generated sequence: its ids without BOS and EOS (the prompt included), the mean nats of the sampled tokens,
    and whether the model generated the end."""

    ids: np.ndarray
    nats_per_token: float
    ended: bool
