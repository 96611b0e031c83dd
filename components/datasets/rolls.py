"""Piano rolls as JSON: pieces as lists of frames, a frame as the list of MIDI pitches that sound."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from components.datasets.base import Reader
from components.errors import UserError
from components.score import Note, Part, Score

LARGEST = 256 << 20  # bytes of a file
NAMES = {"train": ("train",), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}


class RollsReader(Reader):
    """One JSON object a file: {"train": [piece …], "valid": […], "test": […]}, as the piano-roll data sets of
    Boulanger-Lewandowski et al. (2012) are passed on. A frame lasts 1 / `frames_per_beat` of a quarter note."""

    framing = "sequences"
    holds_splits = True

    def __init__(self, files: Sequence[Path], /, *, frames_per_beat: Annotated[int, Field(ge=1, le=48)] = 1) -> None:
        super().__init__(files)
        self.frames_per_beat = frames_per_beat

    def items(self) -> Iterator[Score]:
        self.dropped.clear()
        for path in self.files:
            pieces = _read(path)
            wanted = NAMES[self.part] if self.part else [name for names in NAMES.values() for name in names]
            for name in wanted:
                for number, piece in enumerate(pieces.get(name, [])):
                    score = self._score(piece, f"{path}: {name}[{number}]")
                    if score.parts[0].notes:
                        yield score
                    else:
                        self.dropped["empty piece"] += 1

    def _score(self, piece: Any, where: str) -> Score:
        frames = piece if isinstance(piece, list) else [None]
        notes = []
        for step, frame in enumerate(frames):
            if not isinstance(frame, list) or not all(type(p) is int and 0 <= p <= 127 for p in frame):
                raise UserError("a frame is a list of MIDI pitches from 0 to 127", where=f"{where}, frame {step}")
            notes += [Note(step, 1, pitch) for pitch in sorted(set(frame))]
        return Score((Part("Piano", tuple(notes)),), steps_per_beat=self.frames_per_beat, length_steps=len(frames))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"more than {LARGEST >> 20} MB", where=str(path))
        pieces = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"isn't JSON: {error}", where=str(path)) from None
    known = {name for names in NAMES.values() for name in names}
    if (
        not isinstance(pieces, dict)
        or not set(pieces) <= known
        or not all(isinstance(p, list) for p in pieces.values())
    ):
        raise UserError("isn't an object of lists of pieces named train, valid and test", where=str(path))
    return pieces
