"""Drum and piano performances from files and folders of MIDI, cut into pieces for training."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from components.datasets.music.formats.midi_file import IN_SECONDS
from components.datasets.music.played import METRE_CHANGES
from components.datasets.music.reader import MusicFiles
from components.datasets.refusals import LISTED
from components.errors import UserError
from components.score import Score

KINDS = (".mid", ".midi", ".kar", ".rmi")
LARGEST_TABLE = 16 << 20  # bytes
PART = re.compile(r", (bars \d+ to \d+|part \d+)$")  # suffix of a title from `played`
SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}


class PerformanceReader(MusicFiles):
    """MIDI files, read in subprocesses. All pieces of a file are in the same split. A table in the folder with the
    columns midi_filename and split (as in MAESTRO and Groove) gives the split of each file."""

    kinds = KINDS
    told = (IN_SECONDS, METRE_CHANGES)
    wanted: ClassVar[str]  # the music it reads
    other: ClassVar[str]  # message for files with other music

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        self._split_of = _splits(files, self.files)

    @property
    def holds_splits(self) -> bool:  # type: ignore[override]
        return "train" in self._split_of.values()

    def items(self) -> Iterator[Score]:
        if self.part and self._kept is None:
            self.report = []
            self.files = [path for path in self.files if self._split_of.get(path) == self.part]
        return super().items()

    def _read(self) -> Iterator[Score]:
        if self.part == "train":
            unknown = len(self._shown) - len(self._split_of)
            if unknown:
                self._others["not in the table of splits"] = unknown
        yield from super()._read()

    def group(self, item: Score) -> str:
        """The file, or the song in it: its name is the title up to the part."""
        return PART.sub("", item.title)

    def places(self, indices: Collection[int]) -> dict[int, str]:
        given = self._given
        return {index: f"{given[index]['file']}, {given[index]['title']!r}" for index in indices}

    def way_out(self, reasons: set[str]) -> str:
        if any("has no" in reason or "has only" in reason for reason in reasons):
            return f"this reader needs {self.wanted}; {self.other}"
        return "see the reasons; perhaps data.min_notes is too strict"

    def _summarise(self) -> None:
        super()._summarise()
        flat = [row["file"] for row in self.report if row["read"] and "all its velocities are" in row["why"]]
        flat = list(dict.fromkeys(flat))
        if flat:
            listed = ", ".join(flat[:LISTED])
            self.notes.append(f"warning: {len(flat):,} files have only one velocity, so no dynamics: {listed}")


@dataclass(kw_only=True, eq=False)
class DrumsReader(PerformanceReader):
    """Drums of MIDI files (channel 10, and channels that are made drum kits), with the times as played, and folders of
    such files. The keys of General MIDI and of the Roland TD-11 are mapped to the nine pieces of a kit; other keys are
    left out and counted.

    `bars`: a file is cut into pieces of this many bars; 0: not cut. `min_notes`: minimum number of notes in a piece.
    `workers`: number of files read in parallel.
    """

    function = "components.datasets.music.played:read_drums"
    wanted = "MIDI files with drums on channel 10"
    other = "read piano files with the reader piano, others with music"
    sent = ("bars", "min_notes")

    bars: Annotated[int, Field(ge=0, le=1024)] = 8
    min_notes: Annotated[int, Field(ge=1)] = 4


@dataclass(kw_only=True, eq=False)
class PianoReader(PerformanceReader):
    """Piano performances of MIDI files: notes, velocities and the sustain pedal in seconds, and folders of such files.
    Other instruments are left out and counted.

    `seconds`: a file is cut into pieces of about this many seconds; 0: not cut. `min_notes`: minimum number of notes in
    a piece. `workers`: number of files read in parallel.
    """

    function = "components.datasets.music.played:read_piano"
    wanted = "MIDI files with a piano"
    other = "read drum files with the reader drums, others with music"
    sent = ("seconds", "min_notes")

    seconds: Annotated[float, Field(ge=0, le=36_000)] = 30.0


def _splits(given: Sequence[Path], files: Sequence[Path]) -> dict[Path, str]:
    """The split of each file, by a table in a folder that is given.

    Raises:
        UserError: the table has another split than train, val and test.
    """
    known, found = {path.resolve(): path for path in files}, {}
    for folder in (path for path in given if path.is_dir()):
        for table in sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")]):
            if table.stat().st_size > LARGEST_TABLE:
                continue
            for name, split in _rows(table):
                if split.strip().lower() not in SPLITS:
                    what = f"unknown split {split[:40]!r} in the column split"
                    raise UserError(what, where=str(table), hint="choices: train, validation, test")
                if path := known.get((table.parent / name).resolve()):
                    found[path] = SPLITS[split.strip().lower()]
    return found


def _rows(table: Path) -> list[tuple[str, str]]:
    """(file, split) in a table that has these columns; otherwise [].

    Raises:
        UserError: it can't be read as a table.
    """
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        try:
            if not {"midi_filename", "split"} <= set(rows.fieldnames or ()):
                return []
            return [(str(row["midi_filename"]).replace("\0", ""), str(row["split"])) for row in rows]
        except csv.Error as error:
            hint = "save it again as CSV, or move it out of the folder"
            raise UserError(f"can't be read as a table: {error}", where=str(table), hint=hint) from None
