"""Python's own `re` cuts text twice as fast as the package `regex`, but knows few classes of characters. Here a pattern
of `regex` becomes one of `re` that matches the same: each class is written out, character by character."""

from __future__ import annotations

import re
from functools import cache

import regex

# a set with a class in it, or a class
CLASS = regex.compile(r"\[(?:\\.[^\]\\]*|[^\]\\])*\\(?:.[^\]\\]*)\]|\\p\{[^}]*\}")
ASCII, BMP = 1 << 7, 1 << 16  # below which the characters of a text are
BEYOND = re.compile(f"[{chr(BMP)}-{chr(0x10FFFF)}]")
PART = 4096  # characters


def find_all(pattern: regex.Pattern[str], text: str, blank: regex.Pattern[str]) -> list[str]:
    """`pattern.findall(text)`, of a pattern without groups, flags and anchors; a `blank` only begins a match of it.
    Parts of the text with characters from U+10000 on, emojis say, are cut by `regex`: `re` is slow with these."""
    if text.isascii():
        return in_re(pattern.pattern, ASCII).findall(text)
    if BEYOND.search(text) is None:
        return in_re(pattern.pattern, BMP).findall(text)
    found: list[str] = []
    begin = 0
    while begin < len(text):
        after = blank.search(text, begin + PART)
        end = after.start() if after else len(text)
        part = text[begin:end]
        found += pattern.findall(part) if BEYOND.search(part) else find_all(pattern, part, blank)
        begin = end
    return found


@cache
def in_re(pattern: str, top: int) -> re.Pattern[str]:
    """What matches the same in texts of characters below `top`."""
    return re.compile(CLASS.sub(lambda found: _written_out(found[0], top), pattern))


@cache
def _written_out(name: str, top: int) -> str:
    runs = [run.span() for run in regex.finditer(f"(?:{name})+", _characters(top))]
    return "[" + "".join(f"\\U{first:08x}-\\U{end - 1:08x}" for first, end in runs) + "]" if runs else "(?!)"


@cache
def _characters(top: int) -> str:
    return "".join(map(chr, range(top)))
