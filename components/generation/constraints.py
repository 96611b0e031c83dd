"""Constraints on generated music: masks over the next token, defined in musical terms for all encodings.

    constraints: ["no-crossing", "range soprano C4-A5", "key F major", "chord-tones strong", "longest 2 beats"]

The order is the priority: a constraint that leaves no choice together with those before it is relaxed for that token,
and counted in `Constraints.relaxed`. V is the vocabulary's size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

import numpy as np

from components.encodings.base import Encoding, Wrapped
from components.encodings.meaning import HOLD, LENGTH, NOTE, OTHER, REST, Choices, Meaning, Moment
from components.harmony import Key, chord_scale, chord_tones


class Constraint(ABC):
    """One constraint. `about_pitch`: it is relaxed if only silence would be left where a voice could sound."""

    about_pitch: ClassVar[bool] = True
    text: str = ""  # as written in the settings

    @abstractmethod
    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        """Which tokens meet the constraint at this moment, bool [V]. Unrelated tokens meet it."""


def pitches_after(choices: Choices, moment: Moment) -> np.ndarray:
    """The pitch that would sound in the voice after each token, int64 [V]; −1 for silence and for other tokens."""
    own = moment.sounding[moment.voice]
    held = np.where((choices.kind == HOLD) & (own is not None), own if own is not None else -1, -1)
    return np.where(choices.kind == NOTE, choices.pitch, held)


def begins_in(choices: Choices, pitch_classes: frozenset[int]) -> np.ndarray:
    """Tokens that begin a note of these pitch classes, or don't begin a note: bool [V]."""
    return (choices.kind != NOTE) | np.isin(choices.pitch % 12, sorted(pitch_classes))


class Range(Constraint):
    """Notes, of all voices or of one, are from `low` to `high`."""

    def __init__(self, low: int, high: int, voice: int | None = None) -> None:
        self.low, self.high, self.voice = low, high, voice

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        if self.voice is not None and self.voice != moment.voice:
            return np.ones(len(choices.kind), dtype=bool)
        return (choices.kind != NOTE) | ((choices.pitch >= self.low) & (choices.pitch <= self.high))


class InKey(Constraint):
    """Notes begin in the key or scale; a minor key, but not a scale, includes the raised sixth and seventh."""

    def __init__(self, key: Key, *, exact: bool = False) -> None:
        raised = {(key.tonic + 9) % 12, (key.tonic + 11) % 12} if key.scale == "minor" and not exact else set()
        self.pitch_classes = key.pitch_classes | raised

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        return begins_in(choices, self.pitch_classes)


class ChordTones(Constraint):
    """Notes that begin on a strong beat (on a beat, anywhere) are tones of the current chord.

    `scale`: tones of its scale are allowed too. Without a chord all tones are allowed.
    """

    def __init__(self, when: str, *, scale: bool = False) -> None:
        self.when, self.tones = when, chord_scale if scale else chord_tones

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        on_beat = moment.in_bar % moment.beat_steps == 0
        here = {"strong": moment.strong, "beats": on_beat, "always": True}[self.when]
        if moment.chord is None or not here:
            return np.ones(len(choices.kind), dtype=bool)
        return begins_in(choices, self.tones(moment.chord))


class NoCrossing(Constraint):
    """No voice sounds above a higher one. Voices without a token at this step yet don't count: they can still move."""

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        above = [pitch for pitch in moment.sounding[: moment.voice] if pitch is not None]
        return pitches_after(choices, moment) <= min(above, default=127)


class NoParallels(Constraint):
    """No voice moves in parallel with a higher one from a perfect fifth to a perfect fifth, or from an octave or unison
    to an octave or unison."""

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        after = pitches_after(choices, moment)
        kept = np.ones(len(after), dtype=bool)
        own = moment.before[moment.voice] if moment.before else None
        if own is None:
            return kept
        for was, now in zip(moment.before[: moment.voice], moment.sounding[: moment.voice], strict=True):
            if was is not None and now is not None and now != was and (was - own) % 12 in (0, 7):
                together = np.sign(after - own) == np.sign(now - was)
                kept &= (after < 0) | ~together | ((now - after) % 12 != (was - own) % 12)
        return kept


