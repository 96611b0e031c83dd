"""Generated piano performances: small pieces composed and performed by rules. See `composed` and `performed`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from components.datasets.made.base import MadeReader
from components.datasets.made.composed import compose
from components.datasets.made.performed import perform
from components.provenance import digest_json
from components.score import Score


@dataclass(kw_only=True, eq=False)
class MadePiano(MadeReader):
    """`count` pieces for piano of eight or sixteen bars: a melody over an accompaniment in several styles, in all keys,
    played with the rules of Friberg, Bresin and Sundberg (2006): phrase arches, a final ritard, a melody that is louder
    and slightly ahead, louder high notes, articulation, and a pedal that changes with the harmony.

    A piece in two keys would be in one split.
    """

    gives_way, files_by = True, "piano"

    count: Annotated[int, Field(gt=0, le=100_000)] = 800

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        self._groups: dict[str, str] = {}

    def made(self, number: int, rng: np.random.Generator) -> Score:
        written = compose(rng)
        title = f"{written.style} {number + 1}"
        rows = [[voice.start, voice.duration, voice.pitch - written.tonic] for voice in written.notes]
        self._groups[title] = digest_json(rows)
        return perform(written, title, rng)

    def group(self, item: Score) -> str:
        return self._groups[item.title]
