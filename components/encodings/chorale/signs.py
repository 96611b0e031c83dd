"""The vocabulary and grammar of chorales: ids, the prefix of a piece, and which tokens may come next."""

from __future__ import annotations

from typing import Any

import numpy as np

from components.bounds import MOST_BARS
from components.encodings.vocabulary import EOS, SPECIALS, Vocabulary
from components.harmony import ROOTS
from components.score import Score

VOICES = ("Soprano", "Alto", "Tenor", "Bass")
METRES = ((4, 4), (3, 4), (3, 2))  # all metres of the four-part chorales of music21's corpus
LOWEST, HIGHEST = 24, 96  # MIDI pitches that have a token
PREFIX = 2  # metre and upbeat; a plan adds two


class Signs:
    """Ids `hold`, `rest`, and the first ids of metres, upbeats, bars, homes and pitches: `metre0` … `pitch0`. Ids from
    `pitch0` (LOWEST) on are pitches. `bars` are the steps of a bar in each metre. A piece begins with `prefix` tokens;
    with `planned` they include the number of bars and the home.

    Ids of pieces are int64 [T], BOS first.
    """

    def __init__(self, steps_per_beat: int, planned: bool) -> None:
        self.planned, self.prefix = planned, PREFIX + 2 * planned
        self.bars = [Score((), steps_per_beat, metre).bar_steps for metre in METRES]
        self.longest = max(self.bars)
        self.vocabulary = Vocabulary(
            [
                *SPECIALS,
                "hold",
                "rest",
                *(f"metre {beats}/{unit}" for beats, unit in METRES),
                *(f"upbeat {steps}" for steps in range(self.longest)),
                *(f"bars {bars}" for bars in range(1, MOST_BARS + 1) if planned),
                *(["bars unplanned"] if planned else []),
                *(f"home {root}" for root in ROOTS if planned),
                *(f"pitch {pitch}" for pitch in range(LOWEST, HIGHEST + 1)),
            ]
        )
        self.hold, self.rest = self.vocabulary.id("hold"), self.vocabulary.id("rest")
        self.metre0, self.upbeat0 = self.rest + 1, self.rest + 1 + len(METRES)
        self.bars0 = self.upbeat0 + self.longest
        self.home0 = self.bars0 + (MOST_BARS + 1) * planned
        self.pitch0 = self.home0 + len(ROOTS) * planned
        self._masks = self._make_masks()

    def __len__(self) -> int:
        return len(self.vocabulary)

    def is_frame(self, ids: np.ndarray) -> np.ndarray:
        """Which ids are tokens of frames (pitch, hold, rest): bool, same shape as ids."""
        return (ids == self.hold) | (ids == self.rest) | (ids >= self.pitch0)

    def bar_and_upbeat(self, ids: np.ndarray) -> tuple[int, int]:
        """(steps in a bar, steps of upbeat) of a piece; 4/4 and 0 if the ids don't have them yet."""
        metre = int(ids[1]) - self.metre0 if len(ids) > 1 else 0
        bar = self.bars[metre] if 0 <= metre < len(METRES) else self.bars[0]
        upbeat = int(ids[2]) - self.upbeat0 if len(ids) > 2 else 0
        return bar, upbeat if 0 <= upbeat < bar else 0

    def bars_id(self, steps: int, bar: int) -> int:
        """The token for the number of bars in `steps`; "unplanned" if they aren't whole bars or too many."""
        bars, rest = divmod(steps, bar)
        return self.bars0 + (MOST_BARS if rest or not 0 < bars <= MOST_BARS else bars - 1)

    def planned_steps(self, ids: np.ndarray) -> int:
        """The planned length in steps; 0: no plan."""
        bars = int(ids[3]) - self.bars0 + 1 if self.planned and len(ids) > 3 else 0
        return bars * self.bar_and_upbeat(ids)[0] if 0 < bars <= MOST_BARS else 0

    def planned_home(self, ids: np.ndarray) -> int | None:
        """The pitch class of the planned last bass note; None: no plan."""
        return int(ids[4]) - self.home0 if len(ids) > 4 and self.home0 <= ids[4] < self.pitch0 else None

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        """The grammar's mask, bool [V]. It depends on the prefix and the last frame only.

        `hold` may only follow a note. The end comes after the planned bars; without a plan, after a complete frame and
        at least one full bar. "unplanned" is never sampled.
        """
        place = len(ids) - 1 - self.prefix
        if place >= 0 and int(ids[-1]) == EOS:
            return self._masks["ended"].copy()
        if place < 0:
            metre = min(max(int(ids[1]) - self.metre0, 0), len(METRES) - 1) if len(ids) > 1 else 0
            return self._masks[("metre", metre, "bars", "home")[len(ids) - 1]].copy()
        bar, upbeat = self.bar_and_upbeat(ids[: PREFIX + 1])
        step, voice = divmod(place, len(VOICES))
        may_hold = step > 0 and (int(ids[-len(VOICES)]) == self.hold or int(ids[-len(VOICES)]) >= self.pitch0)
        if planned := self.planned_steps(ids):
            if step >= planned and voice == 0:
                return self._masks["ended"].copy()
            return self._masks[may_hold, False].copy()
        may_end = voice == 0 and step >= upbeat + bar
        return self._masks[may_hold, may_end].copy()

    def _make_masks(self) -> dict[Any, np.ndarray]:
        """The masks bool [V] for each state of the grammar, for `allowed`."""
        ids = np.arange(len(self))
        masks: dict[Any, np.ndarray] = {
            "metre": (ids >= self.metre0) & (ids < self.upbeat0),
            "bars": (ids >= self.bars0) & (ids < self.home0 - 1),
            "home": (ids >= self.home0) & (ids < self.pitch0),
            "ended": ids == EOS,
        }
        for metre, bar in enumerate(self.bars):
            masks[metre] = (ids >= self.upbeat0) & (ids < self.upbeat0 + bar)
        for may_hold in (False, True):
            for may_end in (False, True):
                sounding = (ids >= self.pitch0) | (ids == self.rest)
                masks[may_hold, may_end] = sounding | (may_hold & (ids == self.hold)) | (may_end & (ids == EOS))
        return masks
