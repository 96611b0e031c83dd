"""The form of a lead sheet: metre, tempo, chords, and the context features for every step. C columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from components.harmony import KINDS, chord_scale, chord_tones
from components.score import Chord, Score

METRES = (
    (4, 4), (3, 4), (2, 4), (6, 8), (2, 2), (9, 8), (12, 8), (3, 8), (3, 2), (5, 4), (6, 4), (7, 4), (5, 8), (7, 8),
    (1, 4), (4, 2), (4, 8), (9, 4),
)  # fmt: skip
# classes of tempo: (upper bound, representative), quarter notes a minute; a melody's note density depends on the tempo
TEMPI = ((80, 60), (120, 100), (160, 140), (210, 180), (10_000, 240))
MOST_STEPS = 1 << 16  # longest form
# Chord kinds are grouped into families, since rare kinds have too few examples.
FAMILIES = ("maj", "min", "7", "m7", "maj7", "m7b5", "dim7", "7sus4", "aug", "6", "m6", "7b9")
_MEMBERS = {
    "maj": "maj add9 sus2 5", "min": "min madd9", "7": "7 9 13 7#11 7b5", "m7": "m7 m9 m11 m13",
    "maj7": "maj7 maj9 maj13 maj7#11", "m7b5": "m7b5", "dim7": "dim dim7", "7sus4": "sus4 7sus4 9sus4",
    "aug": "aug maj7#5", "6": "6 69", "m6": "m6 m69 mmaj7", "7b9": "7b9 7#9 7b13 7#5 7alt 13b9",
}  # fmt: skip
FAMILY_OF = {kind: FAMILIES.index(family) for family, kinds in _MEMBERS.items() for kind in kinds.split()}
NO_CHORD = -1
BARS = 8  # bars are counted modulo eight: phrases have two, four or eight
MOST_LEFT = 16  # bars left; more count as this many
MOST_AHEAD = 8  # beats to the next chord; more count as this many
BARS_LEFT, ROOT_HERE, NEXT_ROOT = 4, 6, 8  # columns of a lead sheet's context: `form_columns` follow its first column
NOTHING, ROOT, TONE, SCALE, OUTSIDE = range(5)  # role of a pitch class in the chord


@dataclass(frozen=True)
class Form:
    """Metre, tempo and chords of a piece; `tempo` is an index of TEMPI, all lengths are in steps."""

    metre: tuple[int, int] = (4, 4)
    tempo: int = 2
    upbeat: int = 0
    length: int = 0
    chords: tuple[Chord, ...] = ()
    changes: tuple[tuple[int, tuple[int, int]], ...] = ()

    @property
    def home(self) -> int:
        """The root of the first chord; 0 if there is none."""
        return next((root for *_, root, family in self.spans() if family != NO_CHORD), 0)

    def moved(self, semitones: int) -> Form:
        """The form with its chords transposed."""
        return replace(self, chords=tuple(replace(c, root=(c.root + semitones) % 12) for c in self.chords))

    def repeated(self, steps_per_beat: int) -> Form:
        """The form, from its upbeat to the end of a bar, twice."""
        once = bar_end(self, self.length, steps_per_beat) - self.upbeat
        again = [(step + once, metre) for step, metre in self.changes]
        if self.changes:
            again.insert(0, (self.upbeat + once, self.metre))
        return replace(
            self,
            length=self.upbeat + 2 * once,
            chords=(*self.chords, *(replace(c, start=c.start + once) for c in self.chords if c.start >= self.upbeat)),
            changes=(*self.changes, *again),
        )

    def spans(self) -> list[tuple[int, int, int, int]]:
        """(start, end, root, family) from 0 to `length` without gaps, cut where the metre changes; family NO_CHORD:
        none. If chords overlap, the later one counts."""
        codes = np.full(self.length, NO_CHORD)
        for chord in sorted(self.chords):
            code = chord.root * len(FAMILIES) + FAMILY_OF.get(chord.kind, 0)
            codes[max(0, chord.start) : max(0, chord.start + chord.duration)] = code
        cuts = {0, self.length, *(np.flatnonzero(np.diff(codes)) + 1).tolist()}
        cuts |= {step for step, _ in self.changes if 0 < step < self.length}
        families = ((start, end, int(codes[start])) for start, end in pairwise(sorted(cuts)))
        return [(s, e, *(divmod(code, len(FAMILIES)) if code >= 0 else (0, NO_CHORD))) for s, e, code in families]


def joined(chords: Iterable[Chord]) -> tuple[Chord, ...]:
    """The chords in order of time, with adjacent equal ones merged."""
    found: list[Chord] = []
    for chord in chords:
        last = found[-1] if found else None
        same = last and (last.root, last.kind, last.bass) == (chord.root, chord.kind, chord.bass)
        if last and same and last.start + last.duration == chord.start:
            found[-1] = replace(last, duration=last.duration + chord.duration)
        else:
            found.append(chord)
    return tuple(found)


def tempo_class(bpm: float) -> int:
    """The index in TEMPI of a tempo in quarter notes a minute."""
    return next((index for index, (limit, _) in enumerate(TEMPI) if bpm < limit), len(TEMPI) - 1)


def nearest_metre(metre: tuple[int, int]) -> tuple[int, int]:
    """The metre, or if it isn't in METRES the one with the nearest length of a bar."""
    metre = (int(metre[0]), int(metre[1]))
    return metre if metre in METRES else min(METRES, key=lambda m: abs(m[0] / m[1] - metre[0] / metre[1]))


