"""How to sample, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from components.bounds import MAX_CHARACTERS, MAX_COUNT, MAX_LENGTH, MOST_BARS

Progress = Callable[[int], None]  # is told now and then how many tokens, points or frames each sequence has


def unwatched(done: int) -> None:
    """Progress that nobody looks at."""


@dataclass(kw_only=True, eq=False)
class Settings:
    """How to sample: the recipe's generation section, and what the command may override.

    `count` pieces of at most `max_length` tokens are written, each from `prompt` on. `temperature` divides the logits
    (0 = always the likeliest token); `top_k` keeps the k likeliest tokens (0 = all), `top_p` the fewest that hold this
    much probability (nucleus sampling, Holtzman et al. 2020). The metre, the length and the like, with which a piece of
    music begins, are sampled without them, so that they vary as in training. `precision: int8` rounds the weights to 8
    bits for speed, on the CPU and where there is a C++ compiler; what is sampled from then differs a little.
    `gate_temperature` is that of a model that copies (`model.copy`): below 1 it keeps to what it copies, above 1 it
    leaves off sooner.
    `bars`: how many bars a piece has, of a model that plans them (`encoding.planned`; 0: as many as it likes).
    `form`: a letter for each section, "AABA": of a model that copies, sections with one letter come back to each other,
    e^`form_strength` times as readily as it would (0: as it would). All sections have the same number of bars: those of
    the piece shared out, else 8. Beside `rewrite` it is the form that the piece was asked to have: it is only shown.
    `pattern_strength`: a model that copies interval patterns (`encoding.patterns`) comes back to those of its piece
    e^`pattern_strength` times as readily as it would; not where a piece is rewritten.
    `constraints` are rules of music that a score keeps, the most important first (components.generation.constraints).
    `given` are token ids that stand fast, −1 where the model chooses, and `given_ends` ends a sequence after them: what
    commands make of a melody or a beginning in a file. `rewrite` names what of a `given` piece is written anew, "bars
    5-8, alto tenor", the rest standing fast; so many `particles` are weighed for it (components.generation.infill).
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
    form: Annotated[str, Field(max_length=MOST_BARS)] = ""
    form_strength: Annotated[float, Field(ge=0, le=20)] = 2.0
    pattern_strength: Annotated[float, Field(ge=0, le=20)] = 0.0
    constraints: tuple[Annotated[str, Field(max_length=200)], ...] = ()
    given: tuple[Annotated[int, Field(ge=-1, lt=2**31)], ...] = ()
    given_ends: bool = False
    rewrite: Annotated[str, Field(max_length=1000)] = ""
    particles: Annotated[int, Field(gt=0, le=4096)] = 64

    def as_trained(self) -> Settings:
        """These settings without temperature, top_k and top_p; at temperature 0 the likeliest token is still taken."""
        plain = copy(self)
        plain.temperature, plain.top_k, plain.top_p = 1.0 if self.temperature else 0.0, 0, 1.0
        return plain


@dataclass(frozen=True)
class Sampled:
    """One new sequence: its ids without BOS and EOS (the prompt included), the mean surprise of what was sampled,
    and whether the model ended it itself."""

    ids: np.ndarray
    nats_per_token: float
    ended: bool
