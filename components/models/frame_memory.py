"""What a piece of frames has been so far, as features of the next frame that move with the keys."""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np

FRAMES = 4  # the last ones are shown as they are
DECAYS = (0.7, 0.9, 0.98)  # a frame, of what a pitch class has sounded
RUNS = np.array([1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33])  # where a class of agreements begins, 0 before them
LATEST = 256  # of the frames that equal the last one, no earlier ones are looked at


class FrameMemory:
    """Reads a piece of frames [T, K] of 0 and 1, in parts of any length.

    After each frame it tells the last `FRAMES` frames, the newest first; how often each pitch class has sounded, under
    each of `DECAYS`; and of the earlier places that agree with the end of the piece for most changes, the latest: the
    frame that came next there, and for how many changes it agrees, as a class of `RUNS` (0: no place, and no frame).
    Frames like the one before count for nothing: a chord that is held would agree with itself for longer and longer,
    and a model that writes would hold it for ever.
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
        """The features after each of the frames, float32 [T, width]."""
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
