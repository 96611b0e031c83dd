"""Decoded text of files, in blocks: any coding, gzip or not, in bounded memory. Files are untrusted input."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from components.datasets.files.codings import AUTO, JAPANESE, detect, known, marked, unmarked
from components.datasets.files.text_doubts import TextDoubts, not_text
from components.errors import UserError

BLOCK = 1 << 20  # bytes read at once
# The usual ratio is below 20 : 1 for text, and gzip's maximum is 1,030 : 1. A higher ratio is refused as an attack.
EXPANSION, SMALL = 100, 64 << 20
SNIFFED = 8192  # bytes of a folder's file that decide whether it is text
SHOWN = 60  # characters of a line in a note
TAKEN_OUT = {"\0": "NUL character", "\ufeff": "byte order mark inside a text"}
NAME_IT = "set it, for example --set data.coding=latin-1"


class TextFiles:
    """Decoded text of files: UTF-8, `coding`, or by a byte order mark; gzip is decompressed; line ends are converted to
    line feeds. The coding "auto" is detected for each file and reported in `notes`. `settings`: the reader's, for the
    hints. `plain`: all of a file is taken as text.

    Raises:
        UserError: the file is missing, empty, damaged, expands too far, or isn't text in that coding.
    """

    def __init__(
        self,
        *,
        dropped: Counter[str],
        coding: str = "utf-8",
        errors: Literal["refuse", "replace"] = "refuse",
        max_bytes: int | None = None,
        notes: list[str] | None = None,
        settings: Collection[str] = (),
        plain: bool = False,
    ) -> None:
        try:
            self.coding = known(coding)
        except ValueError as error:
            raise UserError(str(error), where="data.coding") from None
        self.errors, self.max_bytes, self.dropped = errors, max_bytes, dropped
        self._notes = notes if notes is not None else []
        self._settings = settings
        self._detected: dict[Path, str] = {}
        # detected coding → the first file's name, its first line that isn't ASCII, and all files
        self._shown: dict[str, tuple[str, str, set[Path]]] = {}
        self._doubts = TextDoubts(plain)

    def tell(self, notes: Collection[str]) -> None:
        """Add notes for the user, each once."""
        self._notes += [note for note in notes if note not in self._notes]

    def blocks(self, path: Path) -> Iterator[str]:
        """The text of a file in blocks of about a megabyte, without NUL characters and without byte order marks in the
        middle of concatenated files."""
        newlines = io.IncrementalNewlineDecoder(None, translate=True)
        characters = 0
        self._doubts.begin(path)
        for text in self._decoded(path):
            text = newlines.decode(text)
            for sign, name in TAKEN_OUT.items():
                if sign in text:
                    self.dropped[name] += text.count(sign)
                    text = text.replace(sign, "")
            characters += len(text)
            self._doubts.look(path, text)
            yield text
        self._doubts.tell(self._notes)
        yield newlines.decode("", final=True)
        if not characters:
            raise UserError("the file is empty", where=str(path), hint="give a file with text")

    def fits(self, path: Path) -> str:
        """Why a folder's file isn't read: it is empty, or its beginning isn't text; else ""."""
        try:
            beginning = next(self.unpacked(path), b"")[:SNIFFED]
        except UserError as error:
            return error.what
        if not beginning:
            return "empty"
        if what := not_text(beginning):
            return what
        wide = self.coding.lower().startswith(("utf-16", "utf-32", "utf_16", "utf_32", "utf16", "utf32"))
        if b"\0" not in beginning or marked(beginning)[1] or wide:
            return ""
        coding = unmarked(beginning)
        return f"UTF-16 without a byte order mark (data.coding={coding})" if coding else "not text"

    def _decoded(self, path: Path) -> Iterator[str]:
        decoder, coding, fed, shown = None, "utf-8", 0, ""
        utf8: codecs.IncrementalDecoder | None = None  # beside a named coding: valid UTF-8 is rarely anything else
        for block in self.unpacked(path):
            if decoder is None and (what := not_text(block)):
                raise UserError(f"is {what}, not plain text", where=str(path), hint="save it as plain text in UTF-8")
            if decoder is None:
                mark, coding = marked(block)
                if (
                    not mark
                    and self.coding != AUTO
                    and codecs.lookup(self.coding).name == "utf-8"
                    and (wide := unmarked(block[:SNIFFED]))
                ):
                    raise self._wrong("is UTF-16 without a byte order mark", path, wide)
                coding = coding or self._coding(path)
                block, fed = block[len(mark) :], len(mark)
                decoder = codecs.getincrementaldecoder(coding)("strict" if self.errors == "refuse" else "replace")
                named = not mark and self.coding != AUTO and codecs.lookup(coding).name != "utf-8"
                utf8 = codecs.getincrementaldecoder("utf-8")() if named else None
            fed += len(block)
            text = self._decode(decoder, block, path, coding, fed)
            if utf8 is not None:
                try:
                    utf8.decode(block)
                except UnicodeDecodeError:
                    utf8 = None
                shown = shown or ("" if text.isascii() or block.isascii() else text)  # UTF-7 is ASCII
            yield text
        if decoder is not None:
            yield self._decode(decoder, b"", path, coding, fed, final=True)
        if utf8 is not None and shown:
            note = f"{path.name} is valid UTF-8 but read as {coding}: {_first_line(shown)!r} (data.coding=utf-8?)"
            self._notes += [note] * (note not in self._notes)

    def _coding(self, path: Path) -> str:
        """The coding of a file without a byte order mark."""
        if self.coding != AUTO:
            return self.coding
        if path not in self._detected:
            found = detected(self.unpacked(path), path)
            if found is None:
                raise UserError("its encoding can't be detected", where=str(path), hint=NAME_IT)
            self._detected[path] = found
        return self._detected[path]

    def _decode(
        self, decoder: codecs.IncrementalDecoder, block: bytes, path: Path, coding: str, fed: int, final: bool = False
    ) -> str:
        try:
            text = decoder.decode(block, final)
        except UnicodeDecodeError as error:
            # error.object is the undecoded rest of the last block, and this block
            offset = fed - len(error.object) + error.start
            what = f"byte {offset:,} (0x{error.object[error.start]:02x}) isn't {coding.upper()}: {error.reason}"
            raise self._wrong(what, path) from error
        except UnicodeError as error:  # without a position: a missing mark
            raise self._wrong(f"isn't {coding.upper()}: {error}", path) from error
        if coding == "utf-8" and JAPANESE.decode() in text:
            raise self._wrong("is ISO-2022-JP, which looks like ASCII", path, "iso2022_jp")
        if self.coding == AUTO and not text.isascii() and path in self._detected:
            self._tell(path, text)
        return text

    def _tell(self, path: Path, text: str) -> None:
        """Show for each detected coding how the letters of the first file are decoded, and the number of files."""
        coding = self._detected[path]
        if coding == "utf-8":
            return
        first, line, files = self._shown.setdefault(coding, (path.name, repr(_first_line(text)), set()))

        def note() -> str:
            more = f" and {len(files) - 1:,} more files are" if len(files) > 1 else " is"
            return f"{first}{more} read as {coding} (detected): {line}"

        before = note()
        files.add(path)
        if before in self._notes:
            self._notes[self._notes.index(before)] = note()
        elif note() not in self._notes:
            self._notes.append(note())

    def _wrong(self, what: str, path: Path, coding: str = "") -> UserError:
        """The error for undecodable text; `coding`: its actual one, if known."""
        ways = {
            "coding": "set its encoding, e.g. --set data.coding=latin-1 (or cp1252, gbk, shift-jis; auto: detected)",
            "errors": "use --set data.errors=replace to read such bytes as U+FFFD",
        }
        if coding:
            ways = {"coding": f"use --set data.coding={coding} (or auto, if files differ)"}
        ways = [way for setting, way in ways.items() if setting in self._settings]
        return UserError(what, where=str(path), hint=", or ".join(["save the file as UTF-8", *ways]))

    def unpacked(self, path: Path) -> Iterator[bytes]:
        """The file's bytes, decompressed if they are gzip (recognised by the first two bytes, not by the name)."""
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
                        hint = "if you trust the file, set a larger data.max_bytes"
                        raise UserError(f"{what} {limit:,} bytes", where=str(path), hint=hint)
                    yield block
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            hint = "the file is incomplete or isn't gzip: download or compress it again"
            raise UserError(f"the gzip data is damaged: {error}", where=str(path), hint=hint) from error
        except OSError as error:
            raise UserError(f"can't be read: {error.strerror or error}", where=str(path)) from error


def _first_line(text: str) -> str:
    """The first line that isn't ASCII, shortened."""
    return next(" ".join(line.split())[:SHOWN] for line in text.splitlines() if not line.isascii())


def detected(blocks: Iterable[bytes], path: Path) -> str | None:
    """See `components.datasets.files.codings.detect`. Raises UserError if files in two codings were concatenated."""
    try:
        return detect(blocks)
    except ValueError as error:
        hint = f"the file mixes two encodings: convert those lines to UTF-8, or read all with one: {NAME_IT}"
        raise UserError(str(error), where=str(path), hint=hint) from None
