"""The melodic lines of a score that are judged, and the positions of their notes."""

from __future__ import annotations

from bisect import bisect_right

from components.score import Note, Part, Score


def judged_parts(score: Score) -> list[Part]:
    """The melody if one is named, else all parts except an accompaniment's."""
    melody = [part for part in score.parts if part.role == "melody"]
    own = [part for part in score.parts if part.role not in ("chords", "bass", "drums")]
    return melody or own or list(score.parts)


def lines(score: Score) -> list[list[Note]]:
    """The judged parts as monophonic lines: of notes that begin together, the highest."""
    found = []
    for part in judged_parts(score):
        top = {note.start: note for note in sorted(part.notes, key=lambda note: (note.start, note.pitch))}
        found.append(list(top.values()))
    return [line for line in found if line]


def pitch_class_times(score: Score) -> list[int]:
    """The sounding time of each pitch class, in steps."""
    times = [0] * 12
    for line in lines(score):
        for note in line:
            times[note.pitch % 12] += note.duration
    return times


def place(score: Score, step: int) -> tuple[int, int, tuple[int, int]]:
    """(first step of the step's bar, position in the bar, metre), with changes of the metre."""
    starts = [(score.upbeat_steps, score.metre), *score.metre_changes]
    first, metre = starts[max(0, bisect_right([start for start, _ in starts], step) - 1)]
    bar = bar_steps(score, metre)
    return (first + (step - first) // bar * bar, (step - first) % bar, metre)


def bar_steps(score: Score, metre: tuple[int, int]) -> int:
    """Steps in a bar of the metre."""
    return metre[0] * 4 * score.steps_per_beat // metre[1] or 1
