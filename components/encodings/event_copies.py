"""Copy candidates of events: what followed the same place some bars ago.

The place of an event is its time and what was written since that time began. T events, L lags, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.encodings.copying import latest, match_classes
from components.encodings.vocabulary import PAD

LAGS = (1, 2, 4, 8, 16)  # bars
BEGINS = ("Pitch", "PitchDrum", "NoteOn", "DrumOn")  # types that begin a note
ENDS = ("NoteOff", "DrumOff")
DETAILS = ("Velocity", "Duration")  # types that say more of the event before
LOOSE = (*DETAILS, *ENDS, "Tempo")  # types that needn't match
_MOST = 1 << 12  # events since the latest that isn't a detail


class EventPlaces:
    """Times and kinds of MidiTok's tokens, by their names "Type_Value".

    Time is in half steps: a position or a part of a shift is two half steps in metres of quarters, one in metres of
    eighths. Without a metre, a bar has four quarters.
    """

    def __init__(self, names: Sequence[str], steps_per_beat: int) -> None:
        parts = [name.partition("_")[::2] for name in names]
        types = [kind for kind, _ in parts]
        kinds = sorted(set(types))
        self.type_V = np.array([kinds.index(kind) for kind in types])

        def of(*wanted: str) -> np.ndarray:
            return np.isin(types, wanted)

        self.begins_V, self.pitched_V, self.program_V = of(*BEGINS), of(*BEGINS, *ENDS), of("Program")
        self.marks_V, self.decides_V = ~of(*DETAILS), ~of(*LOOSE)
        self.bars_V, self.metres_V, self.positions_V = of("Bar"), of("TimeSig"), of("Position")
        self.steps_V = np.zeros(len(names), dtype=np.int64)  # of a position or a shift
        self.unit_V = np.full(len(names), 2)  # half steps in a step
        self.bar_V = np.full(len(names), 8 * steps_per_beat)  # half steps in a bar
        for id, (kind, value) in enumerate(parts):
            if kind == "Position":
                self.steps_V[id] = int(value)
            elif kind == "TimeShift":
                beats, more, per_beat = map(int, value.split("."))
                self.steps_V[id] = (beats * per_beat + more) * steps_per_beat // per_beat
            elif kind == "TimeSig":
                beats, unit = map(int, value.split("/"))
                self.unit_V[id] = 8 // unit
                self.bar_V[id] = beats * steps_per_beat * self.unit_V[id]

    def times(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The time reached after each of the ids [T] and the length of its bar, in half steps; both int64 [T]."""
        metre = latest(self.metres_V[ids])
        at = np.where(metre >= 0, ids[metre], PAD)
        bar_T, unit_T = self.bar_V[at], self.unit_V[at]
        bars = self.bars_V[ids]
        ended_T = np.append(0, bar_T[:-1]) * (bars & (np.cumsum(bars) > 1))
        steps_T = self.steps_V[ids] * unit_T
        position = latest(self.positions_V[ids])
        in_bar_T = np.where(position > latest(bars), steps_T[position], 0)
        shifted_T = np.where(self.positions_V[ids], 0, steps_T)
        return np.cumsum(ended_T + shifted_T) + in_bar_T, bar_T


def event_copies(places: EventPlaces, ids: np.ndarray, lags_TL: np.ndarray | Sequence[int]) -> tuple[np.ndarray, ...]:
    """As `Encoding.copies`, for ids [T].

    The candidate is what followed there after the same pitch and instrument, else after as many notes as were written
    here since the time began. Loudness, lengths, ends of notes and tempi may differ within a match.
    """
    time_T, bar_T = places.times(ids)
    at = np.arange(len(ids))
    wanted_TL = time_T[:, None] - bar_T[:, None] * np.asarray(lags_TL)
    began = latest(np.diff(time_T, prepend=-1) != 0)
    mark = latest(places.marks_V[ids])
    what_T = np.where(mark >= 0, 1 + places.type_V[ids[mark]], 0) * _MOST + np.minimum(at - mark, _MOST - 1)
    size = len(places.type_V)

    def here(mask_T: np.ndarray) -> np.ndarray:
        """The latest such id since the time began; PAD: none."""
        found = latest(mask_T)
        return np.where(found >= began, ids[found], PAD)

    pitched = places.pitched_V[ids]
    same = (what_T * size + here(pitched)) * size + here(places.program_V[ids])
    count_T = np.cumsum(pitched)
    as_many = what_T * len(ids) + count_T - (count_T - pitched)[began]
    source_TL = _first(time_T, same, wanted_TL)
    source_TL = np.where(source_TL < len(ids), source_TL, _first(time_T, as_many, wanted_TL))
    known_TL = (source_TL < at[:, None]) & (wanted_TL >= 0)
    candidates_TL = np.where(known_TL, ids[np.minimum(source_TL + 1, len(ids) - 1)], PAD)
    return candidates_TL, match_classes(ids, candidates_TL, places.begins_V[ids], places.decides_V[ids])


def _first(time_T: np.ndarray, place_T: np.ndarray, wanted_TL: np.ndarray) -> np.ndarray:
    """The first index with the same place and the time `wanted`, int64 [T, L]; T: none."""
    _, place_T = np.unique(place_T, return_inverse=True)
    known, first = np.unique(time_T * len(time_T) + place_T, return_index=True)
    key_TL = wanted_TL * len(time_T) + place_T[:, None]
    found = np.minimum(np.searchsorted(known, key_TL), len(known) - 1)
    return np.where(known[found] == key_TL, first[found], len(time_T))
