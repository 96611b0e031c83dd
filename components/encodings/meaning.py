"""The musical meaning of an encoding's tokens, so that constraints can refer to notes instead of ids.

An encoding gives `Choices`, the effect of each token, and before each token a `Moment`, the musical state. V is the
vocabulary's size. To support this, an encoding implements `meaning(chords) -> Meaning`.
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

OTHER, NOTE, HOLD, REST, LENGTH = range(5)  # kinds of tokens; LENGTH: the duration of the note before it
REMEMBERED = 16  # notes in `Moment.history`


@dataclass(frozen=True)
class Choices:
    """The effect of each token: int64 [V] each. `pitch` is a MIDI number, −1 if the token has none; `duration` is in
    steps, 0 if the token has none."""

    kind: np.ndarray
    pitch: np.ndarray
    duration: np.ndarray


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
        """The pitch that sounds after a voice's tokens."""
        signs = self.signs
        begins = np.flatnonzero(column != signs.hold)
        last = int(column[begins[-1]]) if len(begins) else signs.rest
        return last - signs.pitch0 + LOWEST if last >= signs.pitch0 else None


def meaning_of(encoding: Encoding, chords: Sequence[Chord] = ()) -> Meaning:
    """The musical side of an encoding. `chords`: the chords of the piece to generate, in steps of the encoding.

    Raises:
        UserError: the encoding has no musical meaning.
    """
    if isinstance(encoding, Chorale):
        return ChoraleMeaning(encoding, chords)
    make = getattr(encoding, "meaning", None)
    if make is None:
        raise UserError(
            f"constraints need an encoding of notes, not {encoding.kind!r}",
            where="generation.constraints",
            hint="leave constraints empty for models of text",
        )
    return make(chords)
