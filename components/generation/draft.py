"""The input of sampling, and the interface of samplers that replace a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from components.encodings.base import Encoding
from components.generation.region import Piece
from components.generation.settings import Progress, Sampled, Settings, unwatched


@dataclass(frozen=True, eq=False)
class Draft:
    """`settings.count` sequences to sample: continuations of the prompt, or the `piece` with new free tokens.

    `framed` sequences start with BOS and end with EOS; a text stream has neither and runs for `max_length` tokens.
    Sequence n has its own random generator, seeded by (seed, n). `progress` is called with the number of tokens so far.
    """

    encoding: Encoding
    prompt_ids: Sequence[int]
    settings: Settings
    _: KW_ONLY
    seed: int
    framed: bool = True
    piece: Piece | None = None
    progress: Progress = unwatched


class Sampler(ABC):
    """Accepted in place of a model by `sample`, `rewrite` and the tasks, for example to batch the requests of a
    server."""

    @abstractmethod
    def sample(self, draft: Draft) -> list[Sampled]:
        """As the function `sample`; with a piece as `components.generation.infill.rewrite`."""
