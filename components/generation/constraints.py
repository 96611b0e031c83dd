"""Rules that generated music keeps: masks over the next token, told in musical terms, whatever the encoding's ids.

    constraints: ["no-crossing", "range soprano C4-A5", "key F major", "chord-tones strong", "longest 2 beats"]

The order is the priority: where the rules can't all be kept, one that leaves no choice beside those before it is given
up for that token, so the last is the first to go; `Constraints.relaxed` counts it. V is the vocabulary's size.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import ClassVar

import numpy as np

from components.encodings.base import Encoding, Wrapped
from components.encodings.meaning import HOLD, LENGTH, NOTE, OTHER, REST, Choices, Meaning, Moment
from components.errors import UserError, meant
from components.harmony import Key, chord_scale, chord_tones, parse_key

WHERE = "generation.constraints"
MOST = 32  # constraints at once


class Constraint(ABC):
    """One rule. `about_pitch`: it would rather be given up than silence a voice that could go on sounding."""

    about_pitch: ClassVar[bool] = True
    text: str = ""  # as it was asked for

    @abstractmethod
    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        """Which tokens keep the rule at this moment, bool [V]. Tokens that it isn't about keep it."""


def pitches_after(choices: Choices, moment: Moment) -> np.ndarray:
    """The pitch that would sound in the voice after each token, int64 [V]; −1 for silence and for other tokens."""
    own = moment.sounding[moment.voice]
    held = np.where((choices.kind == HOLD) & (own is not None), own if own is not None else -1, -1)
    return np.where(choices.kind == NOTE, choices.pitch, held)


def begins_in(choices: Choices, pitch_classes: frozenset[int]) -> np.ndarray:
    """Tokens that begin a note of these pitch classes, or none: bool [V]."""
    return (choices.kind != NOTE) | np.isin(choices.pitch % 12, sorted(pitch_classes))


class Range(Constraint):
    """Every note, or those of one voice, lies from `low` to `high`."""

    def __init__(self, low: int, high: int, voice: int | None = None) -> None:
        self.low, self.high, self.voice = low, high, voice

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        if self.voice is not None and self.voice != moment.voice:
            return np.ones(len(choices.kind), dtype=bool)
        return (choices.kind != NOTE) | ((choices.pitch >= self.low) & (choices.pitch <= self.high))


class InKey(Constraint):
    """Notes begin in the key or scale; a minor key has its raised sixth and seventh too (a scale has not)."""

    def __init__(self, key: Key, *, exact: bool = False) -> None:
        raised = {(key.tonic + 9) % 12, (key.tonic + 11) % 12} if key.scale == "minor" and not exact else set()
        self.pitch_classes = key.pitch_classes | raised

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        return begins_in(choices, self.pitch_classes)


class ChordTones(Constraint):
    """Notes that begin on a strong beat (on a beat, anywhere) are tones of the chord that holds there.

    `scale`: tones of its scale are as good. Where no chord holds, anything goes.
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
    """No voice sounds above a higher one. Voices not yet chosen at this step don't bind: they can still move."""

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        above = [pitch for pitch in moment.sounding[: moment.voice] if pitch is not None]
        return pitches_after(choices, moment) <= min(above, default=127)


class NoParallels(Constraint):
    """No voice moves in the same direction as a higher one from a perfect fifth to a perfect fifth, or from an octave
    or unison to one."""

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
    """In the last beat nothing sounds but home, what the piece is planned to end on or the root of the last chord: the
    lowest voice, or the only one, has it; the others have a major or minor triad over it, with its third."""

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        kept = np.ones(len(choices.kind), dtype=bool)
        if moment.left is None or moment.home is None:
            return kept
        tones = self._tones(moment)
        at_home = moment.pending is not None and moment.pending % 12 in tones
        kept[(choices.kind == LENGTH) & (choices.duration >= moment.left)] = at_home
        if moment.left <= moment.beat_steps:
            after = pitches_after(choices, moment)
            sings = (choices.kind == NOTE) | (choices.kind == HOLD) | (choices.kind == REST)
            kept &= ~sings | ((after >= 0) & np.isin(after % 12, sorted(tones)))
        return kept

    def _tones(self, moment: Moment) -> set[int]:
        """Pitch classes that the voice may end on."""
        assert moment.home is not None  # the caller's business
        voices_below = len(moment.sounding) - 1 - moment.voice
        if not voices_below:
            return {moment.home}
        above = {(pitch - moment.home) % 12 for pitch in moment.sounding[: moment.voice] if pitch is not None}
        thirds = above & {3, 4} or {3, 4}
        last_chance = voices_below == 1 and not above & thirds
        return {(moment.home + tone) % 12 for tone in (thirds if last_chance else thirds | {0, 7})}


