"""Four-part chorales as tokens: every sixteenth one token a voice, soprano first.

A sequence is `metre, upbeat, S A T B, S A T B, …`: in each frame a pitch where a note begins, `hold` while it goes
on, `rest` while the voice is silent (the representation of DeepBach, Hadjeres et al. 2017, with the voices in turn
instead of in parallel). Planned chorales say after metre and upbeat how many bars they have and where their home is.
The vocabulary is fixed: what the training pieces lack can still be written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np

from components.encodings.base import Signed
from components.encodings.chorale_plan import PLAN_SIZES, home_of, plan_columns
from components.encodings.chorale_signs import HIGHEST, LOWEST, METRES, PREFIX, VOICES, Signs
from components.encodings.chorale_timeline import ChoraleTimeline
from components.encodings.copying import MATCHES, match_classes
from components.encodings.sections import Sections
from components.encodings.vocabulary import EOS, PAD
from components.errors import UserError
from components.score import Note, Part, Score, pitch_name

# Comfortable ranges of a choir; a piece that leaves one takes its own range there.
RANGES = ((60, 81), (53, 74), (48, 69), (40, 64))
SHIFTS = range(-5, 7)  # one octave in all: every key once
BARS = 32  # that are told apart; the rest count as the last of them


class Chorale(Signed):
    """Scores of four parts ↔ ids, `steps_per_beat` frames of four tokens in a quarter note.

    `planned`: a piece begins with how many bars it has (an upbeat and the bar that it shortens at the end are one) and
    with its home, the pitch class that the bass ends on; and beside each token stands how much is left and what sounds
    over home (`components.encodings.chorale_plan`). So pieces end when they are meant to, at home.
    """

    kind = "chorale"
    unit = "token"
    copy_lags = (16, 20, 24, 32)  # quarter notes: lines of the hymn that come back, in whole bars of 4/4
    copy_places = len(copy_lags)
    copy_classes = MATCHES

    def __init__(self, *, steps_per_beat: int = 4, planned: bool = False) -> None:
        if not 1 <= steps_per_beat <= 48:
            raise UserError(
                f"{steps_per_beat} steps in a beat can't be used",
                where="encoding.steps_per_beat",
                hint="choose 1 to 48; 4 is a grid of sixteenths",
            )
        self.steps_per_beat, self.planned = steps_per_beat, planned
        self.signs = Signs(steps_per_beat, planned)
        self.prefix = self.signs.prefix
        pitches = HIGHEST - LOWEST + 1
        # where in the bar the next token stands, in which bar, and for each voice what sounds (0 = nothing)
        self.context_sizes = (self.signs.prefix + self.signs.longest * len(VOICES), BARS, *[1 + pitches] * len(VOICES))
        self.context_sizes += PLAN_SIZES if planned else ()

    def encode(self, item: Score) -> np.ndarray:
        """The score's ids, int64 [2 + 4·frames], with a plan [4 + 4·frames].

        Raises:
            UserError: not four parts, an unknown metre, a note off the grid or out of range.
        """
        signs = self.signs
        where = item.title or "score"
        if len(item.parts) != len(VOICES):
            raise UserError(f"{len(item.parts)} parts where a chorale has four", where=where)
        if tuple(item.metre) not in METRES:
            known = ", ".join(f"{beats}/{unit}" for beats, unit in METRES)
            what = f"the metre {item.metre[0]}/{item.metre[1]} isn't one of {known}, in which chorales are written"
            raise UserError(what, where=where)
        metre = METRES.index(tuple(item.metre))
        scale = Fraction(self.steps_per_beat, item.steps_per_beat)
        upbeat = self._step(item.upbeat_steps, scale, where)
        if not 0 <= upbeat < signs.bars[metre]:
            raise UserError(f"an upbeat of {upbeat} steps doesn't fit a bar of {signs.bars[metre]}", where=where)
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
        """The score that the ids stand for.

        What breaks the grammar is read leniently: specials and misplaced prefix tokens are skipped, a missing metre
        is 4/4, `hold` without a note is silence, an incomplete last frame is dropped.
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
        """A metre, "3/4", and where wanted an upbeat in steps, "3/4 upbeat 4"; nothing leaves both to the model.

        Raises:
            UserError: the text is neither, with what can be asked for.
        """
        signs = self.signs
        tokens = [f"metre {text.split()[0]}", " ".join(text.split()[1:])] if text.strip() else []
        tokens = [token for token in tokens if token]
        known = signs.vocabulary.tokens
        if any(token not in known for token in tokens) or (len(tokens) > 1 and not tokens[1].startswith("upbeat ")):
            metres = ", ".join(f"{beats}/{unit}" for beats, unit in METRES)
            raise UserError(
                f"{text[:80]!r} is no beginning of a chorale",
                where="prompt",
                hint=f'give a metre ({metres}), and an upbeat in steps if you like: "3/4 upbeat {self.steps_per_beat}"',
            )
        return signs.vocabulary.ids(tokens), []

    def doubts(self, melody: Score) -> list[str]:
        """Whether it leaves a soprano's range, or has a tempo of its own."""
        pitches = [note.pitch for note in _soprano(melody).notes]
        low, high = RANGES[0]
        doubts = []
        if outside := sum(not low <= pitch <= high for pitch in pitches):
            ends = ((low, high), (min(pitches), max(pitches)))
            sings, goes = (f"{pitch_name(a)} to {pitch_name(b)}" for a, b in ends)
            doubts.append(
                f"{outside} of {len(pitches)} notes are outside a soprano's range, {sings}: the melody goes from "
                f"{goes}; move it by octaves if it is to be sung"
            )
        own, ours = melody.tempo_bpm, Score(melody.parts).tempo_bpm  # what `decode` gives has no tempo of its own
        if f"{own:g}" != f"{ours:g}":  # a MIDI file of 84 says 83.99999
            doubts.append(f"its tempo, {own:g}, isn't kept: chorales go at {ours:g} quarters a minute")
        return doubts

    def with_melody(self, melody: Score) -> np.ndarray:
        """The melody as soprano, the other three voices free."""
        soprano = _soprano(melody)
        ids = self.encode(replace(melody, parts=(soprano, *(Part(name, ()) for name in VOICES[1:]))))
        ids[self.signs.prefix :].reshape(-1, len(VOICES))[:, 1:] = -1
        return ids

    def timeline(self, ids: np.ndarray) -> ChoraleTimeline:
        """The notes of the four voices; each step of silence is an event of its own."""
        voices = tuple(voice.lower() for voice in VOICES)
        return ChoraleTimeline(np.asarray(ids, dtype=np.int64), voices, self.signs)

    def onwards(self, start: Score) -> np.ndarray:
        """The piece; a planned one is to become twice as long, and to end where its bass began."""
        signs = self.signs
        ids = self.encode(start)
        if self.planned:
            frames = (len(ids) - signs.prefix) // len(VOICES)
            bar = signs.bars[METRES.index(tuple(start.metre))]
            ids[PREFIX] = signs.bars_id(-(-2 * frames // bar) * bar, bar)
            ids[PREFIX + 1] = signs.home0 + home_of(start, first=True)
        return ids

    def with_bars(self, bars: int, begun: np.ndarray) -> np.ndarray:
        if not self.planned:
            return super().with_bars(bars, begun)
        return np.array([*begun, *[-1] * (PREFIX - len(begun)), self.signs.bars0 + bars - 1], dtype=np.int64)

    def label(self, id: int) -> str:
        """A pitch by its name, a held note as a line."""
        signs = self.signs
        if id >= signs.pitch0:
            return pitch_name(id - signs.pitch0 + LOWEST)
        return {signs.hold: "–", signs.rest: "·", EOS: "end"}.get(id, signs.vocabulary.token(id).split()[-1])

    def layout(self, ids: np.ndarray, columns: int = 32) -> list[list[int]]:
        """As a score: the voices one under the other, soprano on top; the prefix in a row of its own."""
        framed = np.flatnonzero(self.signs.is_frame(np.asarray(ids)))
        rows = [np.setdiff1d(np.arange(len(ids)), framed).tolist()]
        width = columns * len(VOICES)
        for start in range(0, len(framed), width):
            system = framed[start : start + width]
            rows += [system[voice :: len(VOICES)].tolist() for voice in range(len(VOICES))]
        return [row for row in rows if row]

    def context(self, ids: np.ndarray) -> np.ndarray:
        """int64 [T, 6]: the place of the next token, its bar, and the pitch that sounds in each voice after the id; of
        planned pieces [T, 12], with `plan_columns`.

        The place is 0 and 1 before the metre and the upbeat, then 2 + 4·(step in the bar) + voice; a plan's two tokens
        are counted too. Bars count from 0, the upbeat's. A pitch counts from 1, the lowest; 0 is silence. So a model
        needn't remember through the holds what it has written, nor count how long a piece has gone on.
        """
        ids, signs = np.asarray(ids, dtype=np.int64), self.signs
        places = np.arange(len(ids)) - signs.prefix  # of the next token, counted from the first frame's soprano
        bar, upbeat = signs.bar_and_upbeat(ids)
        steps, voices = np.divmod(places, len(VOICES))
        in_frames = signs.prefix + (steps - upbeat) % bar * len(VOICES) + voices
        bars = np.clip((steps - upbeat) // bar + 1, 0, BARS - 1)
        columns = [np.where(places < 0, places + signs.prefix, in_frames), np.where(places < 0, 0, bars)]
        sets_pitch = (ids >= signs.pitch0) | (ids == signs.rest)
        sounding = np.where(ids >= signs.pitch0, ids - signs.pitch0 + 1, 0)
        for voice in range(len(VOICES)):
            # the id at `places` belongs to the voice before the next one; the last that set a pitch still holds
            mine = sets_pitch & ((places - 1) % len(VOICES) == voice) & (places > 0)
            last = np.maximum.accumulate(np.where(mine, np.arange(len(ids)), -1))
            columns.append(np.where(last >= 0, sounding[last], 0))
        if self.planned:
            left = signs.planned_steps(ids) - np.maximum(steps, 0)
            columns += plan_columns(-(-left // self.steps_per_beat), signs.planned_home(ids), np.array(columns[2:]))
        return np.stack(columns, axis=-1)

    def copies(self, ids: np.ndarray, sections: Sections | None = None) -> tuple[np.ndarray, ...]:
        """The token that the same voice had so many quarter notes ago; a match counts the notes of all voices."""
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
        """The whole piece moved by one interval that keeps every voice in a singer's range; int64 [T]."""
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
                f"step {step} isn't on a grid of {self.steps_per_beat} steps in a beat",
                where=where,
                hint="set encoding.steps_per_beat to a multiple of the score's own grid",
            )
        return int(scaled)


def _soprano(melody: Score) -> Part:
    return next((part for part in melody.parts if part.role == "melody"), None) or melody.parts[0]
