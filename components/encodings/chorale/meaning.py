"""The musical meaning of a chorale's tokens, for constraints (`components.encodings.meaning`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.encodings.chorale.signs import LOWEST, METRES, VOICES, Signs
from components.encodings.meaning import HOLD, NOTE, OTHER, REMEMBERED, REST, Choices, Moment, chord_at
from components.harmony import strong_steps
from components.score import Chord


class ChoraleMeaning:
    """Four voices in turn, the soprano first."""

    voices = VOICES

    def __init__(self, signs: Signs, chords: Sequence[Chord] = ()) -> None:
        self.signs, self.chords, size = signs, tuple(chords), len(signs)
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
