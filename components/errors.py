"""The error for users: where, what is wrong, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SENTENCE = " Did you mean {!r}?"


class UserError(Exception):
    """A user's mistake: shown without a traceback, exit code 2.

    `where` is a file, a dotted key or a command; `hint` says how to fix it.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__("\n".join(filter(None, [f"{where}: {what}" if where else what, hint])))


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice most similar to `name`, or None."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def meant(name: str, choices: Iterable[str], words: str = "; did you mean {!r}?") -> str:
    """`words` with the choice most similar to `name`; "" if there is none."""
    near = nearest(name, choices)
    return words.format(near) if near else ""


def listed(names: Sequence[str], most: int) -> str:
    """The first `most` names, with … if there are more."""
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def one_line(text: str, longest: int = 160) -> str:
    """Text that may contain untrusted bytes, as one printable line."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def unknown(kind: str, name: str, choices: Iterable[str], *, where: str | None = None) -> UserError:
    """The error for a name that isn't among `choices`: it suggests the nearest one and lists them all."""
    choices = sorted(choices)
    what = f"unknown {kind} {name!r}.{meant(name, choices, SENTENCE)}"
    return UserError(what, where=where, hint=f"choices: {', '.join(choices) or 'none'}")
