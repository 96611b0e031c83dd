"""Parallel text: two files with a text and its translation in the same lines."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.files.cells import lines
from components.datasets.files.folders import ending, unpacked_name
from components.datasets.labelled import LabelledReader, Row
from components.errors import UserError
from components.provenance import digest_file, digest_json


@dataclass(kw_only=True, eq=False)
class ParallelReader(TextFilesReader, LabelledReader):
    """(text, translation) from files whose names differ in their ending only: train.de and train.en, gzip or not; or
    from folders of them.

    `source` and `target` are those endings. Given one file of a pair, the other is found next to it. `max_length`:
    pairs with more characters on a side are dropped, as are those with an empty side. `unique`: repeated pairs are
    dropped. `dropped` counts each reason.

    Raises:
        UserError: a file has no counterpart, or the two have different numbers of lines.
    """

    plain = True

    source: Annotated[str, Field(pattern=r"^\w[\w-]{0,31}$")]
    target: Annotated[str, Field(pattern=r"^\w[\w-]{0,31}$")]
    unique: bool = False
    max_length: Annotated[int, Field(gt=0)] = 2000

    def __post_init__(self, files: Sequence[Path]) -> None:
        if self.source.lower() == self.target.lower():
            raise UserError(f"must differ from data.source, {self.source!r}", where="data.target")
        self.endings = (f".{self.source.lower()}", f".{self.target.lower()}")
        super().__post_init__(files)

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        if not labelled:
            for path in self.files:
                for number, line in lines(self._text, path):
                    yield self._row(f"{path}: line {number}", line, None)
            return
        for source, target in self.both():
            pairs = itertools.zip_longest(lines(self._text, source), lines(self._text, target))
            for ours, theirs in pairs:
                if ours is None or theirs is None:
                    counts = [sum(1 for _ in lines(self._text, path)) for path in (source, target)]
                    what = f"has {counts[0]:,} lines, but {target.name} has {counts[1]:,}"
                    raise UserError(what, where=str(source), hint="each line needs its translation in the same line")
                yield self._row(f"{source}: line {ours[0]}", ours[1], theirs[1])

    def both(self) -> list[tuple[Path, Path]]:
        """The pairs of files, in the order given."""
        pairs: dict[tuple[Path, str], tuple[Path, Path]] = {}
        for path in self.files:
            if ending(path) not in self.endings or unpacked_name(path).startswith("."):
                what = f"ends neither in .{self.source} nor in .{self.target}"
                raise UserError(what, where=str(path), hint="set data.source and data.target to the files' endings")
        for path in self.files:
            stem = unpacked_name(path).rpartition(".")[0]
            ours = ending(path) == self.endings[0]
            other = self._beside(path, stem, self.target if ours else self.source)
            pairs.setdefault((path.parent, stem), (path, other) if ours else (other, path))
        self._read_after_all({path.name for pair in pairs.values() for path in pair})
        return list(pairs.values())

    def _read_after_all(self, names: Collection[str]) -> None:
        """Read a folder's file that was skipped because of its content, if its counterpart is read."""
        for reason, passed in list(self.passed_over.items()):
            passed[:] = [name for name in passed if name not in names]
            if not passed:
                del self.passed_over[reason]

    def _beside(self, path: Path, stem: str, wanted: str) -> Path:
        """The file with that stem and ending next to the path, compressed or not; the case of the ending is ignored."""
        names = [f"{stem}.{wanted}{'.gz' * gz}" for gz in (path.suffix.lower() == ".gz", path.suffix.lower() != ".gz")]
        for name in names:
            if (path.parent / name).is_file():
                return path.parent / name
        for other in sorted(path.parent.glob(f"{glob.escape(stem)}.*")):
            if other.is_file() and other.name.lower() in [name.lower() for name in names]:
                return other
        raise UserError(
            "no such file", where=str(path.parent / names[0]), hint="a text and its translation must be two files"
        )

    def digest(self) -> str:
        """Digest of both files of every pair, whichever were given."""
        return digest_json([[digest_file(one) for one in pair] for pair in self.both()])

    def _row(self, where: str, text: str, translation: str | None) -> Row:
        text, translation = text.strip(), None if translation is None else translation.strip()
        problem = "" if text and translation != "" else "empty line"
        if max(len(text), len(translation or "")) > self.max_length:
            problem = f"longer than {self.max_length:,} characters"
        return Row(where, {"input": text[: self.max_length]}, text, translation, problem)
