"""Files that appear whole or not at all, and what a kill leaves of them."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MARK = ".writing-"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, in a hidden folder beside `path`; at the end of the block it takes the place of `path`. A
    library that writes may make temporary files of its own beside it: they lie in the hidden folder too.

    What killed writers of `path` left is removed before.

    Raises:
        OSError: it can't be written; its `filename` is `path`, not the hidden one.
    """
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_half_written(path.parent, path.name)
        folder, lock = _claim(path)
    try:
        yield folder / path.name
        with open(folder / path.name, "rb") as file:
            os.fsync(file.fileno())
        with _named(path):
            os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the hidden file are those of the file that a user asked for."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_half_written(folder: Path, name: str = "") -> None:
    """Remove what killed writers left in `folder`: of the file `name`, else of every file. Who lives holds a lock."""
    for left in folder.glob(f".{glob.escape(name) or '*'}{MARK}*"):
        with contextlib.suppress(OSError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _claim(path: Path) -> tuple[Path, int]:
    """A hidden folder of our own, and the lock on it, which ends with the process however it ends."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}{MARK}", dir=path.parent))
        with contextlib.suppress(FileNotFoundError, BlockingIOError):  # somebody took it for one that is left over
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise
            except OSError:  # a file system without locks: nobody else can take it there either
                return folder, lock
            if folder.exists():
                return folder, lock
            os.close(lock)
