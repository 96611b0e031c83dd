"""For a piece generated with a form: the position of its sections, and which bars repeat earlier ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from components.encodings.sections import Sections
from components.render.layout import units
from components.render.piece import Spans
from components.score import Score


def spans_of(score: Score, sections: Sections) -> Spans:
    """The sections within the length of the score."""
    bars, _ = units(score)
    found = []
    for number, letter in enumerate(sections.letters):
        first = number * sections.bars + 1
        inside = [bars[bar] for bar in range(first, first + sections.bars) if bar in bars]
        if inside:
            found.append((letter, inside[0][0], inside[-1][1]))
    return tuple(found)


def outside(spans: Spans, stretches: Iterable[tuple[int, int]]) -> Spans:
    """The sections without the rewritten stretches, each given by its first and end step."""
    for first, end in stretches:
        parts = [
            part
            for letter, start, stop in spans
            for part in ((letter, start, min(stop, first)), (letter, max(start, end), stop))
        ]
        spans = tuple((letter, start, stop) for letter, start, stop in parts if start < stop)
    return spans


def came_from(score: Score, sections: Sections) -> dict[int, int]:
    """{bar: source} for bars (from 1) with exactly the notes of the bar at the same place of the latest section with
    their letter. A note belongs to the bar in which it begins; bars without notes are equal."""
    bars, _ = units(score)
    backs = sections.backs(np.arange(sections.total))
    found = {}
    for bar, back in enumerate(backs.tolist(), 1):
        if back and bar in bars and _notes(score, *bars[bar]) == _notes(score, *bars[bar - back]):
            found[bar] = bar - back
    return found


def lineage(score: Score, sections: Sections) -> dict[str, Any]:
    """The form in the record of a piece, as JSON-ready data."""
    same = {str(bar): source for bar, source in came_from(score, sections).items()}
    return {"form": sections.letters, "section_bars": sections.bars, "came_from": same}


def told(score: Score, sections: Sections) -> dict[str, str]:
    """The same as readable text."""
    runs: list[list[tuple[int, int]]] = []
    for bar, source in came_from(score, sections).items():
        if runs and runs[-1][-1] == (bar - 1, source - 1):
            runs[-1].append((bar, source))
        else:
            runs.append([(bar, source)])
    came = [" from ".join(_range([pair[side] for pair in run]) for side in (0, 1)) for run in runs]
    return {"form": f"{sections.letters}, {sections.bars} bars each", "repeated bars": "; ".join(came) or "none"}


def _range(bars: list[int]) -> str:
    return f"{bars[0]}–{bars[-1]}" if len(bars) > 1 else str(bars[0])


def _notes(score: Score, start: int, stop: int) -> set[tuple[int, int, int, int]]:
    return {
        (voice, note.start - start, note.duration, note.pitch)
        for voice, part in enumerate(score.parts)
        if part.role not in ("chords", "bass", "drums")
        for note in part.notes
        if start <= note.start < stop
    }
