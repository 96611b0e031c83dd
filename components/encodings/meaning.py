"""What an encoding's tokens mean as music, so that rules can be about notes instead of ids.

An encoding gives `Choices`, what each token would do, and before each token a `Moment`, where the music stands. V is
the vocabulary's size. An encoding joins in with a method `meaning(chords) -> Meaning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from components.encodings.base import Encoding
from components.encodings.chorale import LOWEST, METRES, VOICES, Chorale
from components.errors import UserError
from components.harmony import strong_steps
from components.score import Chord

OTHER, NOTE, HOLD, REST, LENGTH = range(5)  # kinds of tokens; LENGTH: how long the note lasts whose pitch is chosen
REMEMBERED = 16  # notes in `Moment.history`


@dataclass(frozen=True)
class Choices:
    """What each token would do: int64 [V] each. `pitch` is a MIDI number, −1 where the token names none;
    `duration` counts steps, 0 where the token says nothing about it."""

    kind: np.ndarray
    pitch: np.ndarray
    duration: np.ndarray


@dataclass(frozen=True)
class Moment:
    """Where the music stands before the next token; lengths and places in grid steps."""

    step: int  # from the first step of the piece
    in_bar: int  # from the bar line
    bar_steps: int
    beat_steps: int
    strong: bool  # a strong beat begins here
    chord: Chord | None = None  # that holds here
    voice: int = 0  # that the token is for, 0 = the highest
    sounding: tuple[int | None, ...] = (None,)  # a pitch for each voice: those above as chosen, the others as before
    held: int = 0  # how long the voice's note has sounded
    history: tuple[int, ...] = ()  # pitches of the voice's last notes, the latest last
    pending: int | None = None  # the pitch that a LENGTH is for; None: a rest's
    before: tuple[int | None, ...] = ()  # a pitch for each voice, one step ago
    left: int | None = None  # steps until the piece ends, where that is known
    home: int | None = None  # pitch class that its lowest voice is to end on, where that is known


class Meaning(Protocol):
    """The musical side of an encoding."""

    choices: Choices
    voices: tuple[str, ...]  # names, the highest first

    def moment(self, ids: np.ndarray) -> Moment | None:
        """Where the music stands after the ids [T] (BOS first); None where the next token isn't music."""
        ...


def chord_at(chords: Sequence[Chord], step: int) -> Chord | None:
    """The chord that holds at a step."""
    return next((chord for chord in chords if chord.start <= step < chord.start + chord.duration), None)


class ChoraleMeaning:
    """Four voices in turn, the soprano first."""

    voices = VOICES

    def __init__(self, encoding: Chorale, chords: Sequence[Chord] = ()) -> None:
        self.signs, self.chords = encoding.signs, tuple(chords)
        signs, size = encoding.signs, len(encoding.signs)
        kind, pitch = np.full(size, OTHER), np.full(size, -1)
        kind[signs.hold], kind[signs.rest], kind[signs.pitch0 :] = HOLD, REST, NOTE
        pitch[signs.pitch0 :] = np.arange(size - signs.pitch0) + LOWEST
        self.choices = Choices(kind, pitch, np.zeros(size, dtype=np.int64))

    def moment(self, ids: np.ndarray) -> Moment | None:
        signs = self.signs
        place = len(ids) - 1 - signs.prefix
        metre, upbeat = (int(ids[1]) - signs.metre0, int(ids[2]) - signs.upbeat0) if place >= 0 else (-1, 0)
        if not 0 <= metre < len(METRES):
            return None
        step, voice = divmod(place, len(VOICES))
        bar = signs.bars[metre]
        in_bar = (step - upbeat) % bar
        frames = np.asarray(ids[1 + signs.prefix :], dtype=np.int64)
        before = [
            self._pitch_at_end(frames[: step * len(VOICES)][other :: len(VOICES)]) for other in range(len(VOICES))
        ]
        chosen = [self._pitch_at_end(frames[other :: len(VOICES)]) for other in range(voice)]
        sounding = [*chosen, *before[voice:]]
        column = frames[voice :: len(VOICES)]
        begins = np.flatnonzero(column != signs.hold)
        planned = signs.planned_steps(ids)
        notes = column[column >= signs.pitch0][-REMEMBERED:] - signs.pitch0 + LOWEST
        return Moment(
            step=step,
            in_bar=in_bar,
            bar_steps=bar,
            beat_steps=bar // METRES[metre][0],
            strong=in_bar in strong_steps(METRES[metre], bar),
            chord=chord_at(self.chords, step),
            voice=voice,
            sounding=tuple(sounding),
            before=tuple(before),
            held=len(column) - int(begins[-1]) if sounding[voice] is not None else 0,
            history=tuple(notes.tolist()),
            left=planned - step if planned else None,
            home=signs.planned_home(ids),
        )

    def _pitch_at_end(self, column: np.ndarray) -> int | None:
        """What sounds after a voice's tokens."""
        signs = self.signs
        begins = np.flatnonzero(column != signs.hold)
        last = int(column[begins[-1]]) if len(begins) else signs.rest
        return last - signs.pitch0 + LOWEST if last >= signs.pitch0 else None


def meaning_of(encoding: Encoding, chords: Sequence[Chord] = ()) -> Meaning:
    """The musical side of an encoding. `chords` hold while the piece is written, in the encoding's own steps.

    Raises:
        UserError: the encoding isn't one of music.
    """
    if isinstance(encoding, Chorale):
        return ChoraleMeaning(encoding, chords)
    make = getattr(encoding, "meaning", None)
    if make is None:
        raise UserError(
            f"the encoding {encoding.kind!r} has no notes that a constraint could be about",
            where="generation.constraints",
            hint="leave constraints empty for models of text",
        )
    return make(chords)
