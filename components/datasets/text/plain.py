"""Text files: one long stream, or one item a line, of any size in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.files.text import BLOCK

CHUNK = 1 << 20  # characters of a stream in an item
NEAR = 1024  # characters before the end of an item in which a whitespace is looked for first
SPACE = re.compile(r"\s")


class TextReader(TextFilesReader):
    """Text files, or folders of them at any depth, as one stream of characters."""

    framing = "stream"
    plain = True

    def items(self) -> Iterator[str]:
        """Items of about a million characters, cut just before a whitespace character if there is one."""
        self.dropped.clear()
        self.notes.clear()
        pieces: list[str] = []
        length = 0
        for text in self._blocks():
            pieces.append(text)
            length += len(text)
            if length < CHUNK:
                continue
            chunk = "".join(pieces)
            last = SPACE.search(chunk[: -NEAR - 1 : -1]) or SPACE.search(chunk[::-1])
            # Without one (or with nothing before it) cut at the end: otherwise memory would grow.
            cut = (len(chunk) - last.end() if last else 0) or len(chunk)
            yield chunk[:cut]
            pieces, length = [chunk[cut:]], len(chunk) - cut
        if length:
            yield "".join(pieces)

    def length(self, item: str) -> int:
        return len(item)

    def _blocks(self) -> Iterator[str]:
        last, first, separated = "\n", "", 0
        for path in self.files:
            if last != "\n":
                yield "\n"  # separates the words of two files
                first, separated = first or path.name, separated + 1
            for block in self._text.blocks(path):
                if block:
                    last = block[-1]
                    yield block
        if separated:
            more = f" and {separated - 1:,} more files" if separated > 1 else ""
            self.notes.append(f"a line feed was added before {first}{more}")


@dataclass(kw_only=True, eq=False)
class LinesReader(TextFilesReader):
    """Text files with one item a line.

    `unique` drops repeated lines, `strip` the white space around a line, `max_length` the lines with more characters.
    Empty lines are always dropped; `dropped` counts each reason.
    """

    framing = "sequences"
    plain = True

    unique: bool = True
    max_length: Annotated[int, Field(gt=0)] = 1000
    strip: bool = True

    def items(self) -> Iterator[str]:
        self.dropped.clear()
        seen: set[str] = set()
        for path in self.files:
            for line in self._lines(path):
                line = line.strip() if self.strip else line
                if not line.strip():
                    self.dropped["empty line"] += 1
                elif len(line) > self.max_length:
                    self.dropped[f"longer than {self.max_length} characters"] += 1
                elif self.unique and line in seen:
                    self.dropped["repeated line"] += 1
                else:
                    if self.unique:
                        seen.add(line)
                    yield line

    def group(self, item: str) -> str:
        return item.casefold()

    def _lines(self, path: Path) -> Iterator[str]:
        rest = ""
        for block in self._text.blocks(path):
            *lines, rest = (rest + block).split("\n")
            yield from lines
            if len(rest) > max(BLOCK, self.max_length):
                rest = "x" * (self.max_length + 1)  # a placeholder for a line that is too long in any case
        if rest:
            yield rest
