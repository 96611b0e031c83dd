"""Four-part chorales as tokens: one token per voice and sixteenth, soprano first.

A sequence is `metre, upbeat, S A T B, S A T B, …`. A token is a pitch where a note begins, `hold` while it continues,
or `rest` (the representation of DeepBach, Hadjeres et al. 2017, with the voices in turn instead of in parallel). With
a plan, the number of bars and the home follow the upbeat. The vocabulary is fixed, so pieces with notes that training
didn't have can be encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field

from components.encodings.base import Signed
from components.encodings.chorale.meaning import ChoraleMeaning
from components.encodings.chorale.plan import PLAN_SIZES, home_of, plan_columns
from components.encodings.chorale.signs import HIGHEST, LOWEST, METRES, PREFIX, VOICES, Signs
from components.encodings.chorale.timeline import ChoraleTimeline
from components.encodings.copying import MATCHES, match_classes
from components.encodings.sections import Sections
from components.encodings.vocabulary import EOS, PAD
from components.errors import UserError
from components.score import Chord, Note, Part, Score, pitch_name

# Comfortable ranges of a choir. For a piece outside of one, its own range is used.
RANGES = ((60, 81), (53, 74), (48, 69), (40, 64))
SHIFTS = range(-5, 7)  # semitones of a transposition: every key once
BARS = 32  # bar numbers in the context; later bars count as the last


class Chorale(Signed):
    """Scores of four parts ↔ ids, `steps_per_beat` frames of four tokens in a quarter note.

    `planned`: a piece begins with its number of bars (an upbeat and the shortened last bar count as one) and its home,
    the pitch class of the last bass note; context features give the time left and the pitches relative to home
    (`components.encodings.chorale.plan`). So pieces end at the planned time, on their home.
    """

    kind = "chorale"
    unit = "token"
    copy_lags = (16, 20, 24, 32)  # quarter notes: repeated lines of a hymn, in whole bars of 4/4
    copy_places = len(copy_lags)
    copy_classes = MATCHES

    def __init__(self, *, steps_per_beat: Annotated[int, Field(ge=1, le=48)] = 4, planned: bool = False) -> None:
        self.steps_per_beat, self.planned = steps_per_beat, planned
        self.signs = Signs(steps_per_beat, planned)
        self.prefix = self.signs.prefix
        pitches = HIGHEST - LOWEST + 1
        # place of the next token in the bar, number of the bar, and the pitch that each voice sounds (0: none)
        self.context_sizes = (self.signs.prefix + self.signs.longest * len(VOICES), BARS, *[1 + pitches] * len(VOICES))
        self.context_sizes += PLAN_SIZES if planned else ()

    def encode(self, item: Score) -> np.ndarray:
        """The score's ids, int64 [2 + 4·frames]; with a plan [4 + 4·frames].

        Raises:
            UserError: not four parts, an unknown metre, a note off the grid or out of range.
        """
        signs = self.signs
        where = item.title or "score"
        if len(item.parts) != len(VOICES):
            raise UserError(f"has {len(item.parts)} parts, but a chorale needs four", where=where)
        if tuple(item.metre) not in METRES:
            known = ", ".join(f"{beats}/{unit}" for beats, unit in METRES)
            what = f"the metre {item.metre[0]}/{item.metre[1]} isn't supported; chorales can have {known}"
            raise UserError(what, where=where)
        metre = METRES.index(tuple(item.metre))
        scale = Fraction(self.steps_per_beat, item.steps_per_beat)
        upbeat = self._step(item.upbeat_steps, scale, where)
        if not 0 <= upbeat < signs.bars[metre]:
            raise UserError(
                f"an upbeat of {upbeat} steps doesn't fit in a bar of {signs.bars[metre]} steps", where=where
            )
        frames = np.full((self._step(item.length_steps, scale, where), len(VOICES)), signs.rest, dtype=np.int64)
        for voice, part in enumerate(item.parts):
            for note in part.notes:
                if not LOWEST <= note.pitch <= HIGHEST:
                    raise UserError(f"the pitch {note.pitch} is outside {LOWEST} to {HIGHEST}", where=where)
                start, end = self._step(note.start, scale, where), self._step(note.start + note.duration, scale, where)
                frames[start:end, voice] = signs.hold
                frames[start : start + 1, voice] = signs.pitch0 + note.pitch - LOWEST
        prefix = [signs.metre0 + metre, signs.upbeat0 + upbeat]
        if self.planned:
            prefix += [signs.bars_id(len(frames), signs.bars[metre]), signs.home0 + home_of(item)]
        return np.concatenate([prefix, frames.ravel()])

    def decode(self, ids: Sequence[int] | np.ndarray) -> Score:
        """The score for the ids.

        Ids that break the grammar are accepted: specials and misplaced prefix tokens are skipped, a missing metre is
        4/4, `hold` without a note is silence, an incomplete last frame is dropped.
        """
        ids, signs = np.asarray(ids, dtype=np.int64), self.signs
        metre = next((int(id) - signs.metre0 for id in ids if signs.metre0 <= id < signs.upbeat0), 0)
        upbeat = next((int(id) - signs.upbeat0 for id in ids if signs.upbeat0 <= id < signs.bars0), 0)
        tokens = ids[signs.is_frame(ids)]
        length = len(tokens) // len(VOICES)
        frames = tokens[: length * len(VOICES)].reshape(length, len(VOICES))
        parts = []
        for name, voice in zip(VOICES, frames.T, strict=True):
            ends = np.append(np.flatnonzero(voice != signs.hold), length)
            notes = [
                Note(int(start), int(end - start), int(voice[start]) - signs.pitch0 + LOWEST)
                for start, end in pairwise(ends)
                if voice[start] >= signs.pitch0
            ]
            parts.append(Part(name, tuple(notes)))
        return Score(
            tuple(parts),
            steps_per_beat=self.steps_per_beat,
            metre=METRES[metre],
            upbeat_steps=upbeat if upbeat < signs.bars[metre] else 0,
            length_steps=length,
        )

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """A metre, "3/4", optionally with an upbeat in steps, "3/4 upbeat 4". If empty, the model chooses both.

        Raises:
            UserError: any other text.
        """
        signs = self.signs
        tokens = [f"metre {text.split()[0]}", " ".join(text.split()[1:])] if text.strip() else []
        tokens = [token for token in tokens if token]
        known = signs.vocabulary.tokens
        if any(token not in known for token in tokens) or (len(tokens) > 1 and not tokens[1].startswith("upbeat ")):
            metres = ", ".join(f"{beats}/{unit}" for beats, unit in METRES)
            raise UserError(
                f"{text[:80]!r} isn't a valid prompt for a chorale",
                where="prompt",
                hint=f'give a metre ({metres}) and optionally an upbeat in steps: "3/4 upbeat {self.steps_per_beat}"',
            )
        return signs.vocabulary.ids(tokens), []

    def doubts(self, melody: Score) -> list[str]:
        """Warns if the melody leaves the soprano's range, or has a tempo or chord symbols, which are lost."""
        pitches = [note.pitch for note in _soprano(melody).notes]
        low, high = RANGES[0]
        doubts = []
        if outside := sum(not low <= pitch <= high for pitch in pitches):
            ends = ((low, high), (min(pitches), max(pitches)))
            sings, goes = (f"{pitch_name(a)} to {pitch_name(b)}" for a, b in ends)
            doubts.append(
                f"{outside} of {len(pitches)} notes are outside a soprano's range, {sings}: the melody goes from "
                f"{goes}; transpose it by octaves to make it singable"
            )
        own, ours = melody.tempo_bpm, Score(melody.parts).tempo_bpm  # `decode` returns the default tempo
        if f"{own:g}" != f"{ours:g}":  # 84 is 83.99999 in a MIDI file
            doubts.append(f"its tempo, {own:g}, isn't kept: chorales are written at {ours:g} quarter notes per minute")
        if melody.chords:
            doubts.append("its chord symbols aren't read")
        return doubts

    def with_melody(self, melody: Score) -> np.ndarray:
        """The melody as soprano; −1 for the other three voices."""
        soprano = _soprano(melody)
        ids = self.encode(replace(melody, parts=(soprano, *(Part(name, ()) for name in VOICES[1:]))))
        ids[self.signs.prefix :].reshape(-1, len(VOICES))[:, 1:] = -1
        return ids

    def meaning(self, chords: Sequence[Chord] = ()) -> ChoraleMeaning:
        """The musical meaning of the tokens, for constraints; `chords`: those of the piece to generate."""
        return ChoraleMeaning(self.signs, chords)

    def timeline(self, ids: np.ndarray) -> ChoraleTimeline:
        """The notes of the four voices; each step of silence is one event."""
        voices = tuple(voice.lower() for voice in VOICES)
        return ChoraleTimeline(np.asarray(ids, dtype=np.int64), voices, self.signs)

    def onwards(self, start: Score) -> np.ndarray:
        """The ids of the piece; with a plan for twice its length and an end on its first bass note."""
        signs = self.signs
        ids = self.encode(start)
        if self.planned:
            frames = (len(ids) - signs.prefix) // len(VOICES)
            bar = signs.bars[METRES.index(tuple(start.metre))]
            ids[PREFIX] = signs.bars_id(-(-2 * frames // bar) * bar, bar)
            ids[PREFIX + 1] = signs.home0 + home_of(start, first=True)
        return ids

    def label(self, id: int) -> str:
        """The name of a pitch, a dash for a held note."""
        signs = self.signs
        if id >= signs.pitch0:
            return pitch_name(id - signs.pitch0 + LOWEST)
        return {signs.hold: "–", signs.rest: "·", EOS: "end"}.get(id, signs.vocabulary.token(id).split()[-1])

    def layout(self, ids: np.ndarray, columns: int = 32) -> list[list[int]]:
        """As a score: a row for each voice, soprano on top; the prefix in its own row."""
        framed = np.flatnonzero(self.signs.is_frame(np.asarray(ids)))
        rows = [np.setdiff1d(np.arange(len(ids)), framed).tolist()]
        width = columns * len(VOICES)
        for start in range(0, len(framed), width):
            system = framed[start : start + width]
            rows += [system[voice :: len(VOICES)].tolist() for voice in range(len(VOICES))]
        return [row for row in rows if row]

    def context(self, ids: np.ndarray) -> np.ndarray:
        """int64 [T, 6]: the place of the next token, its bar, and the pitch that each voice sounds after the id; with a
        plan [T, 12], including `plan_columns`.

        The place is 0 before the metre, 1 before the upbeat, then 2 + 4·(step in the bar) + voice; with a plan, its two
        tokens shift this by 2. Bars count from 0, the upbeat. Pitches count from 1, the lowest; 0 is silence. So a
        model needn't remember held notes or count bars.
        """
        ids, signs = np.asarray(ids, dtype=np.int64), self.signs
        places = np.arange(len(ids)) - signs.prefix  # of the next token, from the soprano of the first frame
        bar, upbeat = signs.bar_and_upbeat(ids)
        steps, voices = np.divmod(places, len(VOICES))
        in_frames = signs.prefix + (steps - upbeat) % bar * len(VOICES) + voices
        bars = np.clip((steps - upbeat) // bar + 1, 0, BARS - 1)
        columns = [np.where(places < 0, places + signs.prefix, in_frames), np.where(places < 0, 0, bars)]
        sets_pitch = (ids >= signs.pitch0) | (ids == signs.rest)
        sounding = np.where(ids >= signs.pitch0, ids - signs.pitch0 + 1, 0)
        for voice in range(len(VOICES)):
            # each id belongs to the voice before that of the next token; the last pitch of a voice still sounds
            mine = sets_pitch & ((places - 1) % len(VOICES) == voice) & (places > 0)
            last = np.maximum.accumulate(np.where(mine, np.arange(len(ids)), -1))
            columns.append(np.where(last >= 0, sounding[last], 0))
        if self.planned:
            left = signs.planned_steps(ids) - np.maximum(steps, 0)
            columns += plan_columns(-(-left // self.steps_per_beat), signs.planned_home(ids), np.array(columns[2:]))
        return np.stack(columns, axis=-1)

    def copies(self, ids: np.ndarray, sections: Sections | None = None) -> tuple[np.ndarray, ...]:
        """The candidate is the token of the same voice one lag ago; a match counts the notes of all voices."""
        ids, signs = np.asarray(ids, dtype=np.int64), self.signs
        lags = np.array(self.copy_lags)
        if sections:
            bar, upbeat = signs.bar_and_upbeat(ids)
            steps = (np.arange(len(ids)) - signs.prefix) // len(VOICES)
            lags = sections.lags((steps - upbeat) // bar, self.copy_lags, bar // self.steps_per_beat)
        back = lags * self.steps_per_beat * len(VOICES)
        there = np.arange(1, len(ids) + 1)[:, None] - back
        candidates = np.where(there > signs.prefix, ids[np.maximum(there, 0)], PAD)
        candidates[~signs.is_frame(candidates)] = PAD
        return candidates, match_classes(ids, candidates, signs.is_frame(ids) & (ids != signs.hold))

    def bar_reached(self, ids: np.ndarray) -> tuple[int, int]:
        bar, upbeat = self.signs.bar_and_upbeat(ids)
        step = (len(ids) - 1 - self.signs.prefix) // len(VOICES)
        return (step - upbeat) // bar, bar // self.steps_per_beat

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        """The grammar's mask, bool [V]."""
        return self.signs.allowed(ids)

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The piece transposed by one random interval that keeps every voice in its range; int64 [T]."""
        ids, signs = np.asarray(ids, dtype=np.int64), self.signs
        low, high = SHIFTS[0], SHIFTS[-1]
        pitched = ids >= signs.pitch0
        voice_of = (np.arange(len(ids)) - np.argmax(signs.is_frame(ids))) % len(VOICES)
        for voice, (floor, ceiling) in enumerate(RANGES):
            pitches = ids[pitched & (voice_of == voice)] - signs.pitch0 + LOWEST
            if len(pitches):
                low = max(low, min(floor - int(pitches.min()), 0))
                high = min(high, max(ceiling - int(pitches.max()), 0))
        shift = int(rng.integers(low, high + 1))
        homes = (ids >= signs.home0) & (ids < signs.pitch0)
        return np.where(homes, signs.home0 + (ids - signs.home0 + shift) % 12, ids + shift * pitched)

    def counts(self, ids: np.ndarray) -> dict[str, int]:
        return {"frame": int(self.signs.is_frame(np.asarray(ids)).sum()) // len(VOICES)}

    def _step(self, step: int, scale: Fraction, where: str) -> int:
        scaled = step * scale
        if scaled.denominator != 1:
            raise UserError(
                f"step {step} isn't on a grid of {self.steps_per_beat} steps per beat",
                where=where,
                hint="set encoding.steps_per_beat to a multiple of the score's own grid",
            )
        return int(scaled)


def _soprano(melody: Score) -> Part:
    return next((part for part in melody.parts if part.role == "melody"), None) or melody.parts[0]
