"""Tables saved by R (`save`, .rda): the part of R's serialisation that data frames need; no code is read.

The format is described in R Internals, section 1.8, "Serialization Formats"; only its binary (XDR, big-endian) form is
read. Anything but data (functions, environments, external pointers) is refused.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from typing import Any

import numpy as np

from components.errors import UserError

LARGEST = 1 << 29  # bytes, uncompressed
DEEPEST = 200  # nested lists
_MISSING = -(1 << 31)  # R's NA of integers and logicals
Table = dict[str, list[Any]]


class _Damaged(Exception):
    """The bytes don't follow the format."""


def read_tables(data: bytes, *, where: str) -> dict[str, Table]:
    """The data frames in the bytes of an .rda file: name → column → values (None for R's NA).

    Raises:
        UserError: the bytes aren't such a file, or contain anything but plain data.
    """
    try:
        raw = _unpacked(data)
        if raw[:7] not in (b"RDX2\nX\n", b"RDX3\nX\n"):
            raise _Damaged(f"it begins with {raw[:7]!r}")
        reader = _Reader(raw, 7)
        version, _, _ = (reader.int() for _ in range(3))
        if version == 3:
            reader.take(reader.int())  # the encoding of its strings
        tables = reader.item(0)
    except (_Damaged, struct.error, EOFError, OSError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as error:
        hint = "give the file as R's save() wrote it"
        raise UserError(f"isn't a table saved by R ({error})", where=where, hint=hint) from error
    return {name: table for name, table in (tables or {}).items() if isinstance(table, dict)}


def _unpacked(data: bytes) -> bytes:
    """The uncompressed bytes, at most LARGEST."""
    for magic, packed in (
        (b"\xfd7zXZ", lzma.LZMADecompressor()),
        (b"BZh", bz2.BZ2Decompressor()),
        (b"\x1f\x8b", zlib.decompressobj(31)),
    ):
        if data.startswith(magic):
            data = packed.decompress(data, LARGEST)
            break
    if len(data) >= LARGEST:
        raise _Damaged(f"more than {LARGEST:,} bytes unpacked")
    return data


class _Reader:
    """Reads items in order; each begins with flags that give its type and what follows."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.known: list[str] = []  # symbols, which later items reference by number

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise _Damaged("it ends in the middle")
        self.at += count
        return self.data[self.at - count : self.at]

    def int(self) -> int:
        return struct.unpack(">i", self.take(4))[0]

    def length(self) -> int:
        count = self.int()
        if count < 0:
            raise _Damaged("a vector is too long")
        return count

    def text(self) -> str | None:
        """A character string with its flags."""
        if self.int() & 0xFF != 9:
            raise _Damaged("an invalid string")
        size = self.int()
        return None if size == -1 else self.take(size).decode("utf-8", "replace")

    def item(self, depth: int) -> Any:
        """The next item: a list of values, or a dict for a data frame or a list with names."""
        if depth > DEEPEST:
            raise _Damaged(f"lists within lists, {depth} deep")
        flags = self.int()
        kind, has_attributes = flags & 0xFF, bool(flags & 0x200)
        if kind in (254, 251, 242, 253):  # NULL, the missing argument, the empty and the global environment
            return None
        if kind == 1:
            self.known.append(self.text() or "")
            return self.known[-1]
        if kind == 255:
            number = flags >> 8 or self.int()
            if not 1 <= number <= len(self.known):
                raise _Damaged("an invalid reference")
            return self.known[number - 1]
        if kind == 2:
            return self.pairs(flags, depth)
        if kind == 238:
            return self.compact(depth)
        values = self.vector(kind, depth)
        return _with(values, self.item(depth + 1) if has_attributes else None)

    def vector(self, kind: int, depth: int) -> list[Any]:
        if kind in (10, 13):
            raw = np.frombuffer(self.take(4 * self.length()), ">i4").tolist()
            return [None if value == _MISSING else value for value in raw]
        if kind == 14:
            raw = np.frombuffer(self.take(8 * self.length()), ">f8")
            return [None if value != value else value for value in raw.tolist()]
        if kind == 16:
            return [self.text() for _ in range(self.length())]
        if kind == 19:
            return [self.item(depth + 1) for _ in range(self.length())]
        raise _Damaged(f"it contains R's type {kind}, which isn't plain data")

    def pairs(self, flags: int, depth: int) -> dict[str, Any]:
        """A pair list: (tag, value), then the rest of it. Read in a loop, because they are long."""
        found: dict[str, Any] = {}
        while flags & 0xFF == 2:
            if flags & 0x200:
                self.item(depth + 1)  # attributes of the list itself
            tag = self.item(depth + 1) if flags & 0x400 else str(len(found))
            found[str(tag)] = self.item(depth + 1)
            flags = self.int()
        return found

    def compact(self, depth: int) -> list[Any]:
        """An ALTREP vector: its class, what it is made from, its attributes."""
        about, state, attributes = (self.item(depth + 1) for _ in range(3))
        name = next(iter(about.values()), "") if isinstance(about, dict) else ""
        if name in ("compact_intseq", "compact_realseq") and len(state or ()) == 3:
            count, start, step = state
            if not 0 <= count <= LARGEST // 8:
                raise _Damaged("a sequence is too long")
            return _with([start + step * index for index in range(int(count))], attributes)
        if str(name).startswith("wrap_") and isinstance(state, list | dict):
            return _with((list(state.values()) if isinstance(state, dict) else state)[0], attributes)
        if name == "deferred_string" and isinstance(state, list | dict):
            values = (list(state.values()) if isinstance(state, dict) else state)[0]
            return _with([None if value is None else f"{value:g}" for value in values], attributes)
        raise _Damaged(f"a vector of the kind {name!r}")


def _with(values: list[Any], attributes: Any) -> Any:
    """Apply attributes to values: levels of a factor, columns of a table."""
    if not isinstance(attributes, dict):
        return values
    levels, names = attributes.get("levels"), attributes.get("names")
    if isinstance(levels, list):
        inside = (isinstance(value, int) and 1 <= value <= len(levels) for value in values)
        return [levels[v - 1] if ok else None for v, ok in zip(values, inside, strict=True)]
    if isinstance(names, list) and len(names) == len(values):
        return dict(zip(map(str, names), values, strict=True))
    return values
