"""A score with the facts that its files show."""

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
    marked: tuple[tuple[int, int], ...] = ()  # regenerated stretches: (first step, end step)
    sections: Spans = ()  # of the requested form
