"""Proposals of recipes, and the files they are made from. Files are untrusted input: only their beginnings are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from components.datasets.files.folders import ending, given_splits, hidden, inside
from components.datasets.files.text import TextFiles, detected
from components.errors import UserError

MOST_FILES = 2000  # names of files to look at in a folder
OPENED = 12  # files of which the beginnings are read
MOST_LINES = 2000  # lines to read of a file
AS_TEXT = "to read its lines as they are: --as lines or --as text"


class Unlike(Exception):
    """The data aren't of a kind; the message says why."""


class Stopped(Unlike):
    """As `Unlike`, but what other kinds would make of the data is wrong: said unless a kind is asked for."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


@dataclass(frozen=True)
class Proposal:
    """The detected kind of the data, and a recipe for them.

    `what`: description of the data. `why`: evidence for it. `like`: the built-in recipe whose settings of model,
    training and generation are used, with the changes in `model` and `generation` (None removes a setting). `likely`:
    whether it may be chosen without `--as`. `size`: number of items, or of characters of a text.
    """

    what: str
    why: str
    like: str
    data: Mapping[str, Any]
    encoding: Mapping[str, Any]
    task: Mapping[str, Any]
    size: int
    likely: bool = True
    model: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """The beginning of a text file. `share`: its share of the file."""

    text: str
    share: float
    coding: str

    @cached_property
    def lines(self) -> list[str]:
        """The first MOST_LINES whole lines."""
        lines = self.text.split("\n")
        return (lines if self.share == 1 else lines[:-1] or lines)[:MOST_LINES]

    @cached_property
    def filled(self) -> list[str]:
        return [line for line in self.lines if line.strip()]

    @property
    def all_lines(self) -> int:
        """Estimated number of non-empty lines in the file."""
        read = sum(len(line) + 1 for line in self.lines)
        return round(len(self.filled) * len(self.text) / max(1, read) / self.share)


class Look:
    """The files at `path`; only those of training if their names give the splits. `shown`: the path as typed."""

    def __init__(self, path: Path, shown: str) -> None:
        self.path, self.shown = path, shown
        self._samples: dict[Path, Sample | None] = {}
        if path.is_file():
            self.files, self.passed_over = [path], {}
            return
        splits, _ = given_splits(path)
        self.files, self.passed_over = [], {}
        for one in splits.get("train", [path]):
            if one.is_dir():
                found, passed_over = inside(one)
                self.files += found
                self.passed_over |= passed_over
            elif not hidden(one.name):
                self.files.append(one)
        if not self.files:
            raise UserError("contains no files to read", where=shown, hint="give a file, or a folder with files")

    @cached_property
    def endings(self) -> Counter[str]:
        return Counter(ending(path) for path in self.files[:MOST_FILES])

    def having(self, endings: tuple[str, ...], half: bool = False) -> list[Path]:
        """The files with one of the endings if they are the majority (or at least half), else an empty list."""
        if 2 * sum(self._all_endings[one] for one in set(endings)) + half <= len(self.files):
            return []
        return [path for path in self.files if ending(path) in endings]

    @cached_property
    def _all_endings(self) -> Counter[str]:
        return Counter(map(ending, self.files))

    def most(self, endings: tuple[str, ...], otherwise: str = "") -> list[Path]:
        """As `having`. Raises Unlike, with the message `otherwise`, if they aren't the majority."""
        if not (found := self.having(endings)):
            raise Unlike(otherwise or f"no files of {', '.join(endings)}")
        return found

    def sample(self, path: Path) -> Sample | None:
        """The beginning of a file; None if it isn't text."""
        if path not in self._samples:
            self._samples[path] = _sample(path)
        return self._samples[path]

    @cached_property
    def texts(self) -> list[tuple[Path, Sample]]:
        """The first text files with their beginnings."""
        read = ((path, self.sample(path)) for path in self.files[:OPENED])
        return [(path, sample) for path, sample in read if sample]

    def first(self) -> tuple[Path, Sample]:
        """The first text file. Raises Unlike if there is none."""
        if not self.texts:
            raise Unlike("no text")
        return self.texts[0]

    def coding(self) -> dict[str, str]:
        """The setting `coding`, if the files aren't UTF-8. ASCII fits any coding."""
        found = {sample.coding for _, sample in self.texts if sample.coding != "utf-8" or not sample.text.isascii()}
        return {"coding": found.pop() if len(found) == 1 else "auto"} if found - {"utf-8"} else {}

    def coding_note(self) -> list[str]:
        """How the letters of the first file that isn't UTF-8 are read."""
        for path, sample in self.texts:
            line = next((line for line in sample.filled if not line.isascii()), "")
            if sample.coding != "utf-8" and line:
                shown = " ".join(line.split())[:60]
                what = f"{path.name} is read as {sample.coding} (detected): {shown!r}"
                return [f"{what}. If these letters are wrong, set data.coding"]
        return []

    def characters(self) -> int:
        """Number of characters in all files, estimated from their bytes."""
        total = sum(path.stat().st_size for path in islice(self.files, MOST_FILES))
        return round(total * len(self.files) / min(len(self.files), MOST_FILES))

    def lines(self) -> int:
        """Number of lines in all files, estimated from the first ones."""
        return round(sum(sample.all_lines for _, sample in self.texts) * len(self.files) / max(1, len(self.texts)))


def pair(input: Mapping[str, Any], target: str, **settings: Any) -> dict[str, Any]:
    """The encoding of an input and a target."""
    return {"kind": "pair", "input": dict(input), "target": {"kind": target, **settings}}


def _sample(path: Path) -> Sample | None:
    for coding in ("utf-8", ""):
        files = TextFiles(dropped=Counter())
        if not coding:  # detected from the complete lines of the first block
            block = next(files.unpacked(path), b"")
            files.coding = detected([block[: block.rfind(b"\n") + 1] or block], path) or "utf-8"
        if files.fits(path):
            return None
        blocks = files.blocks(path)
        try:
            text = next(blocks)
        except UserError:
            continue
        try:
            more = bool(next(blocks, ""))
        except UserError:  # reported by ingestion
            more = True
        share = min(0.99, len(text.encode()) / max(1, path.stat().st_size)) if more else 1.0
        return Sample(text, share, files.coding)
    return None
