"""Piano rolls: the 88 keys that sound in each frame (Boulanger-Lewandowski et al. 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field as Bounds

from components.encodings.base import Encoding, Field
from components.encodings.notes import Shift, interval
from components.harmony import chord_tones
from components.score import Note, Part, Score

KEYS, LOWEST = 88, 21  # of a piano, from A0
CHORDS_FROM = 48  # C3


@dataclass(kw_only=True, eq=False)
class PianoRoll(Encoding):
    """Scores ↔ frames of 0 and 1, float32 [T, 88]: `steps_per_beat` frames in a quarter note, each with the keys that
    sound when it begins. Repeated notes are merged: a roll can't distinguish them from held ones.

    `chords`: chord symbols are included as held chords between C3 and B3. `transpose`: in training each piece is
    transposed by a random number of semitones in this range, drawn anew in every epoch, within the keyboard.
    """

    kind = "pianoroll"
    form = "frames"
    unit = "frame"

    steps_per_beat: Annotated[int, Bounds(ge=1, le=48)] = 4
    chords: bool = False
    transpose: tuple[Shift, Shift] = (0, 0)

    @property
    def fields(self) -> dict[str, Field]:
        return {"frames": Field(width=KEYS)}

    def encode(self, item: Score) -> np.ndarray:
        frames = -(-item.length_steps * self.steps_per_beat // item.steps_per_beat)
        roll = np.zeros((frames, KEYS), dtype=np.float32)
        notes = [note for part in item.parts if part.role != "drums" for note in part.notes]
        if self.chords:
            notes += [
                Note(chord.start, chord.duration, CHORDS_FROM + pitch_class)
                for chord in item.chords
                for pitch_class in chord_tones(chord)
            ]
        for note in notes:
            # a frame represents the moment of its beginning: ⌈start⌉ to ⌈end⌉, at least one frame
            first = -(-note.start * self.steps_per_beat // item.steps_per_beat)
            last = -(-(note.start + note.duration) * self.steps_per_beat // item.steps_per_beat)
            if 0 <= note.pitch - LOWEST < KEYS:
                roll[min(first, frames - 1) : max(last, first + 1), note.pitch - LOWEST] = 1.0
        return roll

    def decode(self, ids: Sequence[Any] | np.ndarray) -> Score:
        roll = np.asarray(ids).reshape(-1, KEYS) > 0.5
        edges = np.diff(np.pad(roll.astype(np.int8), ((1, 1), (0, 0))), axis=0)
        notes = []
        for key in np.flatnonzero(roll.any(axis=0)):
            starts, ends = np.flatnonzero(edges[:, key] == 1), np.flatnonzero(edges[:, key] == -1)
            notes += [Note(int(a), int(b - a), int(key) + LOWEST) for a, b in zip(starts, ends, strict=True)]
        part = Part("Piano", tuple(sorted(notes)))
        return Score((part,), steps_per_beat=self.steps_per_beat, length_steps=len(roll))

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.roll(ids, interval(self.transpose, np.flatnonzero(ids.any(axis=0)), KEYS, rng), axis=1)
