"""The code's folder, paths given by users, and file permissions."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from components.errors import UserError

CODE = Path(__file__).resolve().parents[1]  # the folder of flows/ and components/
CHECKOUT = (CODE / "data" / "catalogue").is_dir()  # otherwise the code is installed
UMASK = "REPRISE_UMASK"  # environment variable: the user's umask, for started processes


def user_path(text: str | os.PathLike[str], *, where: str, base: Path | None = None) -> Path:
    """The absolute path of `text`, with "~" expanded; relative paths begin at `base` (default: the current folder).

    Raises:
        UserError: it isn't a valid path on this machine.
    """
    if not os.fspath(text).strip():  # pathlib reads it as the current folder
        raise UserError("the path is empty", where=where, hint="give a file or a folder; . is the current folder")
    try:
        path = Path(os.fspath(text)).expanduser()
        str(path).encode("utf-8")
        path = ((base or Path.cwd()) / path).resolve()
        path.exists()  # raises if a name is too long
    except UnicodeEncodeError:
        raise UserError(
            f"{shown(text)} isn't UTF-8 text", where=where, hint="rename it, or set LC_ALL=C.UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"{shown(text)} can't be used: {error.strerror or error}", where=where) from None
    except (ValueError, RuntimeError) as error:  # a NUL byte; an unknown home, a cycle of links
        raise UserError(f"{shown(text)} isn't a valid path: {str(error).rstrip('.')}", where=where) from None
    return path


def user_paths(given: str | Mapping[str, str], *, where: str) -> str | dict[str, str]:
    """A path as text, or one for each split, relative to the current folder. Raises UserError: see `user_path`."""
    if isinstance(given, str):
        return str(user_path(given, where=where))
    return {split: str(user_path(one, where=where)) for split, one in given.items()}


def existing(path: Path, *, where: str, hint: str | None = None) -> Path:
    """The path, if it is a file or a folder.

    Raises:
        UserError: it doesn't exist, or is something else, such as a pipe, which could block.
    """
    if path.is_file() or path.is_dir():
        return path
    what = "not a file or a folder" if path.exists() else "no such file or folder"
    raise UserError(what, where=where, hint=hint)


def output_folder(text: str | os.PathLike[str], *, where: str) -> Path:
    """A path at which a folder exists or can be made, and be written to.

    Raises:
        UserError: it is a file, or isn't writable.
    """
    path = user_path(text, where=where)
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file, not a folder", where=where)
    try:
        tempfile.TemporaryFile(dir=there).close()  # try it: even root can't write to /proc or to a full disk
    except OSError as error:
        raise UserError(f"{there} can't be written to: {error.strerror or error}", where=where) from None
    return path


def output_file(text: str | os.PathLike[str], *, where: str) -> Path:
    """A path that a file can be written to.

    Raises:
        UserError: it is a folder or a device, or isn't writable.
    """
    path = user_path(text, where=where)
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file"
        raise UserError(f"{path} is {what}", where=where, hint="give the path of a file")
    output_folder(path.parent, where=where)
    return path


def apart(out: Path, read: Iterable[Path]) -> None:
    """Raise UserError if `out` is one of the files in `read`, which would be overwritten."""
    if out.exists() and any(out.samefile(path) for path in read if path.exists()):
        raise UserError("can't be written to, since it is also the input", where=str(out), hint="write to another file")


def writable_folder(path: Path, *, where: str, hint: str | None = None) -> Path:
    """The folder, created if needed. Raises UserError if it can't be created or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(None, "Permission denied")
    except OSError as error:
        raise UserError(f"{path} can't be written to: {error.strerror or error}", where=where, hint=hint) from None
    return path


def shown(text: object) -> str:
    """A user's text for use in a message: short, and printable in a terminal."""
    return ascii(str(text)[:120]) if not str(text)[:120].isprintable() else repr(str(text)[:120])


def keep_private() -> None:
    """Make all files that this process and its children write private to the user."""
    own = os.umask(0o077)
    os.environ.setdefault(UMASK, f"{own:o}")


@contextlib.contextmanager
def as_user() -> Iterator[None]:
    """Context for writing the user's own files, with permissions from the user's umask."""
    before = os.umask(0o077)
    os.umask(int(os.environ.get(UMASK, f"{before:o}"), 8))
    try:
        yield
    finally:
        os.umask(before)
