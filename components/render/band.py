"""A rule-based accompaniment: walking bass and comping piano from a score's chord symbols.

The bass is the cheapest path through a graph of (beat, pitch), with costs from jazz textbooks: the root where a chord
begins, chord tones on strong beats, a step or a fifth into the next root. The piano plays rootless voicings with
minimal voice movement. The same score, style and seed give the same notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from components.errors import UserError, unknown
from components.harmony import KINDS, chord_scale, chord_tones, strong_steps
from components.render.layout import bars, beat_steps
from components.score import Chord, Note, Part, Score

Style = Literal["swing", "straight", "folk"]
BASS_RANGE = (28, 60)  # E1 to C4
PIANO_RANGE = (50, 74)  # D3 to D5
_BASS_CENTRE, _PIANO_CENTRE = 41.0, 62.0
_GRID = 12  # steps in a quarter note: divisible into triplets (swing) and sixteenths
_MOST_STEPS = 1_000_000
_ACOUSTIC_BASS, _PIANO = 32, 0  # General MIDI programs

# The piano's rhythms in a bar: (beat, on its second half?, length in beats). The first is the Charleston.
_RHYTHMS: dict[int, tuple[tuple[tuple[int, bool, float], ...], ...]] = {
    4: (
        ((0, False, 0.9), (1, True, 0.5)),
        ((0, True, 0.5), (2, True, 0.5)),
        ((1, False, 0.6), (3, False, 0.4)),
        ((0, False, 1.8), (2, True, 1.2)),
        ((1, True, 1.2), (3, True, 0.5)),
        ((0, True, 1.5), (3, False, 0.4)),
    ),
    3: (((0, False, 0.9), (1, True, 0.5)), ((1, False, 0.5), (2, False, 0.5)), ((0, False, 0.5), (1, True, 1.2))),
    2: (((0, False, 0.9), (1, True, 0.4)), ((0, True, 0.5),), ((1, False, 0.8),)),
}


@dataclass(frozen=True)
class _Beat:
    """A beat with a chord."""

    start: int
    end: int  # of the beat or of its chord, whichever is first
    strong: bool
    first: bool  # the chord begins here
    in_bar: int  # counted from 0
    length: int  # steps of a beat in this bar
    chord: Chord
    into: Chord | None  # the chord that begins where this beat ends


def accompaniment(score: Score, style: Style = "swing", seed: int = 0) -> Score:
    """The score with a bass and a piano part added that follow its chords.

    "swing": walking bass, off-beats at two thirds of the beat; "straight": the same with even eighths; "folk": root and
    fifth, with a chord after each. The grid becomes 12 steps a beat where that is exact. The band rests where there is
    no chord.

    Raises:
        UserError: there are no chords, or the style is unknown.
    """
    if style not in get_args(Style):
        raise unknown("style", str(style), get_args(Style), where="accompaniment")
    if not score.chords:
        raise UserError(
            "there are no chords to accompany", where="accompaniment", hint='give chords, e.g. "blues in F"'
        )
    score = _finer(score)
    chords = _in_order(score.chords)
    score = replace(score, chords=chords, length_steps=max(score.length_steps, chords[-1].start + chords[-1].duration))
    rng = np.random.Generator(np.random.PCG64(seed))
    beats = _beats(score)
    bass = _oompah(beats) if style == "folk" else _walk(beats, score, style, rng)
    piano = _afterbeats(beats, score) if style == "folk" else _comp(beats, score, style, rng)
    band = (
        Part("Piano", tuple(piano), program=_PIANO, role="chords"),
        Part("Bass", tuple(bass), program=_ACOUSTIC_BASS, role="bass"),
    )
    return replace(score, parts=(*score.parts, *band))


def _finer(score: Score) -> Score:
    """The score on a grid of 12 steps a quarter, if its own grid divides that, so that swing can be notated."""
    times, rest = divmod(_GRID, score.steps_per_beat)
    if rest or times == 1:
        return score

    def stretch(event: Note | Chord) -> Note | Chord:
        return replace(event, start=event.start * times, duration=event.duration * times)

    return replace(
        score,
        parts=tuple(replace(part, notes=tuple(map(stretch, part.notes))) for part in score.parts),
        chords=tuple(map(stretch, score.chords)),
        steps_per_beat=_GRID,
        upbeat_steps=score.upbeat_steps * times,
        length_steps=score.length_steps * times,
        metre_changes=tuple((step * times, metre) for step, metre in score.metre_changes),
    )


def _in_order(chords: Sequence[Chord]) -> tuple[Chord, ...]:
    """The chords by time, without overlaps."""
    ordered = sorted(chords)
    if ordered[0].start < 0 or ordered[-1].start + ordered[-1].duration > _MOST_STEPS:
        raise UserError("chords begin before the piece or last too long", where="accompaniment")
    ends = [*(chord.start for chord in ordered[1:]), _MOST_STEPS]
    cut = (replace(c, duration=min(c.duration, end - c.start)) for c, end in zip(ordered, ends, strict=True))
    return tuple(chord for chord in cut if chord.duration > 0)


def _beats(score: Score) -> list[_Beat]:
    """Every beat with a chord, and every chord that begins between beats; in order."""
    beats: list[_Beat] = []
    by_start = {chord.start: chord for chord in score.chords}
    index = 0
    for bar in bars(score):
        strong = strong_steps(bar.metre, bar.full)
        grid = {step for step in range(bar.origin, bar.end, bar.beat) if step >= bar.start}
        points = sorted(grid | {start for start in by_start if bar.start <= start < bar.end})
        for start, stop in pairwise([*points, bar.end]):
            while score.chords[index].start + score.chords[index].duration <= start and index + 1 < len(score.chords):
                index += 1
            chord = score.chords[index]
            if not chord.start <= start < chord.start + chord.duration:
                continue
            stop = min(stop, chord.start + chord.duration)
            is_strong = start - bar.origin in strong or start == chord.start
            place = (start - bar.origin) // bar.beat
            beats.append(
                _Beat(start, stop, is_strong, start == chord.start, place, bar.beat, chord, by_start.get(stop))
            )
    return beats


def _walk(beats: Sequence[_Beat], score: Score, style: Style, rng: np.random.Generator) -> list[Note]:
    """One note a beat along the cheapest path; sometimes a short pick-up on the off-beat."""
    low, high = BASS_RANGE
    pitches = np.arange(low, high + 1)
    leap = _leaps(pitches)
    costs = [_cost(beat, pitches) + rng.uniform(0, 0.9, len(pitches)) for beat in beats]
    total, came = costs[0], []
    for before, beat, cost in zip(beats[:-1], beats[1:], costs[1:], strict=True):
        step = leap + (_approach(pitches, before) if beat.first and not before.strong else 0.0)
        through = total[:, None] + step
        came.append(through.argmin(axis=0))
        total = through.min(axis=0) + cost
    path = [int(total.argmin())]
    for best in reversed(came):
        path.append(int(best[path[-1]]))
    line = [int(pitches[index]) for index in reversed(path)]
    notes = []
    for index, (beat, pitch) in enumerate(zip(beats, line, strict=True)):
        off = beat.start + _off_beat(score, beat.length, style)
        pick_up = (
            rng.random() < 0.1 and off < beat.end and index + 1 < len(beats) and beats[index + 1].start == beat.end
        )
        velocity = (88 if beat.in_bar % 2 else 82) + int(rng.integers(-4, 5))
        notes.append(Note(beat.start, (off if pick_up else beat.end) - beat.start, pitch, velocity))
        if pick_up:
            notes.append(Note(off, beat.end - off, pitch, 62))
    return notes


def _cost(beat: _Beat, pitches: np.ndarray) -> np.ndarray:
    """Cost of each pitch on the beat, float64 [P]; infinite where it isn't allowed."""
    tones, scale = chord_tones(beat.chord), chord_scale(beat.chord)
    lowest = beat.chord.root if beat.chord.bass is None else beat.chord.bass
    cost = np.abs(pitches - _BASS_CENTRE) / 12
    cost += 1.5 * np.maximum(0, pitches - 53) / 7  # above F3 the bass sounds thin
    pitch_class = pitches % 12
    tone, diatonic = np.isin(pitch_class, sorted(tones)), np.isin(pitch_class, sorted(scale))
    fifth = (pitch_class - beat.chord.root) % 12 == 7
    if beat.first:
        return np.where(pitch_class == lowest, cost, np.inf)
    if beat.strong:
        return np.where(tone, cost + np.where(fifth, 0.0, np.where(pitch_class == lowest, 0.5, 0.1)), np.inf)
    if beat.into is not None:
        return cost + np.where(tone | diatonic, 0.0, 0.4)  # an approach note: see `_approach`
    return cost + np.where(tone, 0.0, np.where(diatonic, 0.3, 2.5))


