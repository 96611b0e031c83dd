"""Copy candidates from interval patterns: what followed the latest intervals when they occurred before, in any key.

Soloists repeat patterns rather than bars: the same intervals from another note, at another place in the bar. E events
of a melody (notes, rests, ties), N notes among them, T tokens.
"""

from __future__ import annotations

import numpy as np

from components.encodings.copying import match_class, returns
from components.encodings.lead_sheet.signs import Places, Signs
from components.encodings.vocabulary import PAD


def pattern_copies(signs: Signs, ids: np.ndarray, places: Places) -> tuple[np.ndarray, np.ndarray]:
    """For each of the ids [T] the candidate and the class of its match, both int64 [T], as in `Encoding.copies`.

    The melody is searched for the longest run of intervals that ends with the latest note and occurred before; of
    several the latest is used. The candidate is the event that followed there: a note (transposed), a rest or a tie;
    and after the event its length. The length of the match is that of the run. If the event wasn't the candidate, the
    candidate for its length has match 0.
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
    # for the event after the first e, e from 1 to E: the latest note before it, and the event that it may repeat
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
    # before an event its token is next, after it its length
    count_T = np.cumsum(inside)
    before = np.flatnonzero(places.inside & ~inside & (count_T > 0))
    candidates_T[before], classes_T[before] = token_E[count_T[before] - 1], class_E[count_T[before] - 1]
    after = heads_E[1:]
    candidates_T[after], classes_T[after] = length_E[:-1], class_E[:-1] * (ids[after] == token_E[:-1])
    return candidates_T, classes_T
