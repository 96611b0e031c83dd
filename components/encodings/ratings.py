"""Ratings: whole numbers on a scale, such as stars, grades, levels of agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field as Bounds

from components.encodings.symbols import Labels
from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.errors import UserError

MOST = 100  # largest number of ratings on a scale


@dataclass(kw_only=True, eq=False)
class Ratings(Labels):
    """A whole number from `low` to `high` (default: the range of the training data) ↔ ids [1], in the numbers' order.

    Raises:
        UserError: a target is no whole number, lies outside the scale, or the scale has more than MOST ratings.
    """

    kind = "ratings"
    unit = "rating"

    low: Annotated[int, Bounds(ge=-1000, le=1000)] | None = None
    high: Annotated[int, Bounds(ge=-1000, le=1000)] | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None:
            self._set(self.low, self.high)

    def fit(self, items: Iterable[Any]) -> None:
        ratings = {_whole(item) for item in items}
        low = min(ratings, default=0) if self.low is None else self.low
        self._set(low, max(ratings, default=low + 1) if self.high is None else self.high)

    def encode(self, item: Any) -> np.ndarray:
        rating = _whole(item)
        low, high = self.classes[0], self.classes[-1]
        if not int(low) <= rating <= int(high):
            bound = f"high: {rating}" if rating > int(high) else f"low: {rating}"
            what = f"the rating {rating} is outside the range of the training data, {low} to {high}"
            raise UserError(what, where="data", hint=f"if it belongs to the scale, set encoding.target.{bound}")
        return np.array([len(SPECIALS) + rating - int(low)])

    def labels_of(self, item: Any) -> Sequence[str]:
        return [str(_whole(item))]

    def set_learned(self, state: Mapping[str, Any]) -> None:
        """No-op: the scale is in the vocabulary."""

    def _set(self, low: int, high: int) -> None:
        if not 1 <= high - low < MOST:
            what = f"a scale must have 2 to {MOST} ratings, but this one goes from {low} to {high}"
            raise UserError(what, where="encoding.target", hint="use the task regression for such numbers")
        self.vocabulary = Vocabulary([*SPECIALS, *map(str, range(low, high + 1))])


def _whole(item: Any) -> int:
    """The rating; tables of numbers give a list of one."""
    try:
        values = np.asarray(item, dtype=np.float64).ravel()
    except (ValueError, TypeError):
        values = np.zeros(0)
    if len(values) == 1 and np.isfinite(values[0]) and values[0] == np.round(values[0]):
        return int(values[0])
    found = f"{len(values)} numbers" if len(values) > 1 else f"{item!r:.60}"
    what = f"a rating must be a whole number, not {found}"
    hint = "for other numbers use the task regression with target: {kind: frames}"
    raise UserError(what, where="data", hint=hint)
