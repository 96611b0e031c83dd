"""Music from files and folders of MIDI, MusicXML, ABC and Humdrum, with a report on each file."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from components.datasets.base import Reader
from components.datasets.families import in_any_key
from components.datasets.files.folders import printable
from components.datasets.files.sandbox import Limits, read_all
from components.datasets.music.formats.grid import ONLY_DRUMS, UNEVEN
from components.datasets.music.formats.midi_file import IN_SECONDS
from components.datasets.music.formats.musicxml import SEVERAL
from components.datasets.music.formats.repeats import DONT_FIT
from components.datasets.refusals import LISTED, kind_of
from components.errors import UserError
from components.score import Chord, PackedNotes, Part, Score

KINDS = (".mid", ".midi", ".kar", ".rmi", ".musicxml", ".xml", ".mxl", ".abc", ".krn")
MOST_FILES = 200_000
DEEPEST = 16  # nested folders
# A symphonic movement in MusicXML takes music21 long; MIDI takes milliseconds.
LIMITS = Limits(cpu_seconds=30.0, wall_seconds=180.0)
TELL_EVERY = 500
OPTIONS = ("steps_per_beat", "parts", "beats", "melody_track", "chords_track", "min_notes", "max_seconds")
COLUMNS = (
    "file", "title", "format", "read", "reason", "tracks", "melody", "chords", "bass", "why", "metre", "upbeat_steps",
    "tempo_bpm", "tempo_changes", "key", "seconds", "notes_kept", "notes_left_out", "left_out", "timing_error_ms",
)  # fmt: skip


@dataclass(kw_only=True, eq=False)
class MusicFiles(Reader):
    """Files of music and folders of them, each file read in a subprocess, so that a bad file can't crash the run; it is
    skipped, with its reason in `report`: after a pass over `items`, one row for each piece or skipped file with the
    keys of COLUMNS.

    `steps_per_beat`: the grid (12 has triplets and sixteenths, and keeps swing). `min_notes`: minimum number of notes
    in the parts used.
    """

    framing = "sequences"
    kinds: ClassVar[tuple[str, ...]] = KINDS
    # remarks on a piece that are shown to the user
    told: ClassVar[tuple[str, ...]] = (DONT_FIT, IN_SECONDS, SEVERAL, UNEVEN)
    function: ClassVar[str] = "components.datasets.music.formats.pieces:read"  # reads a file, in a subprocess
    sent: ClassVar[tuple[str, ...]] = OPTIONS  # the settings that it needs

    min_notes: Annotated[int, Field(ge=1)] = 8
    workers: Annotated[int, Field(ge=1, le=64)] = 2

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__([])
        self.options: dict[str, Any] = {name: getattr(self, name) for name in self.sent}
        self.limits = LIMITS
        self.check: Callable[[], None] = lambda: None  # called while a file is read; raising ends the reading
        self.report: list[dict[str, Any]] = []
        self._shown: dict[Path, str] = {}
        self._others: Counter[str] = Counter()
        self.files = self._expand(files)
        self._kept: IO[bytes] | None = None  # what the workers sent; on disk, because a corpus may not fit into memory
        self._ends: list[int] = []

    def items(self) -> Iterator[Score]:
        """The scores in the order of the files. The files are read once; later passes use the cached results.

        Raises:
            UserError: no file gave a piece; the message has the reasons and the first files.
        """
        if self._kept is None:
            yield from self._read()
            return
        start = 0
        for end in self._ends:
            yield _score(json.loads(os.pread(self._kept.fileno(), end - start, start)))
            start = end

    def places(self, indices: Collection[int]) -> dict[int, str]:
        """The file, with the title if it has several pieces."""
        given, pieces = self._given, Counter(row["file"] for row in self.report)
        shown = {index: given[index] for index in indices}
        return {
            index: row["file"] if pieces[row["file"]] == 1 else f"{row['file']}, {row['title']!r}"
            for index, row in shown.items()
        }

    def reported(self, refused: Mapping[int, str]) -> list[dict[str, Any]]:
        given = self._given
        reasons = {id(given[index]): reason for index, reason in refused.items()}
        return [row | {"read": False, "reason": reasons[id(row)]} if id(row) in reasons else row for row in self.report]

    @property
    def _given(self) -> list[dict[str, Any]]:
        """The report's rows of the items."""
        return [row for row in self.report if row["read"]]

    def group(self, item: Score) -> str:
        return in_any_key(item)

    def family_title(self, item: Score) -> str:
        return item.title.strip().casefold()

    def _read(self) -> Iterator[Score]:
        self.report.clear()
        self.dropped.clear()
        self.notes.clear()
        kept, ends = tempfile.TemporaryFile(), []  # noqa: SIM115 - lives as long as the reader
        self.dropped.update({f"file that isn't music ({ending})": n for ending, n in self._others.items()})
        outcomes = read_all(self.function, self.files, self.options, self.limits, self.workers, self.check)
        for index, (path, outcome) in enumerate(zip(self.files, outcomes, strict=True), start=1):
            for row, content in outcome.value or [({"reason": outcome.reason}, None)]:
                self.report.append(
                    dict.fromkeys(COLUMNS) | {"file": self._shown[path], "read": not row["reason"]} | row
                )
                if content is None:
                    self.dropped[kind_of(row["reason"])] += 1
                    continue
                kept.write(json.dumps(content).encode())
                ends.append(kept.tell())
                yield _score(content)
            if index % TELL_EVERY == 0:
                self.progress(f"read {index:,} of {len(self.files):,} files")
        self._summarise()
        if not any(row["read"] for row in self.report):
            raise self._nothing()
        kept.flush()
        self._kept, self._ends = kept, ends  # only a whole pass is cached

    def _summarise(self) -> None:
        skipped = [row for row in self.report if not row["read"]]
        for row in skipped[:LISTED]:
            self.notes.append(f"{row['file']} skipped: {row['reason']}")
        if len(skipped) > LISTED:
            self.notes.append(f"and {len(skipped) - LISTED:,} more skipped: the report names them")
        left_out: Counter[str] = Counter()
        for row in self.report:
            left_out.update(json.loads(row["left_out"] or "{}"))
        self.notes += [f"{count:,} × {what}" for what, count in left_out.most_common()]
        for what in self.told:
            told = [row for row in self.report if row["read"] and what in row["why"]]
            for row in told[:LISTED]:
                remark = next(part for part in row["why"].split("; ") if part.startswith(what))
                self.notes.append(f"{row['file']}, {row['title']!r}: {remark}")
            if len(told) > LISTED:
                self.notes.append(f"and {len(told) - LISTED:,} more pieces: {what}; the report names them")
        off = [row["file"] for row in self.report if row["read"] and "off the beat" in row["why"]]
        if off:
            what = "their beats were estimated" if self.options["beats"] == "follow" else "try data.beats=follow"
            self.notes.append(f"{len(off):,} pieces don't follow the file's beats, e.g. {off[0]}: {what}")

    def _nothing(self) -> UserError:
        reasons = Counter(kind_of(row["reason"]) for row in self.report)
        counted = "; ".join(f"{count:,} × {reason}" for reason, count in reasons.most_common(LISTED)) or "no files"
        first = "\n".join(f"  {row['file']}: {row['reason']}" for row in self.report[:LISTED])
        what = f"no piece could be read from {len(self.files):,} files: {counted}\n{first}".rstrip()
        return UserError(what, where="data", hint=self.way_out(set(reasons)))

    def way_out(self, reasons: set[str]) -> str:
        """The hint if no file gives a piece, for these reasons."""
        if reasons == {ONLY_DRUMS}:
            return "drums have no melody: give pieces with other instruments, or read them with data.reader=drums"
        return "see the reasons; perhaps data.min_notes, data.max_seconds or data.melody_track is too strict"

    def _expand(self, given: Sequence[Path]) -> list[Path]:
        """Files as they are, folders by the music in them, without hidden files; links to folders aren't followed."""
        found: list[Path] = []
        for path in map(Path, given):
            if not path.is_dir():
                self._sort(path, path.name, found)
                continue
            for folder, folders, names in os.walk(path):
                depth = len(Path(folder).relative_to(path).parts)
                folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < DEEPEST else []
                for name in sorted(names):
                    file = Path(folder, name)
                    if not name.startswith(".") and file.is_file():
                        self._sort(file, str(file.relative_to(path)), found)
                if len(found) > MOST_FILES:
                    hint = "choose a subfolder"
                    raise UserError(f"more than {MOST_FILES:,} files of music", where=str(path), hint=hint)
        if given and not found:
            others = ", ".join(f"{count:,} × {ending}" for ending, count in self._others.most_common(LISTED))
            raise UserError(
                f"contains no music, only {others}" if others else "the folder is empty",
                where=", ".join(map(str, given[:LISTED])),
                hint=f"supported: {' '.join(self.kinds)}, also in subfolders",
            )
        # without duplicates: a folder may be given together with a file in it
        self._shown = {path.absolute(): self._shown[path] for path in found}
        return list(self._shown)

    def _sort(self, file: Path, shown: str, found: list[Path]) -> None:
        if file.suffix.lower() in self.kinds:
            self._shown[file] = printable(shown)
            found.append(file)
        else:
            self._others[printable(file.suffix.lower()[:12]) or "no ending"] += 1


