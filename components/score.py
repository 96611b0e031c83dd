"""A score as plain data: what readers produce, encodings turn into tokens, and renderers draw and play."""

from __future__ import annotations

from dataclasses import dataclass

_NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


def pitch_name(pitch: int) -> str:
    """C4 for 60."""
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"


@dataclass(frozen=True, slots=True, order=True)
class Note:
    """One sounding note. `start` and `duration` count grid steps from the score's first step."""

    start: int
    duration: int
    pitch: int  # MIDI number, 60 = middle C
    velocity: int = 80


@dataclass(frozen=True, slots=True)
class Part:
    """One voice or instrument: its notes in order of start."""

    name: str
    notes: tuple[Note, ...]
    program: int = 0  # General MIDI program, 0 = piano
    role: str = ""  # melody, chords, bass, drums; "" = not told apart


@dataclass(frozen=True, slots=True, order=True)
class Chord:
    """A chord symbol that holds from `start` for `duration` grid steps. `kind`: a name of components.harmony."""

    start: int
    duration: int
    root: int  # pitch class, 0 = C
    kind: str
    bass: int | None = None  # pitch class where it isn't the root


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

    @property
    def bar_steps(self) -> int:
        """Steps in a full bar."""
        beats, unit = self.metre
        return beats * 4 * self.steps_per_beat // unit

    @property
    def length_seconds(self) -> float:
        """Playing time."""
        return self.length_steps / self.steps_per_beat * 60.0 / self.tempo_bpm
