"""Counts of voice-leading faults in four parts: parallel fifths and octaves, wide spacing, crossed voices."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import numpy as np

from components.score import Score

VOICES = 4
FAULTS = ("parallel_fifths", "parallel_octaves", "wide_spacing", "crossed_voices")
_SILENT = -1


def faults(score: Score) -> Counter[str]:
    """How often each of FAULTS occurs in a score of four parts, the highest voice first.

    Checked at all moments when a voice begins or ends a note, and between successive moments. Parallels:
    two voices move in the same direction from a perfect fifth to a perfect fifth, or from an octave or unison to one.
    Spacing: more than an octave between soprano and alto or alto and tenor. Crossing: a higher voice below a lower one.
    The last two count once per note, at its beginning.
    """
    found = Counter(dict.fromkeys(FAULTS, 0))
    moments, begins = _moments(score)
    for high, low in combinations(range(VOICES), 2):
        upper, lower = moments[:, high], moments[:, low]
        sound = (upper != _SILENT) & (lower != _SILENT)
        starts = sound & (begins[:, high] | begins[:, low])
        apart = upper - lower
        found["crossed_voices"] += int((starts & (apart < 0)).sum())
        if low == high + 1 and low < VOICES - 1:
            found["wide_spacing"] += int((starts & (apart > 12)).sum())
        moved = sound[1:] & sound[:-1] & (np.sign(np.diff(upper)) * np.sign(np.diff(lower)) > 0)
        for name, interval in (("parallel_fifths", 7), ("parallel_octaves", 0)):
            same = (apart[1:] % 12 == interval) & (apart[:-1] % 12 == interval)
            found[name] += int((moved & same).sum())
    return found


def _moments(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """The pitch of each voice, int64 [M, 4], and whether it begins a note, bool [M, 4], at each of the M moments."""
    if len(score.parts) != VOICES:
        raise ValueError(f"{len(score.parts)} parts where voice leading is about four")
    notes = [note for part in score.parts for note in part.notes]
    steps = np.array(sorted({edge for n in notes for edge in (n.start, n.start + n.duration)}), dtype=np.int64)
    index = {int(step): row for row, step in enumerate(steps)}
    pitches = np.full((len(steps), VOICES), _SILENT, dtype=np.int64)
    begins = np.zeros((len(steps), VOICES), dtype=bool)
    for voice, part in enumerate(score.parts):
        for note in part.notes:
            first, last = index[note.start], index[note.start + note.duration]
            pitches[first:last, voice] = note.pitch
            begins[first, voice] = True
    return pitches, begins


def is_four_part(score: Score) -> bool:
    """Whether a score has four monophonic voices."""
    return len(score.parts) == VOICES and all(
        a.start + a.duration <= b.start for part in score.parts for a, b in pairwise(sorted(part.notes))
    )
