"""Warnings about a piece that a lead sheet can't hold exactly."""

from __future__ import annotations

from collections.abc import Iterable

from components.encodings.form import FAMILIES, FAMILY_OF
from components.encodings.lead_sheet.melody import melody_of
from components.encodings.lead_sheet.signs import HIGHEST, LOWEST
from components.score import Chord, Score

FAR = 1.25  # ratio of two tempi from which the difference is told


def doubts(given: Score, kept: Score, semitones: int) -> list[str]:
    """What differs between the given piece and the piece that is `kept` of it, written so many semitones lower."""
    found, line = [], melody_of(given)
    count, total = len(kept.parts[0].notes), sum(len(part.notes) for part in given.parts)
    if total > count:
        found.append(f"only the melody is read, one note at a time: {count:,} of {total:,} notes")
    if moved := sum(not LOWEST <= note.pitch - semitones <= HIGHEST for note in line):
        found.append(f"{moved} of {len(line)} notes are outside a piano's range and are moved by octaves")
    if given.metre != kept.metre:
        found.append("its metre, {}/{}, is read as {}/{}".format(*given.metre, *kept.metre))
    if max(given.tempo_bpm, kept.tempo_bpm) > FAR * min(given.tempo_bpm, kept.tempo_bpm):
        found.append(f"its tempo, {given.tempo_bpm:g}, is read as {kept.tempo_bpm:g} quarter notes per minute")
    return found + of_chords(given.chords)


def of_chords(chords: Iterable[Chord]) -> list[str]:
    """What is lost of chord symbols: bass notes, and kinds that their families stand for."""
    total = over = others = 0
    for chord in chords:
        total += 1
        over += chord.bass is not None
        others += FAMILIES[FAMILY_OF[chord.kind]] != chord.kind
    found = [f"chord symbols that lose their bass note (C/G is kept as C): {over:,} of {total:,}"] * bool(over)
    return found + [f"chord symbols kept as a simpler kind (Cm9 as Cm7): {others:,} of {total:,}"] * bool(others)
