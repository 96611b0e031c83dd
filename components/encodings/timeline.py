"""Voice and time of each of a piece's tokens, so that parts of it can be rewritten without changing the rest.

To support this, an encoding implements `timeline(ids) -> Timeline`. T tokens of a piece, without BOS; V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Gap:
    """Tokens `first` to `last` (exclusive) of a piece, to be rewritten. The new tokens fill the steps `start` to `stop`
    of the voice; if voices take turns, of all voices in the gap."""

    first: int
    last: int
    voice: int
    start: int
    stop: int


class Timeline(Protocol):
    """A piece's tokens as events of its voices: notes, rests, chords."""

    voices: tuple[str, ...]  # their names, the highest first
    takes_turns: bool  # whether adjacent tokens are other voices at the same time: then a gap keeps its length
    voice: np.ndarray  # int64 [T]; −1: the token belongs to no voice (a metre)
    start: np.ndarray  # int64 [T]: first step of the token's event
    stop: np.ndarray  # int64 [T]: end of the event, exclusive

    def choices(self, gap: Gap, free: np.ndarray, ids: np.ndarray, begun: int) -> np.ndarray | None:
        """Which tokens may come next in the gap, after ids [T'] (BOS first) whose part from `begun` on is in the gap:
        bool [V], in addition to the encoding's grammar; None: the gap is filled. `free`, bool [T], marks the piece's
        tokens in any gap. Events outside the gaps never change."""
        ...


def gaps(timeline: Timeline, free: np.ndarray) -> list[Gap]:
    """The gaps formed by the tokens `free`, bool [T], which are whole events; adjacent events form one gap."""
    kinds = np.zeros(len(free), dtype=np.int64) if timeline.takes_turns else timeline.voice
    found, at = [], 0
    for kind, group in groupby(np.where(free, kinds, -1).tolist()):
        here = slice(at, at + len(list(group)))
        if kind >= 0:
            start, stop = int(timeline.start[here].min()), int(timeline.stop[here].max())
            found.append(Gap(here.start, here.stop, int(timeline.voice[at]), start, stop))
        at = here.stop
    return found
