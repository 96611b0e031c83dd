"""The vocabulary of lead sheets, and the conversion of forms to ids and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.bounds import MOST_BARS
from components.encodings.copying import latest
from components.encodings.form import (
    BARS,
    FAMILIES,
    METRES,
    MOST_LEFT,
    MOST_STEPS,
    NO_CHORD,
    TEMPI,
    Form,
    bar_and_beat,
    bars_begun,
    joined,
)
from components.encodings.vocabulary import EOS, SPECIALS, Vocabulary
from components.harmony import ROOTS, format_chord
from components.score import Chord, Score, pitch_name

LOWEST, HIGHEST = 21, 108  # a piano's keys
LONGEST_BEATS = 4  # the longest length token
# of each number of semitones above home: chords and notes
NUMERALS = ("I", "♭II", "II", "♭III", "III", "IV", "♯IV", "V", "♭VI", "VI", "♭VII", "VII")
DEGREES = ("1", "♭2", "2", "♭3", "3", "4", "♯4", "5", "♭6", "6", "♭7", "7")


def above(home: int) -> int:
    """The semitones from C to a home, -5 to 6."""
    return home if home <= 6 else home - 12


@dataclass(frozen=True)
class Places:
    """The state after each of the ids [T]."""

    inside: np.ndarray  # bool [T]: the melody has begun
    time: np.ndarray  # int64 [T], steps so far: of the form before the melody, then of the melody
    head: np.ndarray  # bool [T]: a token followed by its length (chord, note, …)
    begin: int  # index of the token that begins the melody; T if there is none


class Signs:
    """The fixed vocabulary for a grid of `steps_per_beat`, in consecutive ranges of ids; with `planned` it includes
    numbers of bars. With `relative` it includes homes: the pitch class from which a piece's chords and pitches are
    written, as if it were C."""

    def __init__(self, steps_per_beat: int, planned: bool = False, relative: bool = False) -> None:
        self.steps_per_beat, self.planned, self.relative = steps_per_beat, planned, relative
        self.said = 2 + planned + relative  # metre and tempo, the number of bars, home
        self.prefix = self.said + 2 * relative  # an upbeat or the first chord
        self.longest = LONGEST_BEATS * steps_per_beat
        self.vocabulary = Vocabulary(
            [
                *SPECIALS,
                "begin",
                "rest",
                "tie",
                "upbeat",
                *(f"bars {bars}" for bars in range(1, MOST_BARS + 1) if planned),
                *(["bars more"] if planned else []),
                *(f"home {root}" for root in ROOTS if relative),
                *(f"metre {beats}/{unit}" for beats, unit in METRES),
                *(f"tempo {bpm}" for _, bpm in TEMPI),
                "no chord",
                *(f"chord {root} {family}" for root in ROOTS for family in FAMILIES),
                *(f"length {steps}" for steps in range(1, self.longest + 1)),
                *(f"pitch {pitch}" for pitch in range(LOWEST, HIGHEST + 1)),
            ]
        )
        names = ("begin", "rest", "tie", "upbeat")
        self.begin, self.rest, self.tie, self.upbeat = (self.vocabulary.id(name) for name in names)
        self.bars0 = self.upbeat + 1
        self.home0 = self.bars0 + (MOST_BARS + 1) * planned
        self.metre0 = self.home0 + len(ROOTS) * relative
        self.tempo0 = self.metre0 + len(METRES)
        self.no_chord = self.tempo0 + len(TEMPI)
        self.chord0 = self.no_chord + 1
        self.length0 = self.chord0 + 12 * len(FAMILIES)
        self.pitch0 = self.length0 + self.longest

    def __len__(self) -> int:
        return len(self.vocabulary)

    def spans(self, head: int, more: int, steps: int) -> list[int]:
        """The ids `head`, length; for longer `steps` followed by `more`, length, as often as needed."""
        full, rest = divmod(steps, self.longest)
        lengths = [self.longest] * full + [rest] * (rest > 0)
        return [id for i, n in enumerate(lengths) for id in (more if i else head, self.length0 + n - 1)]

    def planned_bars(self, ids: np.ndarray) -> int:
        """The planned number of bars in the ids [T] before a melody; 0: any number."""
        said = ids[(ids >= self.bars0) & (ids < self.home0)][:1]
        bars = int(said[0]) - self.bars0 + 1 if len(said) else 0
        return bars if bars <= MOST_BARS else 0

    def home(self, ids: np.ndarray) -> int:
        """The pitch class from which the ids [T] are written; 0 if they don't say it."""
        said = ids[(ids >= self.home0) & (ids < self.metre0)][:1]
        return int(said[0]) - self.home0 if len(said) else 0

    def length(self, id: int) -> int:
        """The steps of a length token, 0 for other tokens."""
        return id - self.length0 + 1 if self.length0 <= id < self.pitch0 else 0

    def form_ids(self, form: Form, home: int = 0) -> list[int]:
        """Metre, tempo, number of bars (if planned), home (if relative), upbeat, chords, and the token that begins the
        melody."""
        ids = [self.metre0 + METRES.index(form.metre), self.tempo0 + form.tempo]
        if self.planned:
            bars = max(1, bars_begun(form, form.length, self.steps_per_beat))
            ids.append(self.bars0 + min(bars, MOST_BARS + 1) - 1)
        if self.relative:
            ids.append(self.home0 + home)
        ids += self.spans(self.upbeat, self.upbeat, form.upbeat)
        changes = dict(form.changes)
        for start, end, root, family in form.spans():
            if start in changes:
                ids.append(self.metre0 + METRES.index(changes[start]))
            head = self.no_chord if family == NO_CHORD else self.chord0 + root * len(FAMILIES) + family
            ids += self.spans(head, head, end - start)
        return [*ids, self.begin]

    def read_form(self, ids: Sequence[int]) -> Form:
        """The form in the ids before a melody; ids that break the grammar are skipped."""
        metre, tempo, upbeat, at = None, None, 0, 0
        chords: list[Chord] = []
        changes: dict[int, tuple[int, int]] = {}
        head = 0
        for id in ids:
            if self.metre0 <= id < self.tempo0:
                if at:
                    changes[at] = METRES[id - self.metre0]
                elif metre is None:
                    metre = METRES[id - self.metre0]
            elif self.tempo0 <= id < self.no_chord:
                tempo = id - self.tempo0 if tempo is None else tempo
            elif length := self.length(id):
                if head == self.upbeat:
                    upbeat += length
                elif self.no_chord <= head < self.length0 and at + length <= MOST_STEPS:
                    if head >= self.chord0:
                        root, family = divmod(head - self.chord0, len(FAMILIES))
                        chords.append(Chord(at, length, root, FAMILIES[family]))
                    at += length
                head = 0
            else:
                head = id
        metre = metre or METRES[0]
        upbeat %= Score((), self.steps_per_beat, metre).bar_steps
        kept = tuple((step, changed) for step, changed in changes.items() if step < at)
        return Form(metre, 2 if tempo is None else tempo, upbeat, at, joined(chords), kept)

    def places(self, ids: np.ndarray) -> Places:
        starts = np.flatnonzero(ids == self.begin)
        begin = int(starts[0]) if len(starts) else len(ids)
        heads = (ids >= self.pitch0) | ((ids >= self.no_chord) & (ids < self.length0))
        heads |= (ids == self.rest) | (ids == self.tie) | (ids == self.upbeat)
        lengths = np.where((ids >= self.length0) & (ids < self.pitch0), ids - self.length0 + 1, 0)
        # the length of an upbeat isn't counted: its chords follow
        lengths[1:] *= heads[:-1] & (ids[:-1] != self.upbeat)
        lengths[:1] = 0
        time = np.cumsum(lengths)
        inside = np.arange(len(ids)) >= begin
        return Places(inside, time - inside * time[max(0, begin - 1) : begin].sum(), heads, begin)

    def form_so_far(self, ids: np.ndarray, time: np.ndarray) -> np.ndarray:
        """int64 [T, 7], the first of `form_columns` for ids before a melody: place in the bar and in the beat, bar
        modulo eight, bars so far, 0, root and family of the latest chord."""
        out = np.zeros((len(ids), 7), dtype=np.int64)
        at_metre = (ids >= self.metre0) & (ids < self.tempo0)
        metre = latest(at_metre)
        began = (metre >= 0) & (time > 0)
        if began.any():
            which = ids[metre] - self.metre0
            bar, beat = np.array([bar_and_beat(m, self.steps_per_beat) for m in METRES])[
                np.clip(which, 0, len(METRES) - 1)
            ].T
            of_upbeat = np.concatenate([[False], ids[:-1] == self.upbeat]) & (ids >= self.length0) & (ids < self.pitch0)
            upbeat = np.cumsum(np.where(of_upbeat, ids - self.length0 + 1, 0))
            steps = time - np.where(time[metre] > 0, time[metre], upbeat)
            in_bar = steps % bar
            chord = latest((ids >= self.no_chord) & (ids < self.length0))
            root, family = np.divmod(ids[chord] - self.chord0, len(FAMILIES))
            named = (chord >= 0) & (ids[chord] >= self.chord0)
            columns = (
                in_bar + 1,
                np.minimum(in_bar % beat, 2 * self.steps_per_beat - 1) + 1,
                steps // bar % BARS,
                np.clip(steps // bar, 0, MOST_LEFT),
                np.zeros_like(bar),  # beats to the next chord: unknown
                np.where(named, root + 1, 0),
                np.where(named, family + 1, 0),
            )
            out[began] = np.stack(columns, axis=-1)[began]
        return out

    def transposed(self, ids: np.ndarray, semitones: int) -> np.ndarray:
        """The ids [T] with all notes and chords transposed by `semitones`."""
        if self.relative:
            was = self.home(ids)
            home = (was + semitones) % 12
            notes = np.clip(ids + semitones - above(home) + above(was), self.pitch0, len(self) - 1)
            is_home = (ids >= self.home0) & (ids < self.metre0)
            return np.where(ids >= self.pitch0, notes, np.where(is_home, self.home0 + home, ids))
        root, family = np.divmod(ids - self.chord0, len(FAMILIES))
        chords = self.chord0 + (root + semitones) % 12 * len(FAMILIES) + family
        notes = np.clip(ids + semitones, self.pitch0, len(self) - 1)
        is_chord = (ids >= self.chord0) & (ids < self.length0)
        return np.where(ids >= self.pitch0, notes, np.where(is_chord, chords, ids))

    def label(self, id: int) -> str:
        """The name of a note or chord, its degree if they are relative; the steps of a length."""
        if id >= self.pitch0:
            pitch = id - self.pitch0 + LOWEST
            return DEGREES[pitch % 12] if self.relative else pitch_name(pitch)
        if self.chord0 <= id < self.length0:
            root, family = divmod(id - self.chord0, len(FAMILIES))
            name = format_chord(Chord(0, 1, root, FAMILIES[family]))
            return f"{NUMERALS[root]} {name.removeprefix(ROOTS[root])}".strip() if self.relative else name
        words = {self.rest: "·", self.tie: "–", self.no_chord: "N.C.", self.begin: "|:", EOS: "end"}
        return words.get(id, self.vocabulary.token(id).split()[-1])
