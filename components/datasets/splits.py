"""Train, val and test: a text is cut, sequences are split by groups."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.datasets.base import Reader
from components.datasets.families import families, intervals
from components.datasets.store import SPLITS
from components.encodings.base import Encoding
from components.errors import UserError

DEFAULT_SPLIT = (0.8, 0.1, 0.1)
LONG, OFTEN = 20, 0.2  # characters of a line that hardly stands twice by chance, and how many lines may
MOST_LINES = 200_000  # lines compared
Pieces = Callable[[], Iterator[tuple[str, Any]]]  # (split, item) of all items, anew at each call


def split_fractions(given: Any) -> list[float]:
    """The fractions of train, val and test.

    Raises:
        UserError: they aren't three numbers from 0 to 1 that add up to 1, or nothing is left to train on.
    """
    numbers = isinstance(given, list | tuple) and all(type(part) in (int, float) for part in given)
    if not numbers or len(given) != 3 or min(given) < 0 or not given[0] or not abs(sum(given) - 1) < 1e-6:
        hint = "give three fractions for train, val and test that add up to 1, e.g. [0.8, 0.1, 0.1]"
        raise UserError(f"can't split into {given!r}", where="data.split", hint=hint)
    return [float(part) for part in given]


def stream_split(reader: Reader, encoding: Encoding, fractions: Sequence[float]) -> Pieces:
    """Train, then val, then test, contiguous, by the reader's lengths; cut where the encoding can be.

    Raises:
        UserError: the reader has nothing to give.
    """
    total = sum(reader.length(item) for item in reader.items())
    if not total:
        raise _nothing(reader)
    ends = [int(end * total + 1e-6) for end in itertools.accumulate(fractions)]
    wanted = [(split, end) for split, end, fraction in zip(SPLITS, ends, fractions, strict=True) if fraction]

    def pieces() -> Iterator[tuple[str, Any]]:
        remaining, position = list(wanted), 0
        for item in reader.items():
            while len(remaining) > 1 and position + len(item) > remaining[0][1]:
                cut = encoding.cut(item, max(remaining[0][1] - position, 0))
                if cut:
                    yield remaining[0][0], item[:cut]
                item, position = item[cut:], position + cut
                remaining.pop(0)
            if len(item):
                yield remaining[0][0], item
            position += len(item)

    return pieces


def groups_of(readers: Sequence[Reader], seen: Callable[[Any], None] = lambda item: None) -> list[int]:
    """The group of each item of all readers in turn, numbered from 0. Items with the same key, and with `families` also
    those of the same family, are one group. Calls `seen` with each item, and puts a note about families in `grouped`.
    """
    keys: dict[str, int] = {}
    groups: list[int] = []
    melodies, titles = [], []  # of each key's first item
    for reader in readers:
        for item in reader.items():
            seen(item)
            key = reader.group(item)
            groups.append(keys.setdefault(f"\0{len(groups)}" if key is None else key, len(keys)))
            if reader.families and groups[-1] == len(melodies):
                melodies.append(intervals(item))
                titles.append(reader.family_title(item))
    if melodies:
        of_key = families(melodies, titles)
        groups = [int(of_key[key]) for key in groups]
        sizes = np.bincount(groups)
        what = f"{len(groups):,} pieces in {len(sizes):,} families of tunes, the largest {sizes.max():,}"
        readers[0].grouped = f"{what}: each is on one side of the split"
    return groups


def told_of_families(readers: Collection[Reader]) -> list[str]:
    """Notes about the families that items were split by."""
    told = [reader.grouped for reader in readers if reader.grouped]
    if not told and any(reader.families for reader in readers):
        return ["data.families has no effect, since the files define the splits"]
    return told


def group_split(reader: Reader, fractions: Sequence[float], seed: int) -> Pieces:
    """Sequences shuffled by `seed`, all of a group on one side; a split that is wanted gets one group at least.

    Raises:
        UserError: there are fewer groups than splits.
    """
    groups = groups_of([reader])
    if not groups:
        raise _nothing(reader)
    sizes = np.bincount(groups)
    wanted = [index for index, fraction in enumerate(fractions) if fraction]
    if len(sizes) < len(wanted):
        raise UserError(
            f"{len(sizes)} different sequences can't be split into {len(wanted)} parts ({dropped(reader.dropped)})",
            where="data.split",
            hint="give more data, or set a fraction to 0",
        )
    order = np.random.default_rng(seed).permutation(len(sizes))
    middles = np.cumsum(sizes[order]) - sizes[order] / 2  # a group goes where its middle item falls
    ends = np.searchsorted(middles, np.cumsum([fractions[index] for index in wanted]) * len(groups))
    at = np.arange(len(ends))
    ends = np.minimum(at + np.maximum.accumulate(np.maximum(ends - at, 1)), len(sizes) - at[::-1])  # one group at least
    ends[-1] = len(sizes)
    split_of = np.empty(len(sizes), dtype=np.int64)
    split_of[order] = np.repeat(wanted, np.diff(ends, prepend=0))

    def pieces() -> Iterator[tuple[str, Any]]:
        for group, item in zip(groups, reader.items(), strict=True):
            yield SPLITS[split_of[group]], item

    return pieces


def given_split(readers: Mapping[str, Reader], encoding: Encoding, fractions: Sequence[float], seed: int) -> Pieces:
    """The split given by the files. Without a val file, val is taken from train by the fractions of the two.

    Raises:
        UserError: a file is empty.
    """
    carved = None
    train, val, _ = fractions
    if "val" not in readers and val:
        parts = [train / (train + val), val / (train + val), 0.0]
        reader = readers["train"]
        stream = reader.framing == "stream"
        carved = stream_split(reader, encoding, parts) if stream else group_split(reader, parts, seed)

    def pieces() -> Iterator[tuple[str, Any]]:
        for split, reader in readers.items():
            if split == "train" and carved is not None:
                yield from carved()
            else:
                yield from ((split, item) for item in reader.items())

    return pieces


def join_val(pieces: Pieces, *, continued: bool = False) -> Pieces:
    """The same items, with those of val in train. `continued`: they are series, and one of val begins with the steps of
    train that it continues (`Reader.continued`); it takes their place, or train would have them twice."""

    def joined() -> Iterator[tuple[str, Any]]:
        val = [item for split, item in pieces() if split == "val"] if continued else []
        steps = {(series.name, series.times[0]): len(series.values) for series in val}
        for split, item in pieces():
            if split == "train" and continued and steps.get((item.name, item.times[0]), 0) >= len(item.values):
                continue
            yield "train" if split == "val" else split, item

    return joined


class Overlap:
    """Counts items of val and test that are also in train, if the user's files give the splits: a model may have
    memorised them. Labels and case are ignored. For a stream, lines are compared. Series split by time are skipped,
    because their windows overlap."""

    def __init__(self, readers: Mapping[str | None, Reader]) -> None:
        self.readers = {} if None in readers else readers
        if any(reader.by_time for reader in readers.values()):
            self.readers = {}
        self._keys: dict[str, list[int]] = {split: [] for split in SPLITS}
        self._lines: dict[str, set[int]] = {split: set() for split in SPLITS}
        self._mask = 0  # only lines whose hash has none of these bits are kept

    def add(self, split: str, item: Any) -> None:
        reader = self.readers.get(split)
        if reader is None:
            return
        if reader.framing == "sequences":
            if (key := reader.group(item)) is not None:
                self._keys[split].append(hash(key))
            return
        keys = (hash(line.strip()) for line in item.splitlines() if len(line) >= LONG)
        self._lines[split].update(key for key in keys if not key & self._mask)
        while sum(map(len, self._lines.values())) > MOST_LINES:
            self._mask = self._mask << 1 | 1
            self._lines = {of: {key for key in kept if not key & self._mask} for of, kept in self._lines.items()}

    def notes(self) -> list[str]:
        train = set(self._keys["train"])
        twice = {split: sum(key in train for key in self._keys[split]) for split in SPLITS[1:]}
        notes = [
            f"warning: {count:,} of the {len(self._keys[split]):,} items of {split} are also in train"
            for split, count in twice.items()
            if count
        ]
        for split in SPLITS[1:]:
            lines = self._lines[split]
            share = len(lines & self._lines["train"]) / len(lines) if lines else 0.0
            if share > OFTEN:
                notes.append(
                    f"warning: {share:.0%} of the lines of {split} (of {LONG} characters and more) are also in train"
                )
        return notes


def same_files(readers: Mapping[str | None, Reader], described: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """Warnings for val and test if files of theirs have the same content as files of train. `described` has the
    `sha256` of each file."""
    if None in readers or "train" not in readers:
        return []
    train = {described[file]["sha256"]: file for file in reversed(readers["train"].files)}
    notes = []
    for split in (split for split in SPLITS[1:] if split in readers):
        pairs = [(file, train.get(described[file]["sha256"])) for file in readers[split].files]
        # a file that holds the splits isn't a copy of itself
        same = [(file, of) for file, of in pairs if of and not (file == of and readers[split].part)]
        if same:
            more = f", and so have {len(same) - 1:,} more files" * (len(same) > 1)
            file, of = same[0]
            notes.append(f"warning: {file.name} of {split} has the same contents as {of.name} of train{more}")
    return notes


def dropped(reasons: Mapping[str, int]) -> str:
    """What a reader left out and why, for a message."""
    return "dropped: " + (", ".join(f"{count:,} × {reason}" for reason, count in reasons.items()) or "none")


def _nothing(reader: Reader) -> UserError:
    names = ", ".join(file.name for file in reader.files[:3]) or "the data set"
    return UserError(
        f"no data are left of {names} ({dropped(reader.dropped)})",
        where="data",
        hint="; ".join(ways_out(reader)) or "check that data.reader fits the file, and the settings that drop items",
    )


def ways_out(reader: Reader) -> list[str]:
    """Settings that help against what the reader left out."""
    return [f"{reason}: {way}" for reason, way in reader.ways_out.items() if reader.dropped[reason]]
