"""A proposal, and the files that it is made from. Only beginnings of files are read: hostile ones cost little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from components.datasets.folders import ending, given_splits, hidden, inside
from components.datasets.text import TextFiles, detected
from components.errors import UserError

MOST_FILES = 2000  # of a folder, whose names are looked at
OPENED = 12  # of them, whose beginnings are read
MOST_LINES = 2000  # of a file


class Unlike(Exception):
    """Why the data aren't of a kind."""


@dataclass(frozen=True)
class Proposal:
    """What the data seem to be, and their recipe.

    `why`: what was seen that says so. `like`: the built-in recipe whose model, training and generation are taken, with
    the changes in `model` and `generation` (None takes a setting away). `likely`: taken without being asked for.
    `size`: items, or characters of a text.
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
    """The beginning of a text file. `share`: how much of the file it is."""

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
        """Lines of the file that aren't empty, estimated."""
        read = sum(len(line) + 1 for line in self.lines)
        return round(len(self.filled) * len(self.text) / max(1, read) / self.share)


class Look:
    """The files at `path`: those of training, where names give the splits. `shown` is what a person calls it."""

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
            raise UserError("no files to read here", where=shown, hint="give a file, or a folder with files in it")

    @cached_property
    def endings(self) -> Counter[str]:
        return Counter(ending(path) for path in self.files[:MOST_FILES])

    def having(self, endings: tuple[str, ...]) -> list[Path]:
        """The files with one of the endings, if they are most of the files; else none."""
        found = [path for path in self.files if ending(path) in endings]
        return found if 2 * len(found) > len(self.files) else []

    def sample(self, path: Path) -> Sample | None:
        """The beginning of a file; None where it isn't text."""
        if path not in self._samples:
            self._samples[path] = _sample(path)
        return self._samples[path]

    @cached_property
    def texts(self) -> list[tuple[Path, Sample]]:
        """The first files of text with their beginnings."""
        read = ((path, self.sample(path)) for path in self.files[:OPENED])
        return [(path, sample) for path, sample in read if sample]

    def first(self) -> tuple[Path, Sample]:
        """The first file, as text. Raises Unlike where there is none."""
        if not self.texts:
            raise Unlike("no text")
        return self.texts[0]

    def coding(self) -> dict[str, str]:
        """The setting for the files' coding, where it isn't UTF-8."""
        found = {sample.coding for _, sample in self.texts} - {"utf-8"}
        return {"coding": found.pop() if len(found) == 1 else "auto"} if found else {}

    def characters(self) -> int:
        """Of all files, estimated by their bytes."""
        total = sum(path.stat().st_size for path in islice(self.files, MOST_FILES))
        return round(total * len(self.files) / min(len(self.files), MOST_FILES))

    def lines(self) -> int:
        """Of all files, estimated from the first ones."""
        return round(sum(sample.all_lines for _, sample in self.texts) * len(self.files) / max(1, len(self.texts)))


def pair(input: Mapping[str, Any], target: str, **settings: Any) -> dict[str, Any]:
    """The encoding of an input and a target."""
    return {"kind": "pair", "input": dict(input), "target": {"kind": target, **settings}}


def _sample(path: Path) -> Sample | None:
    for coding in ("utf-8", ""):
        files = TextFiles(dropped=Counter())
        if not coding:  # by the whole lines of the first block
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
        except UserError:  # further on: ingestion will say it
            more = True
        share = min(0.99, len(text.encode()) / max(1, path.stat().st_size)) if more else 1.0
        return Sample(text, share, files.coding)
    return None
