"""Which of a piece's tokens is which voice at which time: what an encoding says of a piece so that parts of it can be
written anew, the rest staying as it is.

An encoding joins in with a method `timeline(ids) -> Timeline`. T tokens of a piece, without BOS; V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Gap:
    """Tokens `first` to `last` (not included) of a piece that are to be written anew. In their place comes what fills
    the steps `start` to `stop` of the voice; where voices take turns in the tokens, of the voices."""

    first: int
    last: int
    voice: int
    start: int
    stop: int


class Timeline(Protocol):
    """A piece's tokens as events of its voices: notes, rests, chords."""

    voices: tuple[str, ...]  # their names, the highest first
    takes_turns: bool  # whether neighbouring tokens are other voices' at the same time: then a gap has its own length
    voice: np.ndarray  # int64 [T]; −1: the token belongs to no voice (a metre)
    start: np.ndarray  # int64 [T]: the step at which the token's event begins
    stop: np.ndarray  # int64 [T]: and ends

    def choices(self, gap: Gap, free: np.ndarray, ids: np.ndarray, begun: int) -> np.ndarray | None:
        """Which tokens may come next in the gap after ids [T'] (BOS first), of which the gap has those from `begun` on:
        bool [V], beside the encoding's grammar; None: the gap is filled. `free` bool [T] says which of the piece's
        tokens are in any gap. Whatever is chosen, the events outside of the gaps stay as they are."""
        ...


def gaps(timeline: Timeline, free: np.ndarray) -> list[Gap]:
    """The gaps that the tokens `free`, bool [T], leave in a piece: whole events, side by side."""
    kinds = np.zeros(len(free), dtype=np.int64) if timeline.takes_turns else timeline.voice
    found, at = [], 0
    for kind, group in groupby(np.where(free, kinds, -1).tolist()):
        here = slice(at, at + len(list(group)))
        if kind >= 0:
            start, stop = int(timeline.start[here].min()), int(timeline.stop[here].max())
            found.append(Gap(here.start, here.stop, int(timeline.voice[at]), start, stop))
        at = here.stop
    return found