class WithinBars(Constraint):
    """No note goes on over a bar line."""

    about_pitch = False

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        holds_over = (choices.kind == HOLD) & (moment.in_bar == 0) & (moment.held > 0)
        return ~holds_over & (moment.in_bar + note_lengths(choices, moment) <= moment.bar_steps)


class Onsets(Constraint):
    """Notes begin on a grid of `beats` (1/2: half beats), counted from the bar line."""

    about_pitch = False

    def __init__(self, beats: Fraction) -> None:
        self.beats = beats

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        on_grid = Fraction(moment.in_bar, moment.beat_steps) % self.beats == 0
        return (choices.kind != NOTE) | on_grid


class Longest(Constraint):
    """No note lasts longer than so many beats."""

    about_pitch = False

    def __init__(self, beats: Fraction) -> None:
        self.beats = beats

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        limit = max(1, int(self.beats * moment.beat_steps))
        return ~((choices.kind == HOLD) & (moment.held >= limit)) & (note_lengths(choices, moment) <= limit)


class Repeats(Constraint):
    """The same pitch at most so many times in a row in a voice."""

    def __init__(self, count: int) -> None:
        self.count = count

    def allows(self, choices: Choices, moment: Moment) -> np.ndarray:
        last = moment.history[-self.count :]
        stuck = len(last) == self.count and len(set(last)) == 1
        return ~((choices.kind == NOTE) & (choices.pitch == last[-1])) if stuck else np.ones(len(choices.kind), bool)


def note_lengths(choices: Choices, moment: Moment) -> np.ndarray:
    """Steps that each token says its note lasts, int64 [V]; 0 where it says nothing or is about a rest."""
    of_note = (choices.kind == NOTE) | ((choices.kind == LENGTH) & (moment.pending is not None))
    return np.where(of_note, choices.duration, 0)


