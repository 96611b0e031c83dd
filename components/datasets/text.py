"""Text files: one long stream, or one item a line. Any size in bounded memory."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from components.datasets.base import Reader
from components.errors import UserError

CHUNK = 4 << 20  # characters in a piece of a stream
BLOCK = 1 << 20  # bytes read at once
# UTF-32's mark begins with UTF-16's: the longer ones first.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Text seldom packs better than 20 : 1, gzip at most 1,030 : 1. More than this is taken for an attack.
EXPANSION, SMALL = 100, 64 << 20
SPACE = re.compile(r"\s")


class TextFiles:
    """Decoded text of files: UTF-8, or what a byte order mark says; gzip is unpacked; every line end is a line feed.

    Raises:
        UserError: the file is missing, empty, damaged, expands too far, or isn't text in that coding.
    """

    def __init__(self, *, errors: Literal["refuse", "replace"], max_bytes: int | None, dropped: Counter[str]) -> None:
        if errors not in ("refuse", "replace"):
            raise UserError(f"unknown value {errors!r}", where="data.errors", hint="choices: refuse, replace")
        if max_bytes is not None and max_bytes < 1:
            raise UserError(f"{max_bytes} bytes leave nothing to read", where="data.max_bytes")
        self.errors, self.max_bytes, self.dropped = errors, max_bytes, dropped

    def blocks(self, path: Path) -> Iterator[str]:
        """The text of one file in pieces of about a megabyte, NUL characters taken out."""
        newlines = io.IncrementalNewlineDecoder(None, translate=True)
        characters = 0
        for text in self._decoded(path):
            text = newlines.decode(text)
            if "\0" in text:
                self.dropped["NUL character"] += text.count("\0")
                text = text.replace("\0", "")
            characters += len(text)
            yield text
        yield newlines.decode("", final=True)
        if not characters:
            raise UserError("the file is empty", where=str(path), hint="give a file that holds text")

    def _decoded(self, path: Path) -> Iterator[str]:
        decoder, coding, fed = None, "utf-8", 0
        for block in self._bytes(path):
            if decoder is None:
                mark, coding = next(((m, c) for m, c in MARKS if block.startswith(m)), (b"", "utf-8"))
                block, fed = block[len(mark) :], len(mark)
                decoder = codecs.getincrementaldecoder(coding)("strict" if self.errors == "refuse" else "replace")
            fed += len(block)
            yield self._decode(decoder, block, path, coding, fed)
        if decoder is not None:
            yield self._decode(decoder, b"", path, coding, fed, final=True)

    def _decode(
        self, decoder: codecs.IncrementalDecoder, block: bytes, path: Path, coding: str, fed: int, final: bool = False
    ) -> str:
        try:
            return decoder.decode(block, final)
        except UnicodeDecodeError as error:
            # error.object is what the decoder held back from the block before, and this block
            offset = fed - len(error.object) + error.start
            raise UserError(
                f"byte {offset:,} (0x{error.object[error.start]:02x}) isn't {coding.upper()}: {error.reason}",
                where=str(path),
                hint="save the file as UTF-8, or set data.errors=replace to read such bytes as U+FFFD",
            ) from error

    def _bytes(self, path: Path) -> Iterator[bytes]:
        """The file's bytes, unpacked when they are gzip (known by their first two bytes, not by the name)."""
        try:
            with path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                size = path.stat().st_size
                limit = self.max_bytes or (max(SMALL, EXPANSION * size) if packed else None)
                source: BinaryIO = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
                total = 0
                while block := source.read(BLOCK):
                    total += len(block)
                    if limit is not None and total > limit:
                        what = f"{size:,} packed bytes expand to more than" if packed else "the file has more than"
                        hint = "set data.max_bytes to read more of it, if you trust the file"
                        raise UserError(f"{what} {limit:,} bytes", where=str(path), hint=hint)
                    yield block
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            hint = "the file was cut short or isn't gzip: fetch or pack it again"
            raise UserError(f"the gzip data is damaged: {error}", where=str(path), hint=hint) from error
        except OSError as error:
            raise UserError(f"can't be read: {error.strerror or error}", where=str(path)) from error


class TextReader(Reader):
    """Text files as one stream of characters.

    `errors`: "replace" reads undecodable bytes as U+FFFD instead of refusing the file. `max_bytes`: refuse a
    file that has more bytes, unpacked.
    """

    framing = "stream"

    def __init__(
        self,
        files: Sequence[Path],
        /,
        *,
        errors: Literal["refuse", "replace"] = "refuse",
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(files)
        self._text = TextFiles(errors=errors, max_bytes=max_bytes, dropped=self.dropped)

    def items(self) -> Iterator[str]:
        """Pieces of about 4 million characters, cut just before a whitespace character where there is one."""
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
            last = SPACE.search(chunk[::-1])
            # Without any (or with nothing before it) the cut is at the end: carrying on would let the memory grow.
            cut = (len(chunk) - last.end() if last else 0) or len(chunk)
            yield chunk[:cut]
            pieces, length = [chunk[cut:]], len(chunk) - cut
        if length:
            yield "".join(pieces)

    def length(self, item: str) -> int:
        return len(item)

    def _blocks(self) -> Iterator[str]:
        last = "\n"
        for path in self.files:
            if last != "\n":
                yield "\n"  # two files' words don't grow together
                self.notes.append(f"a line feed was added before {path.name}")
            for block in self._text.blocks(path):
                if block:
                    last = block[-1]
                    yield block


class LinesReader(Reader):
    """Text files with one item a line.

    `unique` drops repeated lines, `strip` the white space around a line, `max_length` the lines with more
    characters. Empty lines are always dropped; `dropped` counts each reason. `errors`, `max_bytes`: as TextReader.
    """

    framing = "sequences"

    def __init__(
        self,
        files: Sequence[Path],
        /,
        *,
        errors: Literal["refuse", "replace"] = "refuse",
        unique: bool = True,
        max_length: int = 1000,
        strip: bool = True,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(files)
        if max_length < 1:
            raise UserError(f"{max_length} characters leave no line", where="data.max_length", hint="choose 1 or more")
        self.unique, self.max_length, self.strip = unique, max_length, strip
        self._text = TextFiles(errors=errors, max_bytes=max_bytes, dropped=self.dropped)

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
                rest = "x" * (self.max_length + 1)  # stands for a line that is too long whatever follows
        if rest:
            yield rest
