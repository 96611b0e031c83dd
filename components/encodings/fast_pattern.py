"""Convert a pattern of the package `regex` to one of Python's `re` that matches the same. `re` is twice as fast but
lacks Unicode classes, so each class is expanded to ranges of characters."""

from __future__ import annotations

import re
from functools import cache

import regex

# a set that contains a class, or a class
CLASS = regex.compile(r"\[(?:\\.[^\]\\]*|[^\]\\])*\\(?:.[^\]\\]*)\]|\\p\{[^}]*\}")
ASCII, BMP = 1 << 7, 1 << 16  # upper bounds of the characters of a text
BEYOND = re.compile(f"[{chr(BMP)}-{chr(0x10FFFF)}]")
PART = 4096  # characters


def find_all(pattern: regex.Pattern[str], text: str, blank: regex.Pattern[str]) -> list[str]:
    """`pattern.findall(text)` for a pattern without groups, flags and anchors that matches a `blank` only at the
    beginning. Parts of the text with characters above U+FFFF, such as emojis, use `regex`: `re` is slow with these."""
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
    """The pattern for `re` that matches the same in texts with characters below `top`."""
    return re.compile(CLASS.sub(lambda found: _written_out(found[0], top), pattern))


@cache
def _written_out(name: str, top: int) -> str:
    runs = [run.span() for run in regex.finditer(f"(?:{name})+", _characters(top))]
    return "[" + "".join(f"\\U{first:08x}-\\U{end - 1:08x}" for first, end in runs) + "]" if runs else "(?!)"


@cache
def _characters(top: int) -> str:
    return "".join(map(chr, range(top)))
