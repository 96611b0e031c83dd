"""K-fold cross-validation: which sequences are held out for test in a fold, and for validation from the rest.

A fold depends on the data, K and the seed only, not on the order in which folds are run: "3/10" is always the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.datasets.base import Reader
from components.datasets.splits import Pieces, groups_of
from components.datasets.store import SPLITS
from components.encodings.base import Encoding
from components.errors import UserError

MOST = 1000  # folds
TRAIN, VAL, TEST = range(len(SPLITS))


def parse_fold(text: str) -> tuple[int, int]:
    """(k, K) of "k/K", the k-th of K folds, counted from 1.

    Raises:
        UserError: it isn't a fold.
    """
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    fold, folds = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= fold <= folds or not 2 <= folds <= MOST:
        hint = f"for example 3/10, the third of ten folds; 2 to {MOST:,} folds"
        raise UserError(f"{text!r} isn't a fold", where="data.fold", hint=hint)
    return fold, folds


def fold_fractions(fractions: Sequence[float], folds: int) -> list[float]:
    """The fractions of train, val and test in a fold: test is 1/K of all; train and val share the rest in the
    proportion that `fractions` gives."""
    train, val, _ = fractions
    rest = (1 - 1 / folds) / (train + val)
    return [train * rest, val * rest, 1 / folds]


def fold_split(
    readers: Mapping[Any, Reader], encoding: Encoding, fractions: Sequence[float], seed: int, fold: tuple[int, int]
) -> Pieces:
    """The items of all readers, with one fold as test. Groups aren't divided. Folds are balanced in size and labels,
    and so is val, as far as groups allow it.

    Raises:
        UserError: there are fewer groups than parts.
    """
    labels: list[str | None] = []  # of each item

    def seen(item: Any) -> None:
        of_item = encoding.labels_of(item)
        labels.append(of_item[0] if len(of_item) == 1 else None)  # of a whole item, not of each of its steps

    groups = groups_of(list(readers.values()), seen)
    found = [Counter[str]() for _ in range(max(groups, default=-1) + 1)]  # the labels of each group
    for group, label in zip(groups, labels, strict=True):
        if label is not None:
            found[group][label] += 1
    number, folds = fold
    few = f"{len(found):,} different sequences can't be split into {folds:,} folds{' and val' * bool(fractions[VAL])}"
    too_few = UserError(few, where="data.fold", hint="give more data, or use fewer folds")
    if len(found) < folds:
        raise too_few
    sizes = np.bincount(groups)
    kinds = [max(sorted(count), key=count.__getitem__, default="") for count in found]  # a group's commonest label
    fold_of = deal(sizes, kinds, folds, np.random.default_rng([seed, folds]))
    split_of = np.where(fold_of == number - 1, TEST, TRAIN)
    if share := fractions[VAL] / (fractions[TRAIN] + fractions[VAL]):
        rest = np.flatnonzero(split_of == TRAIN)
        if len(rest) < 2:
            raise too_few
        rng = np.random.default_rng([seed, folds, number])
        split_of[rest[take(sizes[rest], [kinds[at] for at in rest], share, rng)]] = VAL

    def pieces() -> Any:
        place = iter(groups)
        for reader in readers.values():
            for item in reader.items():
                yield SPLITS[split_of[next(place)]], item

    return pieces


def check_shuffled(reader: Reader) -> None:
    """Refuse folds of data that are split in their own order. Raises UserError."""
    if reader.framing == "stream" or reader.by_time:
        what = "series, which are split by time" if reader.by_time else "one long text, which is split in order"
        raise UserError(f"can't be used with {what}", where="data.fold", hint="leave the folds out")


def deal(sizes: np.ndarray, kinds: Sequence[str], folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each group, int64 [G], given their sizes and labels. Each goes to the fold with the fewest items of
    its label, then to the smallest. No fold is empty if there are as many groups."""
    shuffled = rng.permutation(len(sizes)).tolist()
    order = sorted(shuffled, key=lambda group: (kinds[group], -sizes[group]))  # the large first: easier to balance
    totals = [0] * folds
    of_kind: dict[str, list[int]] = {}
    fold_of = np.zeros(len(sizes), dtype=np.int64)
    for group in order:
        counts = of_kind.setdefault(kinds[group], [0] * folds)
        chosen = min(range(folds), key=lambda fold: (counts[fold], totals[fold]))
        fold_of[group] = chosen
        counts[chosen] += int(sizes[group])
        totals[chosen] += int(sizes[group])
    return fold_of


def take(sizes: np.ndarray, kinds: Sequence[str], share: float, rng: np.random.Generator) -> np.ndarray:
    """The indices of the groups to hold out, about `share` of the items: label by label, at even distances. At least
    one group is held out and at least one isn't."""
    order = np.array(sorted(rng.permutation(len(sizes)).tolist(), key=lambda group: kinds[group]), dtype=np.int64)
    ends = np.cumsum(sizes[order])
    begins = ends - sizes[order]
    offset = rng.uniform()
    chosen = np.floor(ends * share + offset) > np.floor(begins * share + offset)
    # sizes differ, so all or none may be chosen
    if chosen.all() or not chosen.any():
        chosen[:] = False
        chosen[rng.integers(len(order))] = True
    return order[chosen]
