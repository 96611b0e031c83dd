"""A chorale's tokens as notes of its voices, for rewriting some of them (`components.encodings.timeline`)."""

from __future__ import annotations

import numpy as np

from components.encodings.chorale.signs import Signs
from components.encodings.timeline import Gap


class ChoraleTimeline:
    """Voices take turns, so a gap is filled by the same number of tokens."""

    takes_turns = True

    def __init__(self, ids: np.ndarray, voices: tuple[str, ...], signs: Signs) -> None:
        self.voices, self.signs = voices, signs
        frames = ids[signs.prefix :].reshape(-1, len(voices))
        steps = np.arange(len(frames))[:, None]
        begins = frames != signs.hold
        start = np.maximum.accumulate(np.where(begins, steps, 0), axis=0)
        # step of the next token that isn't `hold`, computed from the end
        following = np.where(begins, steps, len(frames))[::-1]
        after = np.minimum.accumulate(following, axis=0)[::-1]
        stop = np.concatenate([after[1:], np.full((1, len(voices)), len(frames))])
        silent = np.full(signs.prefix, -1)
        self.voice = np.concatenate([silent, np.tile(np.arange(len(voices)), len(frames))])
        self.start = np.concatenate([silent, start.ravel()])
        self.stop = np.concatenate([silent, stop.ravel()])

    def choices(self, gap: Gap, free: np.ndarray, ids: np.ndarray, begun: int) -> np.ndarray | None:
        at = len(ids) - 1
        if at == gap.last:
            return None
        mask = np.ones(len(self.signs), dtype=bool)
        before = at - len(self.voices)
        if before < self.signs.prefix or not free[before]:
            mask[self.signs.hold] = False  # would prolong a note outside the gap
        return mask
