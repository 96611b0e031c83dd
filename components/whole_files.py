"""Atomic writing of files, removal of what killed processes left, and locks that one process holds at a time."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from components.errors import UserError

MARK = ".writing-"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, in a hidden folder next to `path`; at the end of the block it replaces `path`. Temporary
    files that a library makes next to it are in the hidden folder too.

    Removes what killed writers of `path` left.

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
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, in a hidden one next to `folder`; at the end of the block it becomes `folder`.

    Raises:
        UserError: `folder` exists.
    """
    if folder.exists():
        raise UserError("already exists", where=str(folder), hint="choose a new folder: --out FOLDER")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".exporting-") as parent:
        made = Path(parent) / "made"
        made.mkdir()
        yield made
        made.rename(folder)


@contextlib.contextmanager
def held(file: Path, refusal: UserError) -> Iterator[None]:
    """Context manager that holds a lock file for this process. Raises `refusal` if another one holds it."""
    from filelock import FileLock, Timeout  # not needed by the code of a registered model, which reads this module

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise refusal from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Report errors of the hidden file as errors of `path`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_half_written(folder: Path, name: str = "") -> None:
    """Remove what killed writers left in `folder`, of the file `name` or of all files. Running writers hold a lock."""
    for left in folder.glob(f".{glob.escape(name) or '*'}{MARK}*"):
        with contextlib.suppress(OSError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _claim(path: Path) -> tuple[Path, int]:
    """A new hidden folder and a lock on it, which is released whenever the process ends."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}{MARK}", dir=path.parent))
        with contextlib.suppress(FileNotFoundError, BlockingIOError):  # another process removed it as a leftover
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise
            except OSError:  # a file system without locks: others can't lock it either
                return folder, lock
            if folder.exists():
                return folder, lock
            os.close(lock)