class Constraints:
    """Several rules, the most important first. `relaxed` counts by rule how often it had to be given up."""

    def __init__(self, constraints: Sequence[Constraint], meaning: Meaning) -> None:
        self.constraints, self.meaning = tuple(constraints), meaning
        self.relaxed: Counter[str] = Counter()
        self.moments = 0  # tokens that the rules were asked about

    def mask(self, allowed_V: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """What of the grammar's `allowed_V` keeps the rules after the ids [T] (BOS first): bool [V], never empty.

        A rule is given up for this token where nothing but the end or a sign would be left, and a rule about pitch also
        where only silence would be.
        """
        moment = self.meaning.moment(ids)
        return allowed_V if moment is None else self.narrow(allowed_V, moment)

    def narrow(self, allowed_V: np.ndarray, moment: Moment) -> np.ndarray:
        """`mask` at a moment that is known."""
        choices, mask = self.meaning.choices, allowed_V
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
        """One line for each rule that had to be given up."""
        return [f"{text!r} was given up for {n:,} of {self.moments:,} tokens" for text, n in self.relaxed.items()]


class Constrained(Wrapped):
    """An encoding whose `allowed` keeps the rules as well as the grammar: what `sample` is given in its place."""

    def __init__(self, encoding: Encoding, rules: Constraints) -> None:
        super().__init__(encoding)
        self.rules = rules

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        return self.rules.mask(self.encoding.allowed(ids), ids)


def parse_constraints(texts: Sequence[str], meaning: Meaning) -> Constraints:
    """The rules in a recipe's or command's words, for one encoding's music.

    Raises:
        UserError: a rule isn't known or its values make no sense; all of them are told at once.
    """
    if len(texts) > MOST:
        raise UserError(f"{len(texts)} constraints, more than {MOST}", where=WHERE)
    found, problems = [], []
    for text in texts:
        try:
            found.append(parse_constraint(text, meaning.voices))
        except UserError as error:
            problems.append(f"{error.what}: {error.hint}" if error.hint else error.what)
    if problems:
        raise UserError("; ".join(problems), where=WHERE)
    return Constraints(found, meaning)


def parse_constraint(text: str, voices: Sequence[str] = ()) -> Constraint:
    """One rule, such as "range 55-84" or "longest 2 beats". `voices`: names that a range may be for.

    Raises:
        UserError: with the nearest rule, or what the rule takes.
    """
    name, _, rest = " ".join(text[:81].split()).partition(" ")
    name = name.casefold()
    if name not in RULES or len(text) > 80:
        examples = ", ".join(f'"{example}"' for example, _ in RULES.values())
        raise UserError(f"unknown constraint {text[:80]!r}{meant(name, RULES)}", where=WHERE, hint=f"rules: {examples}")
    example, make = RULES[name]
    constraint = make(rest, tuple(voice.casefold() for voice in voices))
    if constraint is None:
        raise UserError(f"{text!r} can't be read", where=WHERE, hint=f'write it as in "{example}"')
    constraint.text = text
    return constraint


def _range(rest: str, voices: tuple[str, ...]) -> Constraint | None:
    pitch = r"(\d{1,3}|[a-g][b#]?-?\d)"
    found = re.fullmatch(rf"(?:([a-z]+) )?{pitch} ?(?:-|–|to) ?{pitch}", rest.casefold())
    if found is None:
        return None
    name, low, high = found[1], _pitch(found[2]), _pitch(found[3])
    if name and name not in voices:
        raise UserError(
            f"there is no voice {name!r}{meant(name, voices)}",
            where=WHERE,
            hint=f"voices: {', '.join(voices) or 'this music has one, leave the name out'}",
        )
    if not 0 <= low <= high <= 127:
        raise UserError(
            f"the range {rest!r} holds no note", where=WHERE, hint="the lower pitch first, 0 to 127 (C4 = 60)"
        )
    return Range(low, high, voices.index(name) if name else None)


def _pitch(text: str) -> int:
    """60 for "60" and for "c4"."""
    if text.isdigit():
        return int(text)
    found = re.fullmatch(r"([a-g])([b#]?)(-?\d)", text)
    assert found is not None  # the caller's pattern
    written = {"b": -1, "#": 1, "": 0}[found[2]]
    return "c d ef g a b".index(found[1]) + written + 12 * (int(found[3]) + 1)


def _beats(rest: str) -> Fraction | None:
    """2 for "2 beats", 1/2 for "1/2 beat" and "0.5"."""
    found = re.fullmatch(r"(\d{1,3}(?:/[1-9]\d?|\.\d{1,3})?)(?: beats?)?", rest.casefold())
    beats = Fraction(found[1]) if found else Fraction(0)
    return beats if 0 < beats <= 64 else None


def _of_beats(make: Callable[[Fraction], Constraint]) -> Callable[[str, tuple[str, ...]], Constraint | None]:
    return lambda rest, voices: make(beats) if (beats := _beats(rest)) else None


def _chord(scale: bool) -> Callable[[str, tuple[str, ...]], Constraint | None]:
    def make(rest: str, voices: tuple[str, ...]) -> Constraint | None:
        when = rest.casefold() or "strong"
        return ChordTones(when, scale=scale) if when in ("strong", "beats", "always") else None

    return make


# first word → an example, and what makes the rule of the words after it
RULES: dict[str, tuple[str, Callable[[str, tuple[str, ...]], Constraint | None]]] = {
    "range": ("range C4-A5", _range),
    "key": ("key F major", lambda rest, voices: InKey(parse_key(rest, where=WHERE))),
    "scale": ("scale D dorian", lambda rest, voices: InKey(parse_key(rest, where=WHERE), exact=True)),
    "chord-tones": ("chord-tones strong", _chord(False)),
    "chord-scale": ("chord-scale always", _chord(True)),
    "no-crossing": ("no-crossing", lambda rest, voices: None if rest else NoCrossing()),
    "no-parallels": ("no-parallels", lambda rest, voices: None if rest else NoParallels()),
    "tonic-ending": ("tonic-ending", lambda rest, voices: None if rest else TonicEnding()),
    "within-bars": ("within-bars", lambda rest, voices: None if rest else WithinBars()),
    "onsets": ("onsets 1/2 beat", _of_beats(Onsets)),
    "longest": ("longest 2 beats", _of_beats(Longest)),
    "repeats": ("repeats 3", lambda rest, voices: Repeats(int(rest)) if re.fullmatch(r"[1-9]|1[0-6]", rest) else None),
}
