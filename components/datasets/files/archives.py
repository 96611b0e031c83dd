"""Archives (.zip, .tar, .tar.gz, .tgz), unpacked once into the cache. They are untrusted input."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from filelock import FileLock

from components.datasets.files.folders import DEEPEST
from components.errors import UserError
from components.provenance import digest_file

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
MOST_ENTRIES = 200_000
# The usual ratio is below 20 : 1 for text, and deflate's maximum is 1,030 : 1. A higher ratio is refused as an attack.
EXPANSION, SMALL, MOST_BYTES = 100, 64 << 20, 64 << 30
LONGEST_NAME = 255  # bytes of a path component
LONGEST_READ = 1 << 20  # bytes of one read by tarfile, whose size a header may give
BLOCK = 1 << 20
LINK = "link or device in an archive"  # why an entry is left out
LEFT_OUT = "left-out.json"  # next to the unpacked folder: the names of skipped entries


class _Refused(Exception):
    """Why an archive isn't unpacked."""


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def stem(path: Path) -> str:
    """The name without its ending: songs for songs.tar.gz, and for songs.txt."""
    return re.sub(r"(?i)\.tar\.gz$", "", path.name) if path.name.lower().endswith(".tar.gz") else path.stem


def unpacked(path: Path, cache_dir: Path) -> tuple[Path, list[str]]:
    """(the unpacked folder, the names of skipped entries). The folder is below `cache_dir` and is created if missing.
    Only files and folders are unpacked, no links or devices.

    Raises:
        UserError: the archive is damaged or encrypted, a name leads out of the folder, or it holds or expands to too
            much. Nothing is left on disk then.
    """
    name = re.sub(r"[^\w.-]+", "-", stem(path))[:60].strip(".") or "archive"
    folder = cache_dir / "unpacked" / f"{name}-{digest_file(path)[:16]}" / name
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent.with_suffix(".lock")):
        if folder.is_dir():
            return folder, json.loads((folder.parent / LEFT_OUT).read_text(encoding="utf-8"))
        shutil.rmtree(folder.parent, ignore_errors=True)  # left by a killed process
        building = folder.with_name(f"{name}.building")
        try:
            left_out = _unpack(path, building)
            (folder.parent / LEFT_OUT).write_text(json.dumps(left_out), encoding="utf-8")
            building.replace(folder)
        except _Refused as refused:
            raise UserError(str(refused), where=str(path), hint="if you trust it, unpack it yourself") from None
        except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError,
                RuntimeError, ValueError) as error:  # fmt: skip
            hint = "it is incomplete, or isn't what its name says: pack it again"
            raise UserError(f"the archive is damaged: {error}", where=str(path), hint=hint) from error
        except OSError as error:
            raise UserError(f"can't be unpacked: {error.strerror or error}", where=str(path)) from error
        finally:
            if not folder.is_dir():
                shutil.rmtree(folder.parent, ignore_errors=True)
    return folder, left_out


def _unpack(path: Path, folder: Path) -> list[str]:
    """Unpack into a new folder, within the limits. Returns the names of entries that aren't files."""
    folder.mkdir(parents=True)
    left_out: list[str] = []
    budget = [min(max(SMALL, EXPANSION * path.stat().st_size), MOST_BYTES)]
    entries = _zip_entries(path) if path.name.lower().endswith(".zip") else _tar_entries(path, budget)
    for number, (name, opened) in enumerate(entries, start=1):
        if number > MOST_ENTRIES:
            raise _Refused(f"it contains more than {MOST_ENTRIES:,} files")
        parts = _parts(name.replace("\\", "/"))  # Windows separators
        if opened is None:
            left_out.append("/".join(parts))
            continue
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with opened() as source, target.open("xb") as out:
                _copy(source, out, budget)
        except FileExistsError:
            raise _Refused(f"it contains {'/'.join(parts)[:100]!r} twice") from None
    return left_out


def _parts(name: str) -> tuple[str, ...]:
    """The components of an entry's path."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or re.match(r"[A-Za-z]:", name):
        raise _Refused(f"it contains a path outside its folder: {name[:100]!r}")
    if len(parts) > DEEPEST or any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
        raise _Refused(f"it contains a path that is too long or too deep: {name[:100]!r}")
    return parts


def _copy(source: IO[bytes], out: BinaryIO, budget: list[int]) -> None:
    while block := source.read(BLOCK):
        budget[0] -= len(block)
        if budget[0] < 0:
            raise _Refused("it expands to far more than it holds")
        out.write(block)


Entries = Iterator[tuple[str, Callable[[], IO[bytes]] | None]]  # name, function that opens it (None: not a file)


def _zip_entries(path: Path) -> Entries:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise _Refused("it is protected by a password")
            kind = info.external_attr >> 28  # type bits of a Unix file mode: 8 file, 10 link, 0 unknown
            if not info.is_dir():
                yield info.filename, (lambda info=info: archive.open(info)) if kind in (0, 8) else None


def _tar_entries(path: Path, budget: list[int]) -> Entries:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        source = _Bounded(gzip.GzipFile(fileobj=raw) if packed else raw, budget[0])
        with tarfile.open(fileobj=source, mode="r:") as archive:  # type: ignore[arg-type]
            while info := archive.next():
                archive.members.clear()  # otherwise tarfile keeps them all
                source.allow(info.size)
                if info.isdir():
                    continue
                file = info.isreg() and not info.issparse()
                yield info.name, (lambda info=info: archive.extractfile(info)) if file else None  # type: ignore[misc]


class _Bounded:
    """A stream for tarfile that limits the size of a read and of a skip."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._limit = stream, limit

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LONGEST_READ or self._stream.tell() > self._limit:
            raise _Refused("its headers are too large")
        return self._stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position > self._limit:
            raise _Refused("it expands to far more than it holds")
        return self._stream.seek(position)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def allow(self, size: int) -> None:
        if self._stream.tell() + size > self._limit:
            raise _Refused("it expands to far more than it holds")
