"""The melody of a score, one note at a time on a grid."""

from __future__ import annotations

from fractions import Fraction

from components.encodings.lead_sheet.signs import HIGHEST, LOWEST
from components.score import Note, Score


def melody_of(score: Score) -> tuple[Note, ...]:
    """The notes of the part with the role `melody`, else of the first part with notes."""
    with_notes = [part for part in score.parts if part.notes]
    parts = [part for part in with_notes if part.role == "melody"] or with_notes
    return tuple(parts[0].notes) if parts else ()


def line_of(score: Score, scale: Fraction | int, semitones: int) -> list[Note]:
    """The melody on a grid `scale` times as fine, monophonic, so many semitones lower, in a piano's range."""
    line: list[Note] = []
    for note in sorted(melody_of(score), key=lambda note: (note.start, note.pitch)):
        start = round(note.start * scale)
        end = max(start + 1, round((note.start + note.duration) * scale))
        pitch = note.pitch - semitones
        if not LOWEST <= pitch <= HIGHEST:
            pitch += 12 * (-((pitch - LOWEST) // 12) if pitch < LOWEST else (HIGHEST - pitch) // 12)
        if line and line[-1].start == start:
            line.pop()
        elif line and line[-1].start + line[-1].duration > start:
            line[-1] = Note(line[-1].start, start - line[-1].start, line[-1].pitch)
        line.append(Note(start, end - start, pitch))
    return line
