"""Even eighths as they are played in swing: the second of a pair comes later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from components.score import Note, Score

LATE = Fraction(2, 3)  # of the beat, where the second eighth falls
MOST_TRIPLETS = 8  # beats of a quarter and an eighth in a triplet that a piece without swing may have


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


def evened(score: Score) -> Score:
    """The score as swing is written down: its late second eighths as even ones, note ends on the nearest eighth.

    Beats in which a part begins notes elsewhere (triplets, sixteenths) stay as they are. A score that swings in fewer
    than half of the beats that are divided in two is given back itself.
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
            late = place > LATE * beat if least else False  # only an end may be nearer to the next beat
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
    """Beat → where in it the steps lie."""
    places: dict[int, set[int]] = defaultdict(set)
    for step in steps:
        places[(step - origin) // beat].add((step - origin) % beat)
    return places
