"""Even eighths as they are played in swing: the second of a pair comes later."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

from components.score import Note, Score

LATE = Fraction(2, 3)  # of the beat, where the second eighth falls


def swung(score: Score) -> Score:
    """The score with the second half of each beat at two thirds of it.

    Only beats that are divided in two are changed, in metres whose beat is a quarter: triplets and sixteenths stay as
    they are written. A grid without thirds of a beat stays even.
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


def _swung(notes: tuple[Note, ...], origin: int, beat: int, late: int) -> tuple[Note, ...]:
    places: dict[int, set[int]] = defaultdict(set)  # beat → where in it notes begin or end
    for note in notes:
        for step in (note.start, note.start + note.duration):
            places[(step - origin) // beat].add((step - origin) % beat)

    def moved(step: int) -> int:
        number, place = divmod(step - origin, beat)
        return step - place + late if place == beat // 2 and places[number] <= {0, place} else step

    return tuple(
        replace(note, start=(start := moved(note.start)), duration=moved(note.start + note.duration) - start)
        for note in notes
    )
