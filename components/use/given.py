"""Music files as generation settings: a melody to harmonise, or a beginning to continue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from components.bundle import Bundle
from components.datasets.music import MusicReader
from components.errors import UserError
from components.score import Score

Tell = Callable[[str], None]


def given(bundle: Bundle, melody: str | None, start: str | None, tell: Tell, doubt: Tell) -> dict[str, Any]:
    """Generation settings from the first piece in a file. For a `melody` the model writes the other voices; a `start`
    is continued. `tell` receives a line about what was read, `doubt` a warning.

    Raises:
        UserError: both are given, the file can't be read, or the model can't represent such a piece.
    """
    path = melody or start
    if not path:
        return {}
    if melody and start:
        raise UserError("give a melody or a start, not both", where="melody")
    name = "melody" if melody else "start"
    score = _read(Path(path), bundle.grid(name), "melody" if melody else "all", doubt)
    tell(f"{name:7} {Path(path).name}: {sum(len(part.notes) for part in score.parts)} notes")
    for one in bundle.encoding.doubts(score) if melody else ():
        doubt(one)
    try:
        return bundle.under(score) if melody else bundle.onwards(score)
    except UserError as error:
        raise UserError(error.what, where=f"{name} {path}", hint=error.hint) from error


def _read(path: Path, grid: int, parts: Literal["all", "melody"], doubt: Tell) -> Score:
    reader = MusicReader([path], steps_per_beat=grid, min_notes=1, parts=parts)
    scores = list(reader.items())  # to the end: only then is it known what there is to tell
    for note in reader.notes:
        doubt(note)
    if len(scores) > 1:
        doubt(f"{path.name} has {len(scores):,} pieces, the first is taken: {scores[0].title!r}")
    return scores[0]
