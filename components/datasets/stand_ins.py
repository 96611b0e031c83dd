"""Sentinel values for missing numbers, such as -999: a reader can't know them, but they are far from other values.

Shapes: T steps, W columns.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from components.encodings.series import Series

CODES = np.array([-99.0, -999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0, 999999.0])
FEWEST = 2  # minimum number of occurrences
TOLD = 3  # values listed in notes


class StandIns:
    """Collects the numbers of an ingestion's training data."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int, float]] = Counter()  # (input or target, column, code)
        self.ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # minimum and maximum of all other values, by column

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
        return found[:TOLD]
