"""Series split by time: the last steps of each are held out, so that evaluation uses unseen data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator
from typing import Any

from components.datasets.base import Reader
from components.datasets.splits import DEFAULT_SPLIT
from components.encodings.series import Series

TOO_SHORT = "series too short for data.horizon and data.origins"
LATER = {"train": (1, 2), "val": (2,), "test": ()}  # the parts after it, by their indices


class SeriesParts(Reader):
    """Items: the series up to the end of a part. Test has all of each series; its last `origins` times `horizon` steps
    are predicted there. Val ends where these begin, and its own last ones are predicted. Train ends before.

    A part with fraction 0 in `data.split` isn't held out; the size of the others depends on horizon and origins only.
    """

    framing, by_time, continued = "sequences", True, True
    kept: dict[str, Any]  # cached data, shared by the readers of all parts

    @abstractmethod
    def whole(self) -> list[Series]:
        """All series in full length."""

    def items(self) -> Iterator[Series]:
        self.dropped.clear()
        train, val, _ = self.fractions
        if self.part == "train" and abs(train * DEFAULT_SPLIT[1] - val * DEFAULT_SPLIT[0]) > 1e-6 and val:
            self.tell("of data.split only zeros matter: data.horizon and data.origins set the length of the parts")
        for series in self.whole():
            held = series.horizon * series.origins
            after = held * sum(self.fractions[place] > 0 for place in LATER.get(self.part or "", ()))
            all_held = held * (sum(share > 0 for share in self.fractions[1:]) or self.part is None)
            if len(series.values) <= all_held + series.horizon:
                if self.part in (None, "train"):  # reported once
                    self.dropped[TOO_SHORT] += 1
                continue
            yield series.until(len(series.values) - after)

    def places(self, indices: Collection[int]) -> dict[int, str]:
        return {index: series.name for index, series in enumerate(self.items()) if index in indices}
