"""Swing: even eighths played with the second of a pair later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from components.score import Note, Score

LATE = Fraction(2, 3)  # position of the second eighth in the beat
MOST_TRIPLETS = 8  # triplet beats (quarter + eighth) that a piece without swing may have


def swung(score: Score) -> Score:
    """The score with each off-beat eighth moved to two thirds of its beat.

    Only beats divided in two are changed, in metres whose beat is a quarter: triplets and sixteenths stay. A grid
    without thirds of a beat stays even.
    """
    beat = score.steps_per_beat
    late = LATE * beat
    if score.metre[1] != 4 or late.denominator != 1 or beat % 2:
        return score
    origin = score.upbeat_steps % beat
    return replace(
        score,
        parts=tuple(replace(part, notes=_swung(part.notes, origin, beat, int(late))) for part in score.parts),
    )


def evened(score: Score) -> Score:
    """The score as swing is notated: late second eighths become even, note ends move to the nearest eighth.

    Beats in which a part begins notes elsewhere (triplets, sixteenths) stay. A score that swings in fewer than half of
    the beats divided in two is returned unchanged.
    """
    beat, half = score.steps_per_beat, score.steps_per_beat // 2
    if score.metre[1] != 4 or beat % 2:
        return score
    origin = score.upbeat_steps % beat
    starts = [_places((note.start for note in part.notes), origin, beat) for part in score.parts]
    divided = [inner for part in starts for inner in (found - {0} for found in part.values()) if len(inner) == 1]
    swings = sum(half < place <= LATE * beat for (place,) in divided)
    if swings < MOST_TRIPLETS or 2 * swings < len(divided):
        return score

    def even(notes: Sequence[Note], starts: dict[int, set[int]]) -> tuple[Note, ...]:
        def eighths(beat_number: int) -> bool:
            return all(place == 0 or half <= place <= LATE * beat for place in starts.get(beat_number, ()))

        def moved(step: int, least: int = 0) -> int:
            number, place = divmod(step - origin, beat)
            if not place or not eighths(number):
                return step
            late = place > LATE * beat if least else False  # only the end of a note may move to the next beat
            return max(step - place + (beat if late else half if place >= half // 2 + 1 else 0), least)

        return tuple(
            replace(n, start=(start := moved(n.start)), duration=moved(n.start + n.duration, start + half) - start)
            for n in notes
        )

    parts = zip(score.parts, starts, strict=True)
    return replace(score, parts=tuple(replace(part, notes=even(part.notes, found)) for part, found in parts))


def _swung(notes: Sequence[Note], origin: int, beat: int, late: int) -> tuple[Note, ...]:
    ends = (step for note in notes for step in (note.start, note.start + note.duration))
    places = _places(ends, origin, beat)

    def moved(step: int) -> int:
        number, place = divmod(step - origin, beat)
        return step - place + late if place == beat // 2 and places[number] <= {0, place} else step

    return tuple(
        replace(note, start=(start := moved(note.start)), duration=moved(note.start + note.duration) - start)
        for note in notes
    )


def _places(steps: Iterable[int], origin: int, beat: int) -> dict[int, set[int]]:
    """Beat → positions of the steps in it."""
    places: dict[int, set[int]] = defaultdict(set)
    for step in steps:
        places[(step - origin) // beat].add((step - origin) % beat)
    return places
