"""Where the code lies, the paths that a user gives, and who may read what is kept for one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from components.errors import UserError

CODE = Path(__file__).resolve().parents[1]  # the folder of flows/ and components/
CHECKOUT = (CODE / "data" / "catalogue").is_dir()  # else the code is installed
UMASK = "REPRISE_UMASK"  # the user's, for the processes that we start


def user_path(text: str | os.PathLike[str], *, where: str, base: Path | None = None) -> Path:
    """The absolute path that `text` means, "~" included; a relative one begins at `base`, else at the current folder.

    Raises:
        UserError: it can't be a path on this machine.
    """
    try:
        path = Path(os.fspath(text)).expanduser()
        str(path).encode("utf-8")
        path = ((base or Path.cwd()) / path).resolve()
        path.exists()  # a name may be too long
    except UnicodeEncodeError:
        raise UserError(
            f"{shown(text)} isn't UTF-8 text", where=where, hint="rename it, or set LC_ALL=C.UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"{shown(text)} can't be used: {error.strerror or error}", where=where) from None
    except (ValueError, RuntimeError) as error:  # a NUL byte; a home that isn't known, links in a circle
        raise UserError(f"{shown(text)} can't be a path: {str(error).rstrip('.')}", where=where) from None
    return path


def user_paths(given: str | Mapping[str, str], *, where: str) -> str | dict[str, str]:
    """A path as text, or one for each split, from the current folder. Raises UserError as `user_path` does."""
    if isinstance(given, str):
        return str(user_path(given, where=where))
    return {split: str(user_path(one, where=where)) for split, one in given.items()}


def existing(path: Path, *, where: str, hint: str | None = None) -> Path:
    """The path, which is a file's or a folder's.

    Raises:
        UserError: it isn't: there is nothing, or a pipe, which would be waited for.
    """
    if path.is_file() or path.is_dir():
        return path
    what = "not a file or a folder" if path.exists() else "no such file or folder"
    raise UserError(what, where=where, hint=hint)


def output_folder(text: str | os.PathLike[str], *, where: str) -> Path:
    """A path that a folder can be made at, or written to where it is there.

    Raises:
        UserError: it is a file, or there is no right to write.
    """
    path = user_path(text, where=where)
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file, not a folder", where=where)
    try:
        tempfile.TemporaryFile(dir=there).close()  # who may do everything can't write to /proc or a full disk either
    except OSError as error:
        raise UserError(f"{there} can't be written to: {error.strerror or error}", where=where) from None
    return path


def output_file(text: str | os.PathLike[str], *, where: str) -> Path:
    """A path that a file can be written to.

    Raises:
        UserError: it is a folder or a device, or there is no right to write.
    """
    path = user_path(text, where=where)
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file"
        raise UserError(f"{path} is {what}", where=where, hint="name a file in a folder")
    output_folder(path.parent, where=where)
    return path


def apart(out: Path, read: Iterable[Path]) -> None:
    """Raises UserError where `out` is one of the files that are `read`: it would be written over."""
    if out.exists() and any(out.samefile(path) for path in read if path.exists()):
        raise UserError("is the file that is read", where=str(out), hint="write to another file")


def writable_folder(path: Path, *, where: str, hint: str | None = None) -> Path:
    """The folder, made where it isn't there. Raises UserError when it can't be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(None, "Permission denied")
    except OSError as error:
        raise UserError(f"{path} can't be written to: {error.strerror or error}", where=where, hint=hint) from None
    return path


def shown(text: object) -> str:
    """A text of a user's in a message: short, and with nothing that a terminal can't show."""
    return ascii(str(text)[:120]) if not str(text)[:120].isprintable() else repr(str(text)[:120])


def keep_private() -> None:
    """From now on what this process and those that it starts write is for its user alone."""
    own = os.umask(0o077)
    os.environ.setdefault(UMASK, f"{own:o}")


@contextlib.contextmanager
def as_user() -> Iterator[None]:
    """Write what belongs to the user, not to our state: with the rights that the user's umask gives."""
    before = os.umask(0o077)
    os.umask(int(os.environ.get(UMASK, f"{before:o}"), 8))
    try:
        yield
    finally:
        os.umask(before)
