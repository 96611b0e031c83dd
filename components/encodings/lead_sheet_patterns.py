"""What followed when the melody last went as it goes now, in whatever key: interval patterns that come back.

A soloist returns to patterns rather than to bars: a line of the same intervals, from another note, at another place in
the bar. E events of a melody (notes, rests, ties), N notes of them, T tokens.
"""

from __future__ import annotations

import numpy as np

from components.encodings.copying import match_class
from components.encodings.lead_sheet_signs import Places, Signs
from components.encodings.vocabulary import PAD

LONGEST = 8  # intervals that are compared
_APART = 1 << 10  # more than two intervals differ


def pattern_copies(signs: Signs, ids: np.ndarray, places: Places) -> tuple[np.ndarray, np.ndarray]:
    """For each of the ids [T] the candidate and the class of its match, int64 [T] both, as `Encoding.copies` has them.

    The intervals up to the latest note are looked for in the melody before it; the longest stretch of them that was
    there counts, of several the latest. The candidate is what followed there: a note as far from the latest note as it
    was there, a rest, a tie; and after that its length there. The match is as long as the stretch; where what was
    written isn't the candidate, its length is one without a match.
    """
    candidates_T, classes_T = np.full(len(ids), PAD, dtype=np.int64), np.zeros(len(ids), dtype=np.int64)
    inside = places.head & places.inside
    heads_E = np.flatnonzero(inside)
    notes_N = np.flatnonzero(ids[heads_E] >= signs.pitch0)
    if len(notes_N) < 3:
        return candidates_T, classes_T
    pitch_N = ids[heads_E[notes_N]]
    source_N, longest_N = returns(np.diff(pitch_N))
    source_N, longest_N = np.append(0, source_N + 1), np.append(0, longest_N)
    # of the event after the first e, with e from 1 to E: the latest note before it, and the event that it may repeat
    number_E = np.arange(1, len(heads_E) + 1)
    note_E = np.searchsorted(notes_N, number_E) - 1
    known_E = (note_E >= 0) & (longest_N[note_E] > 0)
    from_E = source_N[note_E]
    there_E = notes_N[from_E] + number_E - notes_N[note_E]
    known_E &= there_E <= notes_N[np.minimum(from_E + 1, len(notes_N) - 1)]
    at_E = heads_E[np.where(known_E, there_E, 0)]
    token_E, length_E = ids[at_E], ids[np.minimum(at_E + 1, len(ids) - 1)]
    moved_E = token_E + pitch_N[note_E] - pitch_N[from_E]
    is_note_E = token_E >= signs.pitch0
    known_E &= ~is_note_E | ((moved_E >= signs.pitch0) & (moved_E < len(signs)))
    token_E = np.where(known_E, np.where(is_note_E, moved_E, token_E), PAD)
    length_E = np.where(known_E & (length_E >= signs.length0) & (length_E < signs.pitch0), length_E, PAD)
    class_E = match_class(longest_N[note_E]) * known_E
    # before a note its token is next, after it its length
    count_T = np.cumsum(inside)
    before = np.flatnonzero(places.inside & ~inside & (count_T > 0))
    candidates_T[before], classes_T[before] = token_E[count_T[before] - 1], class_E[count_T[before] - 1]
    after = heads_E[1:]
    candidates_T[after], classes_T[after] = length_E[:-1], class_E[:-1] * (ids[after] == token_E[:-1])
    return candidates_T, classes_T


def returns(intervals_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of the intervals the latest earlier one at which the longest stretch ends that also ends here, and that
    stretch's length, up to LONGEST; int64 [N] both, −1 and 0 where there is none."""
    source_N, longest_N = np.full(len(intervals_N), -1), np.zeros(len(intervals_N), dtype=np.int64)
    code_N = np.zeros(len(intervals_N) + 1, dtype=np.int64)  # alike where the stretches before are
    for length in range(1, LONGEST + 1):
        ends = np.arange(length - 1, len(intervals_N))
        _, codes = np.unique(code_N[ends] * _APART + intervals_N[ends], return_inverse=True)
        order = np.argsort(codes, kind="stable")
        again = codes[order[1:]] == codes[order[:-1]]
        if not again.any():
            break
        here, there = ends[order[1:][again]], ends[order[:-1][again]]
        source_N[here], longest_N[here] = there, length
        code_N = np.full(len(intervals_N) + 1, -1)
        code_N[ends + 1] = codes
    return source_N, longest_N
