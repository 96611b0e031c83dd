"""Scores as notes, one per step: pitch, duration, gap to the next note, velocity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from pydantic import Field as Bounds

from components.encodings.base import Encoding, Field
from components.encodings.copying import MATCHES
from components.encodings.form import METRES, TEMPI, bar_and_beat, nearest_metre, tempo_class
from components.encodings.note_copies import LAGS, note_copies, pattern_steps
from components.encodings.sections import Sections
from components.encodings.vocabulary import BOS, EOS, PAD, SPECIALS
from components.errors import UserError
from components.score import Note, PackedNotes, Part, Score, note_columns

STREAMS = ("pitch", "duration", "gap", "velocity")
PITCH, DURATION, GAP, VELOCITY = range(len(STREAMS))
FIRST = len(SPECIALS)  # the id of value 0 in every stream
REST = FIRST + len(METRES)  # in the pitch stream: metres, rest, pitches
PITCH0 = REST + 1
PITCHES = 128
LONGEST_STEPS = 1_000_000
Shift = Annotated[int, Bounds(ge=-24, le=24)]


@dataclass(kw_only=True, eq=False)
class Notes(Encoding):
    """Scores ↔ ids [T, 4] of the streams pitch, duration, gap and velocity, `steps_per_beat` steps in a quarter note.

    The gap is the time to the next note, 0 within a chord, so a note's place is known before its pitch. A piece is BOS,
    its form, its notes by start and pitch, EOS. The form's pitch is the metre, its duration the upbeat, its velocity
    the tempo (one of five), its gap the silence before the first note; a change of metre is another form. A gap of more
    than `longest_beats` is continued by a rest, which has neither duration nor velocity.

    `velocities`: number of velocity levels. In training pieces are transposed by a random number of semitones in the
    range `transpose`, and with `stretch` half of them get all lengths doubled or halved, if possible. `patterns`: a
    model that copies can also copy what followed the same intervals before, in any key.

    Lost: parts (drums are left out), simultaneous notes of the same pitch, durations over `longest_beats`, chord
    symbols; a rare metre becomes the one with the nearest bar.
    """

    kind = "notes"
    form = "streams"
    unit = "note"
    copy_lags = LAGS
    copy_classes = MATCHES

    steps_per_beat: Annotated[int, Bounds(ge=2, le=48)] = 12
    longest_beats: Annotated[int, Bounds(ge=1, le=64)] = 8
    velocities: Annotated[int, Bounds(ge=1, le=127)] = 8
    transpose: tuple[Shift, Shift] = (0, 0)
    stretch: bool = False
    patterns: bool = False

    def __post_init__(self) -> None:
        if self.steps_per_beat % 2:
            hint = "choose an even number from 2 to 48, e.g. 12, which allows triplets and sixteenth notes"
            raise UserError(f"must be even, not {self.steps_per_beat}", where="encoding.steps_per_beat", hint=hint)
        self.copy_places = len(LAGS) + self.patterns
        self.longest = self.longest_beats * self.steps_per_beat
        # steps [metres, (bar, beat)]
        self._bars = np.array([bar_and_beat(metre, self.steps_per_beat) for metre in METRES])
        bar, beat = (int(most) for most in self._bars.max(axis=0))
        # place of the next note in the bar and in the beat, from 1
        self.context_sizes = (1 + bar, 1 + beat)
        self._upbeats = bar

    @property
    def fields(self) -> dict[str, Field]:
        sizes = (
            PITCH0 + PITCHES,
            FIRST + max(self.longest + 1, self._upbeats),
            FIRST + self.longest + 1,
            FIRST + max(self.velocities, len(TEMPI)),
        )
        return {name: Field(size=size) for name, size in zip(STREAMS, sizes, strict=True)}

    def encode(self, item: Score) -> dict[str, np.ndarray]:
        """The ids [T] of each stream by name, from BOS to EOS.

        Raises:
            UserError: the score has only drums.
        """
        if item.only_drums:
            what, hint = "has only drums, which the encoding notes leaves out", "use the encoding events or drums"
            raise UserError(what, where=item.title or "score", hint=hint)
        scale = Fraction(self.steps_per_beat, item.steps_per_beat)
        metre = METRES.index(nearest_metre(item.metre))
        tempo = tempo_class(item.tempo_bpm)
        upbeat = round(item.upbeat_steps * scale) % int(self._bars[metre, 0])
        forms = [(0, upbeat, FIRST + metre, tempo)]
        for step, changed in item.metre_changes:
            if 0 < step < item.length_steps:
                forms.append((round(step * scale), 0, FIRST + METRES.index(nearest_metre(changed)), tempo))
        columns = [note_columns(part.notes) for part in item.parts if part.role != "drums"]
        notes = np.concatenate([np.zeros((4, 0), dtype=np.int64), *columns], axis=1)
        start, duration, pitch, velocity = _settled(_scaled(notes, scale))
        end = max(round(item.length_steps * scale), int((start + duration).max(initial=0)))
        loud = np.minimum(velocity * self.velocities // 128, self.velocities - 1)
        sounding = [start, np.minimum(duration, self.longest), PITCH0 + pitch, loud]
        rows = np.concatenate([np.array(forms).T, sounding], axis=1)
        # sorted by start; a metre comes before a note, as its pitch is lower
        rows = rows[:, np.lexsort((rows[2], rows[0]))]
        return dict(zip(STREAMS, self._steps(rows, end), strict=True))

    def _steps(self, rows: np.ndarray, end: int) -> np.ndarray:
        """The ids [4, T] of rows (start, duration, pitch, loudness) [4, N] in order; long gaps get rests."""
        waits = np.diff(rows[0], append=end)
        rests = np.maximum(-(-waits // self.longest) - 1, 0)
        row = np.repeat(np.arange(len(waits)), 1 + rests)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(1 + rests) - 1 - rests, 1 + rests)
        gap = np.minimum(waits[row] - nth * self.longest, self.longest)
        streams = np.stack([rows[2, row], FIRST + rows[1, row], FIRST + gap, FIRST + rows[3, row]])
        streams[:, nth > 0] = np.stack([np.full_like(gap, REST), gap * 0, FIRST + gap, gap * 0])[:, nth > 0]
        before, after = np.full((4, 1), BOS), np.array([[EOS], [PAD], [PAD], [PAD]])
        return np.concatenate([before, streams, after], axis=1)

    def decode(self, ids: Sequence[Any] | np.ndarray) -> Score:
        """The score of ids [T, 4]. In steps that break the grammar, the pitch stream says if it is a metre, rest or
        note."""
        metres: list[tuple[int, int]] = []
        notes: list[Note] = []
        at = upbeat = 0
        tempo = 2
        for pitch, duration, gap, velocity in np.asarray(ids, dtype=np.int64).reshape(-1, len(STREAMS)).tolist():
            if pitch == EOS or at > LONGEST_STEPS:
                break
            if pitch >= PITCH0:
                loud = (max(velocity - FIRST, 0) * 2 + 1) * 64 // self.velocities
                notes.append(Note(at, max(duration - FIRST, 1), pitch - PITCH0, min(max(loud, 1), 127)))
            elif FIRST <= pitch < REST:
                if not metres:
                    upbeat = max(duration - FIRST, 0) % int(self._bars[pitch - FIRST, 0])
                    tempo = min(max(velocity - FIRST, 0), len(TEMPI) - 1)
                metres.append((at if metres else 0, pitch - FIRST))
            at += max(gap - FIRST, 0)
        kept = settled(notes)
        return Score(
            (Part("Piano", kept),),
            steps_per_beat=self.steps_per_beat,
            metre=METRES[metres[0][1]] if metres else (4, 4),
            upbeat_steps=upbeat,
            length_steps=max([at, *(note.start + note.duration for note in kept)]) if kept else 0,
            tempo_bpm=float(TEMPI[tempo][1]),
            metre_changes=tuple((step, METRES[metre]) for step, metre in metres[1:]),
        )

    def context(self, ids: np.ndarray) -> np.ndarray:
        """int64 [T, 2] for ids [T, 4]: start of the next step in the bar and in the beat, from 1; 0 before the form."""
        ends, begun, bar, beat = self._metred(np.asarray(ids, dtype=np.int64))
        known, in_bar = bar > 0, (ends - begun) % np.maximum(bar, 1)
        return np.stack([in_bar + 1, in_bar % np.maximum(beat, 1) + 1], axis=-1) * known[:, None]

    def _metred(self, ids: np.ndarray) -> tuple[np.ndarray, ...]:
        """After each of the ids [T, 4]: the time, when the metre's first whole bar began, and the steps of a bar and a
        beat (0 before the form), int64 [T] each."""
        ends = np.cumsum(np.maximum(ids[:, GAP] - FIRST, 0))
        is_form = (ids[:, PITCH] >= FIRST) & (ids[:, PITCH] < REST)
        latest = np.maximum.accumulate(np.where(is_form, np.arange(len(ids)), -1))
        known, latest = latest >= 0, np.maximum(latest, 0)
        form = ids[latest]
        begun = np.where(latest > 0, ends[np.maximum(latest - 1, 0)], 0) + np.maximum(form[:, DURATION] - FIRST, 0)
        bar, beat = self._bars[np.clip(form[:, PITCH] - FIRST, 0, len(METRES) - 1)].T
        return ends, begun, bar * known, beat * known

    def copies(self, ids: np.ndarray, sections: Sections | None = None) -> tuple[np.ndarray, ...]:
        """Steps that began one lag ago, in bars as long as here (`components.encodings.note_copies`); with
        `patterns` also the note that followed the latest intervals before. No form can be asked for: no `sections`."""
        ids = np.asarray(ids, dtype=np.int64)
        time_T, _, bar_T, _ = self._metred(ids)
        size = PITCH0 + PITCHES
        found = [note_copies(ids, time_T, bar_T, rest=REST, size=size)]
        if self.patterns:
            found.append(pattern_steps(ids, lowest=PITCH0, size=size))
        steps, classes = (np.concatenate(columns, axis=-1) for columns in zip(*found, strict=True))
        return steps.reshape(len(ids), -1), classes

    def allowed_in(self, ids: np.ndarray, drawn: Sequence[int]) -> np.ndarray:
        """Which ids are allowed in stream `len(drawn)`, bool: after the steps [T, 4] (BOS first), given the ids `drawn`
        for the streams before it in this step. Never all False."""
        ids = np.asarray(ids, dtype=np.int64)
        stream = len(drawn)
        mask = np.zeros(self.fields[STREAMS[stream]].size, dtype=bool)
        if stream == PITCH:
            self._allow_pitch(mask, ids)
        elif drawn[PITCH] == EOS or (drawn[PITCH] == REST and stream != GAP):
            mask[PAD] = True
        elif drawn[PITCH] >= REST:
            most = (0, self.longest + 1, self.longest + 1, self.velocities)[stream]
            lowest = stream == DURATION or drawn[PITCH] == REST  # notes and rests have a length of at least 1
            mask[FIRST + lowest : FIRST + most] = True
        else:
            upbeats = int(self._bars[drawn[PITCH] - FIRST, 0]) if len(ids) == 1 else 1
            most = (0, upbeats, self.longest + 1, len(TEMPI))[stream]
            mask[FIRST : FIRST + most] = True
        return mask

    def _allow_pitch(self, mask: np.ndarray, ids: np.ndarray) -> None:
        last, gap = int(ids[-1, PITCH]), int(ids[-1, GAP]) - FIRST
        if last == EOS:
            mask[EOS] = True
        elif len(ids) == 1:
            mask[FIRST:REST] = True
        elif gap <= 0 and PITCH0 <= last < PITCH0 + PITCHES - 1:
            mask[last + 1 :] = True  # pitches of a chord ascend
        else:
            mask[PITCH0:] = True
            mask[REST] = gap == self.longest
            mask[EOS] = gap > 0 and bool((ids[:, PITCH] >= PITCH0).any())
            mask[FIRST:REST] = gap > 0 and self.context(ids)[-1, 0] == 1  # metres change at bar lines only

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The piece transposed by one random interval, with `stretch` also stretched; int64 [T, 4]."""
        ids = np.array(ids, dtype=np.int64)
        notes = ids[:, PITCH] >= PITCH0
        ids[notes, PITCH] += interval(self.transpose, ids[notes, PITCH] - PITCH0, PITCHES, rng)
        if self.stretch and rng.random() < 0.5:
            lengths = np.maximum(ids[:, (DURATION, GAP)] - FIRST, 0)
            ids[:, (DURATION, GAP)] += self._stretched(ids, lengths, rng) - lengths
        return ids

    def _stretched(self, ids: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The lengths doubled or halved; unchanged if neither can be encoded."""
        form = int(np.argmax((ids[:, PITCH] >= FIRST) & (ids[:, PITCH] < REST)))
        bar = int(self._bars[min(max(int(ids[form, PITCH]) - FIRST, 0), len(METRES) - 1), 0])
        choices = []
        if lengths.max() * 2 <= self.longest and lengths[form, 0] * 2 < bar:
            choices.append(lengths * 2)
        if not (lengths % 2).any() and not (ids[:, PITCH] == REST).any():
            choices.append(lengths // 2)
        return choices[int(rng.integers(len(choices)))] if choices else lengths


def interval(within: tuple[int, int], pitches: np.ndarray, count: int, rng: np.random.Generator) -> int:
    """A random number of semitones in a range, with which the pitches [N] stay from 0 to `count` - 1; 0 if there is
    none."""
    if within == (0, 0) or not len(pitches):
        return 0
    low, high = max(within[0], -int(pitches.min())), min(within[1], count - 1 - int(pitches.max()))
    return int(rng.integers(low, high + 1)) if low <= high else 0


def settled(notes: Iterable[Note]) -> tuple[Note, ...]:
    """The notes in order, without overlaps of one pitch: a repeated pitch ends the note before; of two that begin
    together the longer is kept."""
    return tuple(PackedNotes(_settled(note_columns(tuple(notes)))))


def _settled(columns: np.ndarray) -> np.ndarray:
    """`settled` for columns start, duration, pitch, velocity [4, N]."""
    start, duration, pitch, velocity = columns[:, np.lexsort((-columns[1], columns[0], columns[2]))]
    first = np.ones(len(start), dtype=bool)
    first[1:] = (start[1:] != start[:-1]) | (pitch[1:] != pitch[:-1])
    start, duration, pitch, velocity = (column[first] for column in (start, duration, pitch, velocity))
    again = pitch[1:] == pitch[:-1]
    duration[:-1][again] = np.minimum(duration[:-1], np.diff(start))[again]
    kept = np.stack([start, duration, pitch, velocity])
    return kept[:, np.lexsort((velocity, pitch, duration, start))]


def _scaled(columns: np.ndarray, scale: Fraction) -> np.ndarray:
    """The notes [4, N] on a grid with `scale` times as many steps, durations at least 1."""
    if scale == 1:
        return columns
    placed = np.rint(columns[:2] * scale.numerator / scale.denominator).astype(np.int64)
    return np.stack([placed[0], np.maximum(placed[1], 1), columns[2], columns[3]])