@dataclass(kw_only=True, eq=False)
class MusicReader(MusicFiles):
    """Scores from files in .mid .midi .kar .rmi .musicxml .xml .mxl .abc .krn, and folders of them.

    `parts`: all of a piece's parts, or its melody alone (chord symbols stay). `beats`: "follow" tracks the beats of
    MIDI that was played without a click (a transcribed solo) from its notes, "file" uses the file's beats.
    `melody_track`, `chords_track`: the number or (a part of) the name of a track, as in the report, instead of the
    automatic choice. `max_seconds`: longer pieces are skipped.
    """

    steps_per_beat: Annotated[int, Field(ge=1, le=96)] = 12
    parts: Literal["all", "melody"] = "all"
    beats: Literal["file", "follow"] = "file"
    melody_track: int | str | None = None
    chords_track: int | str | None = None
    max_seconds: Annotated[float, Field(gt=0, le=36_000)] = 1800.0
    families: bool = False


def _score(content: dict[str, Any]) -> Score:
    """The score that a worker sent."""
    return Score(
        parts=tuple(
            Part(
                part["name"],
                _notes(part["notes"]),
                part["program"],
                part["role"],
                tuple((down, up) for down, up in part.get("pedal", ())),
            )
            for part in content["parts"]
        ),
        steps_per_beat=content["steps_per_beat"],
        metre=tuple(content["metre"]),
        upbeat_steps=content["upbeat_steps"],
        length_steps=content["length_steps"],
        tempo_bpm=content["tempo_bpm"],
        title=content["title"],
        chords=tuple(Chord(*row) for row in content["chords"]),
        key=content["key"],
        metre_changes=tuple((step, tuple(metre)) for step, metre in content["metre_changes"]),
        timing=content.get("timing", "written"),
    )


def _notes(packed: str) -> PackedNotes:
    return PackedNotes(np.frombuffer(base64.b64decode(packed), dtype="<i4").reshape(4, -1).astype(np.int64))
