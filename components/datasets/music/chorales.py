"""Scores read through music21, in the only reader that uses it."""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from components.datasets.base import Reader
from components.datasets.families import in_any_key
from components.score import Note, Part, Score

if TYPE_CHECKING:
    from music21.stream import Part as StreamPart
    from music21.stream import Score as StreamScore

STEPS_PER_BEAT = 4  # sixteenths
VOICES = 4
# Up to this share, notes off the grid are ornaments; with more of them the rhythm is different.
MOST_OFF_GRID = 0.05
OFF_GRID = "note moved to the grid of sixteenths"
WORKERS = 2
FEW = 24  # with fewer scores, starting two workers takes longer than reading


@dataclass
class Reading:
    """The result for one file: a score, or the reason why there is none; and what was left out."""

    score: Score | None = None
    reason: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    irregular: bool = False  # has bar lines that don't match the metre


@dataclass(kw_only=True, eq=False)
class CorpusChoralesReader(Reader):
    """Bach's chorales in the order of Riemenschneider's numbers, from music21's corpus, as scores on sixteenths.

    Used are those in exactly four parts and one metre; numbers that name the same file count once. `limit`: read only
    this many numbers.
    """

    framing, in_package, files_by = "sequences", True, "music"
    _scores = None  # read once

    limit: Annotated[int, Field(gt=0)] | None = None
    families: bool = False

    def items(self) -> Iterator[Score]:
        """The scores; read once (about 0.1 s each), then cached."""
        if self._scores is None:
            self._scores = self._read()
        return iter(self._scores)

    def group(self, item: Score) -> str:
        return in_any_key(item)

    def family_title(self, item: Score) -> str:
        """The hymn's, without its number."""
        return item.title.partition(" (BWV")[0].casefold()

    def digest(self) -> str:
        """Digest of music21's version (its parser affects the scores) and the bytes of the scores."""
        digest = hashlib.sha256(version("music21").encode())
        for name, _ in self._names():
            digest.update(name.encode() + _path(name).read_bytes())
        return digest.hexdigest()

    def _names(self) -> list[tuple[str, str]]:
        """(name in the corpus, title) of each number, in order."""
        from music21.corpus import chorales

        by_number = chorales.ChoraleListRKBWV().byRiemenschneider
        names = chorales.Iterator(returnType="filename")
        pairs = zip(names, sorted(by_number), strict=True)
        return [(name, f"{by_number[n]['title']} (BWV {by_number[n]['bwv']})") for name, n in islice(pairs, self.limit)]

    def _read(self) -> list[Score]:
        self.dropped.clear()
        self.notes.clear()
        pairs = self._names()
        titles = dict(reversed(pairs))
        names = list(dict.fromkeys(name for name, _ in pairs))
        if len(pairs) > len(names):
            self.dropped["number of a score that another number names"] += len(pairs) - len(names)
        scores: list[Score] = []
        left_out: Counter[str] = Counter()
        irregular: list[str] = []
        for index, (name, reading) in enumerate(zip(names, _readings(names), strict=True), start=1):
            if reading.score is None:
                self.dropped[reading.reason] += 1
            else:
                scores.append(replace(reading.score, title=titles[name]))
                left_out += reading.left_out
                irregular += [name.rpartition("/")[2]] * reading.irregular
            if index % 20 == 0:
                self.progress(f"read {index} of {len(names)} chorales")
        self.notes += [f"{count} × {what} in the scores kept" for what, count in left_out.items()]
        if irregular:
            listed = ", ".join(irregular)
            self.notes.append(f"bars of another length than the metre's shift the bar lines that follow: {listed}")
        return scores


