"""Scores as plain data: produced by readers, tokenised by encodings, drawn and played by renderers."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import repeat
from typing import Literal, TypeVar, overload

import numpy as np

from components.drums import piece_name

_NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


def pitch_name(pitch: int) -> str:
    """The name of a pitch: C4 for 60."""
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"


@dataclass(frozen=True, slots=True, order=True)
class Note:
    """One sounding note. `start` and `duration` count grid steps from the score's first step."""

    start: int
    duration: int
    pitch: int  # MIDI number, 60 = middle C
    velocity: int = 80


class PackedNotes(Sequence[Note]):
    """Notes stored as columns, int64 [4, N], and made into `Note`s only when accessed, so that encodings can read a
    corpus without creating any. Equal to a tuple of the same notes."""

    __slots__ = ("_made", "columns")

    def __init__(self, columns: np.ndarray) -> None:
        self.columns = columns
        self._made: tuple[Note, ...] | None = None

    def __len__(self) -> int:
        return int(self.columns.shape[1])

    @overload
    def __getitem__(self, index: int) -> Note: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Note, ...]: ...
    def __getitem__(self, index: int | slice) -> Note | tuple[Note, ...]:
        return self._notes()[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedNotes):
            return np.array_equal(self.columns, other.columns)
        return self._notes() == other

    def __hash__(self) -> int:
        return hash(self._notes())

    def __repr__(self) -> str:
        return repr(self._notes())

    def _notes(self) -> tuple[Note, ...]:
        if self._made is None:
            made = tuple(map(object.__new__, repeat(Note, len(self))))
            # Note(…), a frozen dataclass, takes 1.5 µs; filling its slots by column 0.4 µs
            for slot, column in zip(_SLOTS, self.columns.tolist(), strict=True):
                deque(map(slot, made, column), maxlen=0)
            self._made = made
        return self._made


_SLOTS = [getattr(Note, field.name).__set__ for field in fields(Note)]


def note_columns(notes: Sequence[Note]) -> np.ndarray:
    """Start, duration, pitch and velocity of the notes, int64 [4, N]."""
    if isinstance(notes, PackedNotes):
        return notes.columns
    rows = [(note.start, note.duration, note.pitch, note.velocity) for note in notes]
    return np.array(rows, dtype=np.int64).reshape(-1, 4).T


@dataclass(frozen=True, slots=True)
class Part:
    """A voice or instrument with its notes in order of start."""

    name: str
    notes: Sequence[Note]
    program: int = 0  # General MIDI program, 0 = piano
    role: str = ""  # melody, chords, bass, drums (pitches are percussion keys); "" = unknown
    pedal: Sequence[tuple[int, int]] = ()  # (first, end) steps of each press of the sustain pedal, in order


@dataclass(frozen=True, slots=True, order=True)
class Chord:
    """A chord symbol that holds from `start` for `duration` grid steps. `kind`: a name of components.harmony."""

    start: int
    duration: int
    root: int  # pitch class, 0 = C
    kind: str
    bass: int | None = None  # pitch class, if it isn't the root


@dataclass(frozen=True, slots=True)
class Score:
    """Parts on a common grid of `steps_per_beat` steps in a quarter note.

    `upbeat_steps` is the length of an incomplete first bar (0 when the piece starts on a bar line);
    `metre_changes` are (step, metre) after the first metre.
    """

    parts: tuple[Part, ...]
    steps_per_beat: int = 4
    metre: tuple[int, int] = (4, 4)
    upbeat_steps: int = 0
    length_steps: int = 0
    tempo_bpm: float = 84.0  # quarter notes a minute
    title: str = ""
    chords: tuple[Chord, ...] = ()
    key: str = ""  # such as "F major"
    metre_changes: tuple[tuple[int, tuple[int, int]], ...] = ()
    # "played": performed times, on a grid too fine for notation; "seconds": the same without bars, each "bar" is a
    # second
    timing: Literal["written", "played", "seconds"] = "written"

    @property
    def only_drums(self) -> bool:
        """Whether all parts are drums, and there are any."""
        return bool(self.parts) and all(part.role == "drums" for part in self.parts)

    @property
    def bar_steps(self) -> int:
        """Steps in a full bar."""
        beats, unit = self.metre
        return beats * 4 * self.steps_per_beat // unit

    def until(self, step: int) -> Score:
        """The score up to `step`: notes and chords that begin before it, cut there."""
        return replace(
            self,
            parts=tuple(
                replace(
                    part,
                    notes=_until(part.notes, step),
                    pedal=tuple((down, min(up, step)) for down, up in part.pedal if down < step),
                )
                for part in self.parts
            ),
            chords=_until(self.chords, step),
            length_steps=min(self.length_steps, step),
            metre_changes=tuple(change for change in self.metre_changes if change[0] < step),
        )

    @property
    def length_seconds(self) -> float:
        """Playing time."""
        return self.length_steps / self.steps_per_beat * 60.0 / self.tempo_bpm


Event = TypeVar("Event", Note, Chord)


def _until(events: Sequence[Event], step: int) -> tuple[Event, ...]:
    return tuple(replace(e, duration=min(e.duration, step - e.start)) for e in events if e.start < step)


def spoken(score: Score) -> str:
    """A score as text: a line for each voice; for drums, the pieces hit."""
    return "\n".join(f"{part.name}: {' '.join(names(part))}" for part in score.parts)


def names(part: Part, most: int | None = None) -> list[str]:
    """The names of the part's first `most` notes: "C4", or "snare" for drums."""
    name = piece_name if part.role == "drums" else pitch_name
    return [name(note.pitch) for note in part.notes[:most]]


def sounding(part: Part) -> list[int]:
    """The sounding time of each note in steps: under the pedal, until it is lifted or the pitch is repeated."""
    if not part.pedal:
        return [note.duration for note in part.notes]
    downs = [down for down, _ in part.pedal]
    again: dict[int, int] = {}  # pitch → step where it begins again
    found = []
    for note in reversed(part.notes):
        end = note.start + note.duration
        index = bisect_right(downs, end) - 1
        if index >= 0:
            up = part.pedal[index][1]
            end = max(end, min(up, again.get(note.pitch, up)))
        again[note.pitch] = note.start
        found.append(end - note.start)
    return found[::-1]
