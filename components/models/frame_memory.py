"""Features of a piece's past frames, indexed by key, so that transposition shifts them."""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np

FRAMES = 4  # the last frames are features
DECAYS = (0.7, 0.9, 0.98)  # per frame, for the activity of each pitch class
RUNS = np.array([1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33])  # lower bounds of the classes of match lengths; 0 below
LATEST = 256  # limit of earlier frames compared to the last one


class FrameMemory:
    """Computes features of a piece of binary frames [T, K], which may come in parts of any length.

    The features after each frame are: the last `FRAMES` frames, newest first; how often each pitch class has sounded,
    with each of `DECAYS`; and, for the latest of the earlier places that match the end of the piece over most changes,
    the frame that followed there and the match's length in changes, as a class of `RUNS` (0: no match, and an empty
    frame). Repeated frames don't count: otherwise a held chord would match itself for longer and longer, and a
    generating model would hold it for ever.
    """

    def __init__(self, keys: int) -> None:
        self.keys = keys
        self.frames: list[np.ndarray] = []
        self.places: dict[bytes, deque[int]] = defaultdict(lambda: deque(maxlen=LATEST))
        self.runs: dict[int, int] = {}
        self.sounded = np.zeros((len(DECAYS), 12), dtype=np.float32)
        self.classes = np.eye(12, dtype=np.float32)[np.arange(keys) % 12]

    @staticmethod
    def width(keys: int) -> int:
        return FRAMES * keys + len(DECAYS) * 12 + keys + 1

    def read(self, frames_TK: np.ndarray) -> np.ndarray:
        """The features after each frame, float32 [T, width]."""
        return np.stack([self._read(frame) for frame in np.asarray(frames_TK, dtype=np.float32)])

    def _read(self, frame_K: np.ndarray) -> np.ndarray:
        now = len(self.frames)
        change = int(not now or bool((frame_K != self.frames[-1]).any()))
        self.frames.append(frame_K)
        places = self.places[(frame_K > 0.5).tobytes()]
        self.runs = {place: max(1, self.runs.get(place - 1, 0) + change) for place in places}
        places.append(now)
        best = max(self.runs, key=lambda place: (self.runs[place], place), default=None)
        again_K = np.zeros_like(frame_K) if best is None else self.frames[best + 1]
        run = 0 if best is None else int(np.searchsorted(RUNS, self.runs[best], side="right"))
        decays = np.array(DECAYS, dtype=np.float32)[:, None]
        self.sounded = self.sounded * decays + (1 - decays) * (frame_K @ self.classes)
        last = self.frames[-1 : -FRAMES - 1 : -1]
        silence = [np.zeros((FRAMES - len(last)) * self.keys, dtype=np.float32)]
        return np.concatenate([*last, *silence, self.sounded.ravel(), again_K, [run]]).astype(np.float32)