def _leaps(pitches: np.ndarray) -> np.ndarray:
    """Cost of a move from one pitch to another, float64 [P, P]."""
    sizes = np.abs(pitches[:, None] - pitches[None, :])
    by_size = np.array([2.5, 0.1, 0.2, 0.1, 0.2, 0.4, 1.4, 0.7, 1.2, 1.4, 2.0, 2.4, 1.1])
    return np.where(sizes <= 12, by_size[np.minimum(sizes, 12)], 6.0)


def _approach(pitches: np.ndarray, before: _Beat) -> np.ndarray:
    """Cost of a move to the next chord's first note, float64 [P, P]: a half step, a scale step or a fifth."""
    sizes = np.abs(pitches[:, None] - pitches[None, :])
    scale = np.isin(pitches % 12, sorted(chord_scale(before.chord)))[:, None]
    step = np.where(sizes == 1, -0.6, np.where((sizes == 2) & scale, -0.4, 1.2))
    return np.where(np.isin(sizes, (5, 7)) & scale, 0.0, step)


def _oompah(beats: Sequence[_Beat]) -> list[Note]:
    """Root and fifth on the strong beats."""
    notes: list[Note] = []
    fifth_next = False
    for beat in beats:
        if not (beat.strong or beat.in_bar == 0):
            continue
        fifth_next = fifth_next and not beat.first
        root = beat.chord.root if beat.chord.bass is None else beat.chord.bass
        fifth = next((t for t in (7, 6, 8) if t in KINDS[beat.chord.kind].tones), 0) if fifth_next else None
        pitch = 36 + (root - 36) % 12 if fifth is None else 36 + (beat.chord.root + fifth - 36) % 12
        notes.append(Note(beat.start, beat.end - beat.start, pitch, 84))
        fifth_next = not fifth_next
    return notes


