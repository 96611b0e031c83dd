"""Small piano pieces composed by rules: a chord progression, a melody in phrases, and an accompaniment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNIT = 12  # steps in a quarter note
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
# degrees of the scale (0 = tonic) that may follow each, as in a harmony textbook
_NEXT = {0: (3, 4, 5, 1, 0), 1: (4, 4, 4), 3: (4, 0, 1, 4), 4: (0, 5, 0, 0), 5: (3, 1, 4), 2: (5, 3)}
STYLES = ("song", "waltz", "alberti", "arpeggio", "chorale")
# rhythms of a bar of melody in eighths, by the number of eighths in the bar
_RHYTHMS = {
    8: ((4, 4), (4, 2, 2), (2, 2, 2, 2), (3, 1, 4), (2, 2, 4), (3, 1, 2, 2), (2, 1, 1, 4), (6, 2), (1, 1, 2, 4)),
    6: ((4, 2), (2, 2, 2), (3, 1, 2), (2, 4), (1, 1, 2, 2), (4, 1, 1)),
}


@dataclass(frozen=True, order=True)
class Written:
    """A note of the score. `start` and `duration` in steps; `hand`: 0 the melody, 1 inner notes, 2 the bass."""

    start: int
    duration: int
    pitch: int
    hand: int


@dataclass(frozen=True)
class Piece:
    """A composed piece. `harmonies`: the step at which each begins; `phrase`: steps of a phrase."""

    notes: tuple[Written, ...]
    harmonies: tuple[int, ...]
    length: int
    phrase: int
    bar: int
    tonic: int
    style: str


def compose(rng: np.random.Generator) -> Piece:
    """A piece of two or four phrases of four bars: A A', or A A' B A'."""
    style = STYLES[int(rng.integers(len(STYLES)))]
    eighths = 6 if style == "waltz" else 8
    bar = eighths * UNIT // 2
    tonic, scale = int(rng.integers(-5, 7)), MAJOR if rng.random() < 0.6 else MINOR
    form = "AB" if rng.random() < 0.5 else "ABCB"
    phrases = {}
    opening = _progression(rng)
    for letter in "ABC":
        degrees = [*opening[:3], 4] if letter == "A" else [*opening[:2], 4, 0] if letter == "B" else _progression(rng)
        rhythms = [_RHYTHMS[eighths][int(rng.integers(len(_RHYTHMS[eighths])))] for _ in range(2)]
        phrases[letter] = (degrees, [rhythms[n % 2] for n in range(3)] + [(eighths,) if letter == "B" else rhythms[0]])
    tunes: dict[str, list[Written]] = {}
    notes: list[Written] = []
    harmonies: list[int] = []
    for place, letter in enumerate(form):
        degrees, rhythms = phrases[letter]
        begin = place * 4 * bar
        if letter not in tunes:
            tunes[letter] = _melody(degrees, rhythms, bar, scale, rng, like=tunes.get("A") if letter == "B" else None)
        notes += [Written(begin + n.start, n.duration, n.pitch + tonic, 0) for n in tunes[letter]]
        last = place == len(form) - 1
        for number, degree in enumerate(degrees):
            at = begin + number * bar
            harmonies.append(at)
            ends = last and number == 3
            notes += [
                Written(at + n.start, n.duration, n.pitch + tonic, n.hand)
                for n in _accompaniment("chorale" if ends else style, degree, scale, bar)
            ]
    length = len(form) * 4 * bar
    return Piece(tuple(sorted(notes)), tuple(harmonies), length, 4 * bar, bar, tonic, style)


def _progression(rng: np.random.Generator) -> list[int]:
    degrees = [0]
    while len(degrees) < 4:
        choices = _NEXT[degrees[-1]]
        degrees.append(choices[int(rng.integers(len(choices)))])
    return degrees


def _pitch(degree: int, scale: tuple[int, ...], dominant: bool = False) -> int:
    """Semitones of a degree above the tonic; degrees continue over the octave. In minor, the leading tone of a dominant
    is raised."""
    octave, step = divmod(degree, 7)
    return 12 * octave + scale[step] + int(dominant and step == 6 and scale is MINOR)


def _melody(
    degrees: list[int], rhythms: list[tuple[int, ...]], bar: int, scale: tuple[int, ...], rng: np.random.Generator,
    like: list[Written] | None,
) -> list[Written]:  # fmt: skip
    """Four bars: chord tones on strong beats, steps between them. The first two bars may be taken from another
    phrase."""
    found: list[Written] = []
    place = int(rng.integers(7, 12))  # in degrees above the tonic
    for number, (degree, rhythm) in enumerate(zip(degrees, rhythms, strict=True)):
        if like is not None and number < 2:
            found += [note for note in like if number * bar <= note.start < (number + 1) * bar]
            continue
        at = number * bar
        for index, length in enumerate(rhythm):
            if index == 0 or length >= 4:
                tones = [d for d in range(5, 15) if (d - degree) % 7 in (0, 2, 4)]
                place = min(tones, key=lambda tone: abs(tone - place - int(rng.integers(-2, 3))))
            else:
                place = int(np.clip(place + int(rng.choice([-1, 1, -1, 1, 2, -2])), 4, 15))
            if number == 3 and index == len(rhythm) - 1 and degree == 0:
                place = 7
            found.append(Written(at, length * UNIT // 2, 60 + _pitch(place, scale, degree == 4), 0))
            at += length * UNIT // 2
    return found


def _accompaniment(style: str, degree: int, scale: tuple[int, ...], bar: int) -> list[Written]:
    """A bar of accompaniment on the degree's triad."""
    bass = 36 + _pitch(degree, scale) + (12 if _pitch(degree, scale) < 5 else 0)
    chord = sorted(48 + (_pitch(degree + third, scale, degree == 4)) % 12 for third in (0, 2, 4))
    eighth = UNIT // 2
    if style == "waltz":
        after = [Written(beat * UNIT, UNIT, pitch, 1) for beat in (1, 2) for pitch in chord]
        return [Written(0, UNIT, bass, 2), *after]
    if style == "alberti":
        order = (0, 2, 1, 2)
        return [Written(n * eighth, eighth, chord[order[n % 4]], 2 if n == 0 else 1) for n in range(bar // eighth)]
    if style == "arpeggio":
        up = [bass, *chord, chord[0] + 12, *chord[::-1]]
        return [Written(n * eighth, eighth, up[n % len(up)], 2 if n == 0 else 1) for n in range(bar // eighth)]
    if style == "song":
        beats = [Written(beat * UNIT, UNIT, pitch, 1) for beat in range(1, bar // UNIT) for pitch in chord]
        return [Written(0, bar, bass, 2), *beats]
    return [Written(0, bar, bass, 2), *(Written(0, bar, pitch, 1) for pitch in chord)]
