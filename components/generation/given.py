"""Generation with given tokens: a melody to harmonise, a beginning to continue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.encodings.base import Encoding, Wrapped
from components.encodings.vocabulary import BOS, EOS, PAD
from components.errors import UserError
from components.generation.settings import Settings

FREE = -1  # a token for the model to choose


class Given(Wrapped):
    """An encoding for sampling whose `allowed` only allows the given ids (without BOS; FREE where the model chooses).
    With `ends`, the sequence ends after them."""

    def __init__(self, encoding: Encoding, ids: Sequence[int] | np.ndarray, *, ends: bool) -> None:
        super().__init__(encoding)
        self.ids, self.ends = np.asarray(ids, dtype=np.int64), ends
        size = len(encoding.vocabulary)
        if len(self.ids) and not FREE <= int(self.ids.min()) <= int(self.ids.max()) < size:
            raise ValueError(f"ids from {FREE} to {size - 1}, not {self.ids.min()} to {self.ids.max()}")
        if np.isin(self.ids, [PAD, BOS, EOS]).any():
            raise ValueError("<PAD>, <BOS> and <EOS> can't be given")

    @property
    def beginning(self) -> np.ndarray:
        """The ids before the first FREE."""
        free = np.flatnonzero(self.ids == FREE)
        return self.ids[: free[0]] if len(free) else self.ids

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        place = len(ids) - 1
        mask = self.encoding.allowed(ids)
        if place < len(self.ids):
            if self.ids[place] != FREE:
                mask = np.zeros_like(mask)
                mask[self.ids[place]] = True
            elif mask.sum() > mask[EOS]:
                mask[EOS] = False  # not before the end of the given ids
        elif self.ends:
            mask = np.zeros_like(mask)
            mask[EOS] = True
        return mask


def given_ids(encoding: Encoding, settings: Settings) -> Given:
    """The encoding restricted to the given ids of the settings.

    Raises:
        UserError: a prompt is given too, or they aren't ids of the encoding.
    """
    if settings.prompt:
        what = "can't be used together with a start file"
        raise UserError(what, where="generation.prompt", hint="leave one of the two out")
    try:
        return Given(encoding, settings.given, ends=settings.given_ends)
    except ValueError as error:
        raise UserError(str(error), where="generation.given") from None


def restricted(
    encoding: Encoding, read: Encoding, bars: int, settings: Settings, prompt_ids: np.ndarray
) -> tuple[Encoding, np.ndarray]:
    """The encoding `read` restricted to pieces of `settings.seconds`, of `bars` bars (0: any), or to the given ids of
    the settings; and the ids to begin with.

    Raises:
        UserError: the encoding doesn't plan its pieces, two of these are given, or the ids aren't ids of the encoding.
    """
    if settings.seconds:
        begun = encoding.with_seconds(settings.seconds)
        if settings.given or settings.bars:
            what = "can't be used together with a file or a number of bars"
            raise UserError(what, where="generation.seconds", hint="set it to 0")
        return Given(read, begun, ends=False), prompt_ids
    if bars:
        if settings.given:
            what = "can't be used together with a file, which determines the length"
            raise UserError(what, where="generation.bars", hint="set it to 0")
        return Given(read, encoding.with_bars(bars, prompt_ids), ends=False), prompt_ids
    if settings.given and not settings.rewrite:
        given = given_ids(read, settings)
        return given, given.beginning
    return read, prompt_ids