def _afterbeats(beats: Sequence[_Beat], score: Score) -> list[Note]:
    """The chord on every weak beat, and late in a strong one after which the chord changes."""
    notes: list[Note] = []
    voicing: tuple[int, ...] = ()
    for beat in beats:
        start = beat.start
        if beat.strong:
            compound = 2 * beat.length == 3 * score.steps_per_beat
            start += beat.length * 2 // 3 if compound else beat.length // 2
            if beat.into is None or start >= beat.end:
                continue
        voicing = voice(beat.chord, voicing)
        notes += [Note(start, max(1, (beat.end - start) * 2 // 3), pitch, 60) for pitch in voicing]
    return notes


def _comp(beats: Sequence[_Beat], score: Score, style: Style, rng: np.random.Generator) -> list[Note]:
    """One rhythm per bar, never the same twice in a row; a chord that no stroke falls on is played where it begins."""
    length = beat_steps(score)
    end = beats[-1].end
    strokes: dict[int, int] = {}  # start → nominal length
    previous = -1
    for bar in bars(score):
        patterns = _RHYTHMS.get(bar.full // bar.beat, (((0, False, 0.9),),)) if bar.number else ()
        if patterns:
            previous = (previous + int(rng.integers(1, max(2, len(patterns))))) % len(patterns)
            for beat, off, beats_long in patterns[previous]:
                start = bar.start + beat * bar.beat + (_off_beat(score, bar.beat, style) if off else 0)
                if start < bar.end:  # a bar before a change of the metre may be cut
                    strokes[start] = max(1, round(beats_long * bar.beat))
    met = {_struck(score.chords, start, length) for start in strokes}
    for chord in score.chords:
        if chord not in met:
            strokes[chord.start] = max(1, min(length, chord.duration) * 9 // 10)
    notes: list[Note] = []
    voicing: tuple[int, ...] = ()
    starts = sorted(strokes)
    for start, after in zip(starts, [*starts[1:], end], strict=True):
        chord = _struck(score.chords, start, length)
        if chord is None:
            continue
        # an anticipated chord sounds into its own beat
        stop = min(start + strokes[start], after, chord.start + chord.duration, end)
        if stop > start:
            voicing = voice(chord, voicing)
            velocity = 58 + int(rng.integers(-5, 6))
            notes += [Note(start, stop - start, pitch, velocity) for pitch in voicing]
    return notes


def _struck(chords: Sequence[Chord], start: int, beat: int) -> Chord | None:
    """The chord for a stroke: the current one, or one that begins within half a beat after it."""
    here = next((c for c in chords if c.start <= start < c.start + c.duration), None)
    soon = next((c for c in chords if start < c.start <= start + beat // 2), None)
    return here if here is None or soon is None else soon


def voice(chord: Chord, before: Sequence[int] = ()) -> tuple[int, ...]:
    """Three or four pitches for the piano in close position, low to high, nearest to the voicing `before`.

    The bass plays the root: sevenths and sixths replace it by the ninth, richer chords leave it out.
    """
    tones = list(KINDS[chord.kind].tones)
    if chord.kind in ("7", "m7", "maj7", "6", "m6"):
        tones = [*tones[1:], 2]
    elif len(tones) > 4:
        tones = [tone for tone in tones if tone != 0]
        tones = [tone for tone in tones if tone != 7] if len(tones) > 4 else tones
    classes = sorted({(chord.root + tone) % 12 for tone in tones[:4]})
    low, high = PIANO_RANGE
    candidates = []
    for turn in range(len(classes)):
        for bottom in (p for p in range(low, high + 1) if p % 12 == classes[turn]):
            order = [*classes[turn:], *classes[:turn]]
            pitches = tuple(bottom + (pitch_class - order[0]) % 12 for pitch_class in order)
            if pitches[-1] <= high:
                candidates.append(pitches)
    return min(candidates, key=lambda pitches: (_movement(before, pitches), pitches))


def _movement(before: Sequence[int], after: Sequence[int]) -> float:
    """Semitones that the voices move in total; the top voice counts more, and the middle of the range is preferred."""
    drift = abs(sum(after) / len(after) - _PIANO_CENTRE)
    if not before:
        return drift
    nearest = sum(min(abs(pitch - other) for other in before) for pitch in after)
    return nearest + abs(after[-1] - before[-1]) + 0.25 * drift


def _off_beat(score: Score, length: int, style: Style) -> int:
    """Steps from a beat to its off-beat: half a beat, or two thirds in swing if the beat is a quarter."""
    if style != "swing" or length != score.steps_per_beat:
        return max(1, length // 2)
    return max(1, round(length * 2 / 3))
