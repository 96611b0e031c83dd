"""Piano rolls: pieces as lists of frames, a frame as the pitches that sound."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from components.datasets.base import Reader
from components.datasets.files.sandbox import Limits, read_all
from components.datasets.music.roll_files import LOWEST_KEY, NAMES
from components.errors import UserError
from components.score import Note, Part, Score

LARGEST = 256 << 20  # bytes of a file
ARRAYS = (".mat", ".npz", ".npy")
MOST_SILENT = 0.05  # largest share of frames after the last note of their piece
PICKLES = (".pickle", ".pkl", ".p")
LIMITS = Limits(file_bytes=LARGEST, cpu_seconds=120.0, wall_seconds=300.0, answer_bytes=LARGEST)
TO_JSON = (
    "import json, pickle, sys; json.dump({k: [[list(map(int, f)) for f in p] for p in v] for k, v in "
    "pickle.load(open(sys.argv[1], 'rb'), encoding='latin1').items()}, open(sys.argv[2], 'w'))"
)


@dataclass(kw_only=True, eq=False)
class RollsReader(Reader):
    """Piano-roll data sets of Boulanger-Lewandowski et al. (2012), as distributed: JSON, {"train": [piece …], "valid":
    […], "test": […]}, where a frame is a list of MIDI pitches; `.mat` with the cell arrays traindata, validdata and
    testdata; `.npz`, see `roll_files.read`. A JSON list of pieces, or `.npy`, has no splits.

    A frame lasts 1 / `frames_per_beat` of a quarter note (default: a step of the encoding).
    """

    framing = "sequences"
    endings = (".json", *ARRAYS, *PICKLES)

    frames_per_beat: Annotated[int, Field(ge=1, le=48)] | None = None

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        self.frames_per_beat = self.frames_per_beat or 1

    @property
    def holds_splits(self) -> bool:  # type: ignore[override]
        return any("" not in _read(path) for path in self.files[:1])

    def items(self) -> Iterator[Score]:
        self.dropped.clear()
        for path in self.files:
            pieces = _read(path)
            wanted = NAMES[self.part] if self.part else pieces
            silent = frames = 0
            for name in wanted:
                for number, piece in enumerate(pieces.get(name, [])):
                    score = self._score(piece, f"{path}: {name}[{number}]")
                    if score.parts[0].notes:
                        frames += score.length_steps
                        silent += score.length_steps - 1 - score.parts[0].notes[-1].start
                        yield score
                    else:
                        self.dropped["empty piece"] += 1
            if silent > MOST_SILENT * frames:
                what = f"{path.name}: {silent:,} of {frames:,} frames are silence at the ends of pieces"
                self.tell(f"warning: {what} (padding? save the pieces without it: train_0, train_1 …)")

    def _score(self, piece: Any, where: str) -> Score:
        frames = piece if isinstance(piece, list) else [None]
        notes = []
        for step, frame in enumerate(frames):
            if not isinstance(frame, list) or not all(type(p) is int and 0 <= p <= 127 for p in frame):
                raise UserError("a frame must be a list of MIDI pitches from 0 to 127", where=f"{where}, frame {step}")
            if len(frame) in LOWEST_KEY and set(frame) <= {0, 1}:
                what = f"a frame must list its sounding pitches, but this one has {len(frame)} zeros and ones"
                raise UserError(
                    what, where=f"{where}, frame {step}", hint="save the arrays as .npz: train_0, valid_0 …"
                )
            notes += [Note(step, 1, pitch) for pitch in sorted(set(frame))]
        return Score((Part("Piano", tuple(notes)),), steps_per_beat=self.frames_per_beat, length_steps=len(frames))


def _read(path: Path) -> dict[str, Any]:
    """Pieces by the name of their split, "" if the file has none."""
    ending = path.suffix.lower()
    if ending in ARRAYS:
        return _arrays(path, path.stat().st_mtime_ns)
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"more than {LARGEST >> 20} MB", where=str(path))
        content = path.read_bytes()
        if ending in PICKLES or content[:1] == b"\x80":
            raise _pickle(path)
        pieces = json.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"isn't JSON: {error}", where=str(path), hint=f"also supported: {', '.join(ARRAYS)}") from None
    pieces = {"": pieces} if isinstance(pieces, list) else pieces
    known = {"", *(name for names in NAMES.values() for name in names)}
    if (
        not isinstance(pieces, dict)
        or not set(pieces) <= known
        or not all(isinstance(p, list) for p in pieces.values())
    ):
        raise UserError("must be a JSON object with lists of pieces named train, valid and test", where=str(path))
    return pieces


@functools.lru_cache(maxsize=1)  # cached, because each reading starts a process
def _arrays(path: Path, _: int) -> dict[str, Any]:
    outcome = next(read_all("components.datasets.music.roll_files:read", [path], {}, LIMITS))
    if outcome.reason:
        raise UserError(outcome.reason, where=str(path))
    return outcome.value


def _pickle(path: Path) -> UserError:
    quoted, json_file = shlex.quote(str(path)), shlex.quote(f"{path.with_suffix('')}.json")
    hint = f'if you trust the file, convert it to JSON: python3 -c "{TO_JSON}" {quoted} {json_file}'
    return UserError("is a pickle file, which isn't read since it could run any code", where=str(path), hint=hint)
