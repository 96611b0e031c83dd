"""The key of a score, and how pitches are spelled in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.score import Score

if TYPE_CHECKING:
    from music21 import key


def estimate_key(score: Score) -> key.Key:
    """The key that music21 finds (Krumhansl and Schmuckler's profiles); of enharmonic spellings the one with fewer
    accidentals; C major for silence."""
    from music21 import key, note, stream

    flat = stream.Stream()
    for part in score.parts:
        for n in part.notes if part.role != "drums" else ():
            flat.insert(n.start, note.Note(n.pitch, quarterLength=n.duration))
    found = flat.analyze("key") if len(flat) else key.Key("C")
    return found if abs(found.sharps) <= 6 else key.Key(found.tonic.getEnharmonic().name, found.mode)


def spelling(sharps: int, mode: str) -> dict[int, str]:
    """Pitch class → name in music21's spelling (B-flat is B-), for a key of `sharps` sharps (flats are negative).

    The names are twelve neighbours on the line of fifths around the key. In minor they include the raised 6th and 7th:
    the leading tone of C minor is B and that of G♯ minor is F𝄪.
    """
    lowest = sharps - (2 if mode == "minor" else 3)
    names = {}
    for fifths in range(lowest, lowest + 12):  # C = 0, G = 1, F = -1 …
        letter, alteration = "FCGDAEB"[(fifths + 1) % 7], (fifths + 1) // 7
        names[fifths * 7 % 12] = letter + ("#" * alteration if alteration > 0 else "-" * -alteration)
    return names
