"""Numbers that may be none: sentinel values such as -999 for missing ones, and a single value far from all others.

Shapes: T steps, W columns.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from components.encodings.series import Series

CODES = np.array([-99.0, -999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0, 999999.0])
FEWEST = 2  # minimum number of occurrences
FAR = 1000  # a value is far from all others at this multiple of their range
TOLD = 3  # values listed in notes


class StandIns:
    """Collects the numbers of an ingestion's training data."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int, float]] = Counter()  # (input or target, column, code)
        self.ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # minimum and maximum of all other values, by column
        self.highest: dict[str, np.ndarray] = {}  # the two highest different values, by column
        self.lowest: dict[str, np.ndarray] = {}  # the two lowest, negated

    def add(self, item: Any) -> None:
        """Count an item from the reader: a pair, or a series."""
        if isinstance(item, Series):
            self._add("values", item.values[:, None])
        elif isinstance(item, tuple) and len(item) == 2:
            for role, one in zip(("inputs", "targets"), item, strict=True):
                numbers = np.asarray(one) if isinstance(one, np.ndarray | list) else None
                if numbers is not None and numbers.dtype.kind in "fiu" and numbers.ndim in (1, 2) and numbers.size:
                    self._add(role, np.atleast_2d(numbers))

    def _add(self, role: str, values_TW: np.ndarray) -> None:
        low, high = values_TW.min(0), values_TW.max(0)
        for two, top, sign in ((self.highest, high, 1), (self.lowest, -low, -1)):
            kept = two.get(role)
            if kept is None or (kept.shape[1] == len(top) and (top > kept[1]).any()):
                two[role] = _top_two(sign * (values_TW if kept is None else np.concatenate([sign * kept, values_TW])))
        if (low <= CODES[0]).any() or (high >= -CODES[1]).any():
            codes = np.isin(values_TW, CODES)
            for column, value in zip(np.nonzero(codes)[1], values_TW[codes], strict=True):
                self.counts[role, int(column), float(value)] += 1
            low, high = np.where(codes, np.inf, values_TW).min(0), np.where(codes, -np.inf, values_TW).max(0)
        before = self.ends.get(role, (low, high))
        if len(before[0]) == len(low):
            self.ends[role] = np.minimum(before[0], low), np.maximum(before[1], high)

    def notes(self) -> list[str]:
        """Notes on values that are further from all others than these are from each other."""
        found = []
        for (role, column, code), count in self.counts.most_common():
            low, high = (float(edge[column]) for edge in self.ends[role])
            if count >= FEWEST and high > low and max(low - code, code - high) > high - low:
                where = f" in column {column + 1}" if len(self.ends[role][0]) > 1 else ""
                what = f"{code:g} occurs {count:,} times among the {role}{where}; others range from {low:g} to {high:g}"
                found.append(f"warning: {what}: does it mark missing values? Leave such cells empty")
        return (found + self._far())[:TOLD]

    def _far(self) -> list[str]:
        """Notes on columns with one value far above or below all others."""
        found = []
        for role, (highest, high) in self.highest.items():
            lowest, low = 0 - self.lowest[role]  # not -0.0
            for far, end, other in ((highest, high, lowest), (lowest, low, highest)):
                for column in np.flatnonzero((abs(far - end) > FAR * abs(end - other)) & (end != other)):
                    where = f" in column {column + 1}" if len(far) > 1 else ""
                    between = " to ".join(f"{value:g}" for value in sorted((end[column], other[column])))
                    what = f"one of the {role}{where} is {far[column]:g}; the others range from {between}"
                    found.append(f"warning: {what}")
        return found


def _top_two(values_TW: np.ndarray) -> np.ndarray:
    """The highest value of each column, and the highest one below it (-inf if there is none)."""
    top = values_TW.max(0)
    return np.stack([top, np.where(values_TW < top, values_TW, -np.inf).max(0)])
