"""What the files of a score show beside its notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.render.record import Record
from components.score import Score

Spans = tuple[tuple[str, int, int], ...]  # letter, first and end step of each section


@dataclass(frozen=True)
class Piece:
    """A score with its record."""

    score: Score
    title: str
    subtitle: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    record: Record | None = None
    marked: tuple[tuple[int, int], ...] = ()  # stretches that were written anew: first and end step each
    sections: Spans = ()  # of the form that was asked for
