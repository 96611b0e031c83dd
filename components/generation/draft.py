"""What is to be sampled, made once where the settings are read, and who else than a model may sample it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from components.encodings.base import Encoding
from components.generation.region import Piece
from components.generation.settings import Progress, Sampled, Settings, unwatched


@dataclass(frozen=True, eq=False)
class Draft:
    """`settings.count` sequences that go on from the prompt, or the `piece` with its free tokens written anew.

    `framed` sequences start with BOS and end with EOS; a text stream has neither and runs for `max_length` tokens.
    Sequence n draws from a generator of its own, seeded by (seed, n). `progress` is told now and then how many tokens
    each has.
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
    """What samples in a model's place: `sample`, `rewrite` and the tasks take it for one. A server's draws several
    requests together."""

    @abstractmethod
    def sample(self, draft: Draft) -> list[Sampled]:
        """As the function `sample`; with a piece as `components.generation.infill.rewrite`."""
