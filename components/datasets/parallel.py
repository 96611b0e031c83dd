"""Parallel text: two files, line by line a text and its translation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.datasets.labelled import LabelledReader, Row, lines
from components.datasets.text import TextFiles
from components.errors import UserError
from components.provenance import digest_file, digest_json


class ParallelReader(LabelledReader):
    """(text, translation) from files whose names differ in their ending alone: train.de and train.en, gzip or not.

    `source` and `target` are those endings. Given one file of two, the other is looked for beside it. A pair is dropped
    where a side is empty or has more than `max_length` characters, and with `unique` where it was there before;
    `dropped` counts each reason.

    Raises:
        UserError: a file has no counterpart, or the two differ in their number of lines.
    """

    def __init__(
        self,
        files: Sequence[Path],
        /,
        *,
        source: Annotated[str, Field(pattern=r"^\w[\w-]{0,31}$")],
        target: Annotated[str, Field(pattern=r"^\w[\w-]{0,31}$")],
        unique: bool = False,
        max_length: Annotated[int, Field(gt=0)] = 2000,
        errors: Literal["refuse", "replace"] = "refuse",
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(files, None, unique)
        if source == target:
            raise UserError(f"{source!r} is both source and target", where="data.target")
        self.source, self.target, self.max_length = source, target, max_length
        self._text = TextFiles(errors=errors, max_bytes=max_bytes, dropped=self.dropped)

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
                    what = f"{counts[0]:,} lines, and {target.name} has {counts[1]:,}"
                    raise UserError(what, where=str(source), hint="line by line the one translates the other")
                yield self._row(f"{source}: line {ours[0]}", ours[1], theirs[1])

    def both(self) -> list[tuple[Path, Path]]:
        """The files in pairs, in the order given."""
        stems: dict[tuple[Path, str], bool] = {}
        for path in self.files:
            stem, _, ending = path.name.removesuffix(".gz").rpartition(".")
            if ending not in (self.source, self.target) or not stem:
                what = f"ends neither in .{self.source} nor in .{self.target}"
                raise UserError(what, where=str(path), hint="data.source and data.target are the files' endings")
            stems[path.parent, stem] = path.name.endswith(".gz")
        return [
            (self._beside(folder, stem, self.source, packed), self._beside(folder, stem, self.target, packed))
            for (folder, stem), packed in stems.items()
        ]

    def _beside(self, folder: Path, stem: str, ending: str, packed: bool) -> Path:
        names = [f"{stem}.{ending}{'.gz' * gz}" for gz in (packed, not packed)]
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise UserError("no such file", where=str(folder / names[0]), hint="a text and its translation: two files")

    def digest(self) -> str:
        """Of both files of every pair, whichever were given."""
        return digest_json([[digest_file(one) for one in pair] for pair in self.both()])

    def _row(self, where: str, text: str, translation: str | None) -> Row:
        text, translation = text.strip(), None if translation is None else translation.strip()
        problem = "" if text and translation != "" else "empty line"
        if max(len(text), len(translation or "")) > self.max_length:
            problem = f"longer than {self.max_length:,} characters"
        return Row(where, {"input": text[: self.max_length]}, text, translation, problem)