def read_stream(stream: StreamScore) -> Reading:
    """A music21 score as a `Score` of four voices on the grid, or the reason why it can't be."""
    from music21.meter import TimeSignature
    from music21.stream import Measure

    parts = list(stream.parts)
    if len(parts) != VOICES:
        return Reading(reason=f"{len(parts)} parts")
    signatures = [part.recurse().getElementsByClass(TimeSignature) for part in parts]
    metres = {(signature.numerator, signature.denominator) for found in signatures for signature in found}
    if len(metres) != 1:
        return Reading(reason="metre changes" if metres else "no metre")
    left_out: Counter[str] = Counter()
    voices = [_notes(part, left_out) for part in parts]
    total = sum(map(len, voices))
    if not total:
        return Reading(reason="no notes")
    if left_out[OFF_GRID] > MOST_OFF_GRID * total:
        return Reading(reason="off the grid of sixteenths")
    metre = metres.pop()
    bar = Score((), STEPS_PER_BEAT, metre).bar_steps
    measures = list(parts[0].getElementsByClass(Measure))
    padding = Fraction(measures[0].paddingLeft) if measures else Fraction(0)
    upbeat = (bar - math.ceil(padding * STEPS_PER_BEAT)) % bar
    score = Score(
        tuple(Part(part.partName or "", tuple(notes)) for part, notes in zip(parts, voices, strict=True)),
        steps_per_beat=STEPS_PER_BEAT,
        metre=metre,
        upbeat_steps=upbeat,
        length_steps=math.ceil(max(Fraction(part.highestTime) for part in parts) * STEPS_PER_BEAT),
    )
    # A short bar before a repeat and the upbeat after it add up to one: only a full bar that begins elsewhere counts.
    irregular = any(
        measure.duration.quarterLength * STEPS_PER_BEAT == bar
        and (Fraction(measure.offset) * STEPS_PER_BEAT - upbeat) % bar
        for measure in measures
    )
    return Reading(score, left_out=left_out, irregular=irregular)


def _notes(part: StreamPart, left_out: Counter[str]) -> list[Note]:
    """One voice: ties merged, the top note of a chord, grace notes left out, each note from grid step to grid step."""
    spans: list[tuple[Fraction, Fraction, int]] = []  # start, end in steps, pitch
    for element in part.flatten().notes:
        if element.duration.isGrace:
            left_out["grace note left out"] += 1
            continue
        if not element.pitches:
            left_out["unpitched note left out"] += 1
            continue
        if len(element.pitches) > 1:
            left_out["chord in one voice, its top note kept"] += 1
        pitch = max(int(pitch.midi) for pitch in element.pitches)
        start = Fraction(element.offset) * STEPS_PER_BEAT
        end = start + Fraction(element.quarterLength) * STEPS_PER_BEAT
        tied = element.tie is not None and element.tie.type in ("stop", "continue")
        if tied and spans and spans[-1][1] == start and spans[-1][2] == pitch:
            spans[-1] = (spans[-1][0], end, pitch)
        else:
            spans.append((start, end, pitch))
    notes: list[Note] = []
    for start, end, pitch in spans:
        if start.denominator != 1 or end.denominator != 1:
            left_out[OFF_GRID] += 1
        # Only notes that sound at a grid step are kept; a note between two steps is lost.
        first, last = math.ceil(start), math.ceil(end)
        if notes and notes[-1].start + notes[-1].duration > first:
            left_out["overlap in one voice, the later note kept"] += 1
            before = notes.pop()
            if before.start < first:
                notes.append(replace(before, duration=first - before.start))
        if last > first:
            notes.append(Note(first, last - first, pitch))
    return notes


def _readings(names: Sequence[str]) -> Iterator[Reading]:
    """One reading per name, in order; in parallel if that is faster."""
    workers = min(WORKERS, os.cpu_count() or 1)
    done = 0
    # A daemonic process (a worker of a pool) may not start processes.
    if workers > 1 and len(names) > FEW and not multiprocessing.current_process().daemon:
        try:
            # "spawn": forking a process with threads (torch, Prefect) can deadlock
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
                for reading in pool.map(_reading, names, chunksize=4):
                    yield reading
                    done += 1
        except BrokenProcessPool:  # killed, or a script without a __main__ guard: the rest is read here
            pass
    yield from map(_reading, names[done:])


def end_with_parent() -> None:
    """End this process when its parent has ended, even if that was killed."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _reading(name: str) -> Reading:
    from music21 import converter

    # forceSource: otherwise music21 keeps pickles of what it reads in the temporary folder, and trusts them.
    return read_stream(converter.parse(_path(name), forceSource=True))


def _path(name: str) -> Path:
    """The file of exactly this name: music21's look-up takes the first that begins with it."""
    from music21 import corpus

    found = corpus.getWork(name)
    paths = [Path(path) for path in (found if isinstance(found, list) else [found])]
    exact = [path for path in paths if path.stem == name.rpartition("/")[2]]
    return next((path for path in exact if path.suffix == ".mxl"), (exact or paths)[0])
