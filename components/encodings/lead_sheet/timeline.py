"""A lead sheet's tokens as chords and notes, for rewriting some of them (`components.encodings.timeline`)."""

from __future__ import annotations

import numpy as np

from components.encodings.lead_sheet.signs import Signs
from components.encodings.timeline import Gap

MELODY, CHORDS = range(2)


class LeadSheetTimeline:
    """An event is a note with its ties, a rest, or a chord. A gap may be filled by any number of tokens."""

    voices = ("melody", "chords")
    takes_turns = False

    def __init__(self, signs: Signs, ids: np.ndarray) -> None:
        self.signs, self.ids = signs, ids
        self.voice, self.start, self.stop = (np.full(len(ids), -1) for _ in range(3))
        places = signs.places(ids)
        events: list[list[int]] = []  # first token, last token + 1, start, stop
        for at in np.flatnonzero(places.head[:-1]).tolist():
            head, length = int(ids[at]), signs.length(int(ids[at + 1]))
            chord = signs.no_chord <= head < signs.length0
            if head == signs.upbeat or not length or chord == bool(places.inside[at]):
                continue
            stop = int(places.time[at + 1])
            last = events[-1] if events else [0, 0, 0, 0]
            same = head == signs.tie or (chord and head == ids[last[0]])
            if same and last[1] == at and last[3] == stop - length:
                last[1], last[3] = at + 2, stop
            else:
                events.append([at, at + 2, stop - length, stop])
        for first, last, start, stop in events:
            self.voice[first:last] = MELODY if places.inside[first] else CHORDS
            self.start[first:last], self.stop[first:last] = start, stop

    def choices(self, gap: Gap, free: np.ndarray, ids: np.ndarray, begun: int) -> np.ndarray | None:
        signs, places = self.signs, self.signs.places(ids)
        left, head = gap.stop - int(places.time[-1]), bool(places.head[-1]) and len(ids) > begun
        if left <= 0 and not head:
            return None
        mask = np.zeros(len(signs), dtype=bool)
        # adjacent equal chords are one event: a chord equal to the next would prolong it
        follows = int(self.ids[gap.last]) if gap.voice == CHORDS and gap.last < len(self.ids) else -1
        if head:
            most = left - (int(ids[-1]) == follows)
            mask[signs.length0 : signs.length0 + min(signs.longest, most)] = True
        elif gap.voice == CHORDS:
            mask[signs.no_chord : signs.length0] = True
            if len(ids) == begun:
                mask[int(ids[-2])] = False
            if left == 1 and follows >= 0:
                mask[follows] = False
        else:
            mask[signs.rest] = mask[signs.pitch0 :] = True
            mask[signs.tie] = len(ids) > begun and int(ids[-2]) != signs.rest and int(ids[-1]) == signs.pitch0 - 1
        return mask