class TonicEnding(Constraint):
    """In the last beat only the tonic chord sounds, and a note that begins there lasts to the end. The tonic is the
    planned end of the piece, or the root of the last chord. The lowest or only voice has it; the others have a major or
    minor triad on it, including its third."""

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        kept = np.ones(len(choices.kind), dtype=bool)
        if moment.left is None or moment.home is None:
            return kept
        tones = self._tones(moment)
        at_home = moment.pending is not None and moment.pending % 12 in tones
        kept[(choices.kind == LENGTH) & (choices.duration >= moment.left)] = at_home
        if moment.left <= ((moment.in_bar + moment.left) % moment.beat_steps or moment.beat_steps):
            after = pitches_after(choices, moment)
            sings = (choices.kind == NOTE) | (choices.kind == HOLD) | (choices.kind == REST)
            kept &= ~sings | ((after >= 0) & np.isin(after % 12, sorted(tones)))
            kept &= (choices.kind != LENGTH) | (choices.duration >= moment.left)
        return kept

    def _tones(self, moment: Moment) -> set[int]:
        """Pitch classes that the voice may end on."""
        assert moment.home is not None  # checked by the caller
        voices_below = len(moment.sounding) - 1 - moment.voice
        if not voices_below:
            return {moment.home}
        above = {(pitch - moment.home) % 12 for pitch in moment.sounding[: moment.voice] if pitch is not None}
        thirds = above & {3, 4} or {3, 4}
        last_chance = voices_below == 1 and not above & thirds
        return {(moment.home + tone) % 12 for tone in (thirds if last_chance else thirds | {0, 7})}


class WithinBars(Constraint):
    """No note crosses a bar line."""

    about_pitch = False

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        holds_over = (choices.kind == HOLD) & (moment.in_bar == 0) & (moment.held > 0)
        return ~holds_over & (moment.in_bar + note_lengths(choices, moment) <= moment.bar_steps)


class Onsets(Constraint):
    """Notes begin on a grid of `beats` (1/2: half beats), relative to the bar line."""

    about_pitch = False

    def __init__(self, beats: Fraction) -> None:
        self.beats = beats

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        on_grid = Fraction(moment.in_bar, moment.beat_steps) % self.beats == 0
        return (choices.kind != NOTE) | on_grid


class Longest(Constraint):
    """No note lasts longer than `beats`."""

    about_pitch = False

    def __init__(self, beats: Fraction) -> None:
        self.beats = beats

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        limit = max(1, int(self.beats * moment.beat_steps))
        return ~((choices.kind == HOLD) & (moment.held >= limit)) & (note_lengths(choices, moment) <= limit)


class Repeats(Constraint):
    """A voice has the same pitch at most `count` times in a row."""

    def __init__(self, count: int) -> None:
        self.count = count

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        last = moment.history[-self.count :]
        stuck = len(last) == self.count and len(set(last)) == 1
        return ~((choices.kind == NOTE) & (choices.pitch == last[-1])) if stuck else np.ones(len(choices.kind), bool)


def note_lengths(choices: Choices, moment: Moment) -> np.ndarray:
    """Duration in steps that each token gives its note, int64 [V]; 0 for rests and tokens without a duration."""
    of_note = (choices.kind == NOTE) | ((choices.kind == LENGTH) & (moment.pending is not None))
    return np.where(of_note, choices.duration, 0)


class Constraints:
    """Several constraints, in order of priority. `relaxed`: how often each one was relaxed."""

    def __init__(self, constraints: Sequence[Constraint], meaning: Meaning) -> None:
        self.constraints, self.meaning = tuple(constraints), meaning
        self.relaxed: Counter[str] = Counter()
        self.moments = 0  # tokens that the constraints were applied to

    def mask(self, allowed_V: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The tokens of `allowed_V`, the grammar's mask, that meet the constraints after the ids [T] (BOS first): bool
        [V], never empty.

        A constraint is relaxed for this token if only the end or a sign would be left, and a constraint about pitch
        also if only silence would be left.
        """
        moment = self.meaning.moment(ids)
        return allowed_V if moment is None else self.narrow(allowed_V, moment)

    def narrow(self, allowed_V: np.ndarray, moment: Moment) -> np.ndarray:
        """As `mask`, for a known moment."""
        choices, mask = self.meaning.choices.shifted(moment.shift), allowed_V
        music = choices.kind != OTHER
        sounding = (choices.kind == NOTE) | (choices.kind == HOLD) | (choices.kind == LENGTH)
        self.moments += 1
        for constraint in self.constraints:
            kept = mask & constraint.allows(choices, moment)
            must = sounding if constraint.about_pitch and (mask & sounding).any() else music
            if (kept & must).any() or (not (mask & music).any() and kept.any()):
                mask = kept
            else:
                self.relaxed[constraint.text or type(constraint).__name__] += 1
        return mask

    def report(self) -> list[str]:
        """One line for each relaxed constraint."""
        return [
            f"the constraint {text!r} couldn't be met for {n:,} of {self.moments:,} tokens"
            for text, n in self.relaxed.items()
        ]


class Constrained(Wrapped):
    """An encoding for sampling whose `allowed` applies the constraints as well as the grammar."""

    def __init__(self, encoding: Encoding, rules: Constraints) -> None:
        super().__init__(encoding)
        self.rules = rules

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        return self.rules.mask(self.encoding.allowed(ids), ids)
