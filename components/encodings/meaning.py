"""The musical meaning of an encoding's tokens, so that constraints can refer to notes instead of ids.

An encoding gives `Choices`, the effect of each token, and before each token a `Moment`, the musical state. V is the
vocabulary's size. To support this, an encoding implements `meaning(chords) -> Meaning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from components.encodings.base import Encoding
from components.errors import UserError
from components.score import Chord

OTHER, NOTE, HOLD, REST, LENGTH = range(5)  # kinds of tokens; LENGTH: the duration of the note before it
REMEMBERED = 16  # notes in `Moment.history`


@dataclass(frozen=True)
class Choices:
    """The effect of each token: int64 [V] each. `pitch` is a MIDI number, −1 if the token has none; `duration` is in
    steps, 0 if the token has none."""

    kind: np.ndarray
    pitch: np.ndarray
    duration: np.ndarray

    def shifted(self, semitones: int) -> Choices:
        """The effects in a piece that is written so many semitones lower than it sounds."""
        return replace(self, pitch=self.pitch + semitones * (self.pitch >= 0)) if semitones else self


@dataclass(frozen=True)
class Moment:
    """The musical state before the next token; lengths and places in grid steps."""

    step: int  # from the first step of the piece
    in_bar: int  # from the bar line
    bar_steps: int
    beat_steps: int
    strong: bool  # a strong beat begins here
    chord: Chord | None = None  # the current chord
    voice: int = 0  # voice of the token, 0 = the highest
    sounding: tuple[int | None, ...] = (None,)  # pitch of each voice: for those above the new one, else one step ago
    held: int = 0  # how long the voice's note has sounded
    history: tuple[int, ...] = ()  # pitches of the voice's last notes, the latest last
    pending: int | None = None  # pitch of the note whose LENGTH is next; None: a rest
    before: tuple[int | None, ...] = ()  # pitch of each voice one step ago
    left: int | None = None  # steps until the end of the piece, if known
    home: int | None = None  # pitch class for the last note of the lowest voice, if known
    shift: int = 0  # semitones from the pitches of `Choices` to those that sound


class Meaning(Protocol):
    """The musical side of an encoding."""

    choices: Choices
    voices: tuple[str, ...]  # names, the highest first

    def moment(self, ids: np.ndarray) -> Moment | None:
        """The musical state after the ids [T] (BOS first); None if the next token isn't music."""
        ...


def chord_at(chords: Sequence[Chord], step: int) -> Chord | None:
    """The chord at a step."""
    return next((chord for chord in chords if chord.start <= step < chord.start + chord.duration), None)


def meaning_of(encoding: Encoding, chords: Sequence[Chord] = ()) -> Meaning:
    """The musical side of an encoding. `chords`: the chords of the piece to generate, in steps of the encoding.

    Raises:
        UserError: the encoding has no musical meaning.
    """
    make = getattr(encoding, "meaning", None)
    if make is None:
        raise UserError(
            f"constraints need an encoding of notes, not {encoding.kind!r}",
            where="generation.constraints",
            hint="leave constraints empty for models of text",
        )
    return make(chords)