@lru_cache(maxsize=1024)  # called for every metre at every token
def bar_and_beat(metre: tuple[int, int], steps_per_beat: int) -> tuple[int, int]:
    """Steps in a bar and in a beat as it is counted: a quarter in 4/4, a dotted quarter in 6/8."""
    bar = Score((), steps_per_beat, metre).bar_steps
    compound = metre[0] % 3 == 0 and metre[0] > 3 and metre[1] >= 8
    return bar, bar // (metre[0] // 3 if compound else metre[0])


def bar_end(form: Form, step: int, steps_per_beat: int) -> int:
    """The end of the bar that contains `step`; `step` itself if a bar ends there."""
    origin, metre = max((start, metre) for start, metre in [(0, form.metre), *form.changes] if start <= step)
    bar, _ = bar_and_beat(metre, steps_per_beat)
    origin = origin or form.upbeat
    return origin if step <= origin else origin - (origin - step) // bar * bar


def bars_begun(form: Form, step: int, steps_per_beat: int) -> int:
    """Number of bars that begin before `step`, without the upbeat."""
    changes = [(form.upbeat, form.metre), *(change for change in form.changes if change[0] < step)]
    ends = [*(start for start, _ in changes[1:]), step]
    spans = zip(changes, ends, strict=True)
    return sum(max(0, -(-(end - start) // bar_and_beat(metre, steps_per_beat)[0])) for (start, metre), end in spans)


def bar_numbers(form: Form, steps_per_beat: int) -> np.ndarray:
    """The bar number of each step of the form and of its end, int64 [length + 1], from 0; −1 in an upbeat."""
    number_S = np.full(form.length + 1, -1)
    changes = [(form.upbeat, form.metre), *form.changes]
    first = 0
    for (start, metre), end in zip(changes, [*(start for start, _ in changes[1:]), form.length + 1], strict=True):
        bar, _ = bar_and_beat(metre, steps_per_beat)
        number_S[start:end] = first + np.arange(max(0, end - start)) // bar
        first += -(-max(0, end - start) // bar)
    return number_S


def form_sizes(steps_per_beat: int) -> tuple[int, ...]:
    """The sizes of `form_columns`."""
    bar = max(Score((), steps_per_beat, metre).bar_steps for metre in METRES)
    return (1 + bar, 1 + 2 * steps_per_beat, BARS, MOST_LEFT + 1, MOST_AHEAD + 1, 13, 13, 13, 13, *[5] * 12)


def form_columns(form: Form, steps_per_beat: int) -> np.ndarray:
    """int64 [length + 1, C]: place in the bar and in the beat (from 1), bar modulo eight, bars left, beats to the next
    chord (0: no next one), root and family of the current and the next chord (from 1; 0: none), and the role of each
    pitch class in the chord. Sizes as in `form_sizes`."""
    steps = np.arange(form.length + 1)
    origin, bar, beat = np.full(len(steps), form.upbeat), np.zeros_like(steps), np.zeros_like(steps)
    for start, metre in [(0, form.metre), *form.changes]:
        bar[start:], beat[start:] = bar_and_beat(metre, steps_per_beat)
        if start:
            origin[start:] = start
    in_bar = (steps - origin) % bar
    out = np.zeros((len(steps), len(form_sizes(steps_per_beat))), dtype=np.int64)
    out[:, 0], out[:, 1] = in_bar + 1, np.minimum(in_bar % beat, 2 * steps_per_beat - 1) + 1
    out[:, 2] = (steps - origin) // bar % BARS
    out[:, 3] = np.minimum(-(-(form.length - steps) // bar), MOST_LEFT)
    spans = form.spans()
    for index, (start, end, root, family) in enumerate(spans):
        here = slice(start, end)
        after = next((span for span in spans[index + 1 :] if span[2:] != (root, family)), None)
        if after:
            out[here, 4] = np.clip(-(-(after[0] - steps[here]) // steps_per_beat), 1, MOST_AHEAD)
            if after[3] != NO_CHORD:
                out[here, 7], out[here, 8] = after[2] + 1, after[3] + 1
        if family != NO_CHORD:
            out[here, 5], out[here, 6] = root + 1, family + 1
            out[here, 9:] = _roles(root, family)
    return out


def _roles(root: int, family: int) -> list[int]:
    chord = Chord(0, 1, root, FAMILIES[family])
    tones, scale = chord_tones(chord), chord_scale(chord)
    return [ROOT if c == root else TONE if c in tones else SCALE if c in scale else OUTSIDE for c in range(12)]


assert set(FAMILY_OF) == set(KINDS)  # every kind needs a family
