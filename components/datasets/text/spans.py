"""Spans in tags, as conlleval counts them (Tjong Kim Sang & Buchholz 2000): one rule reads IOB1, IOB2 and BIOES.

A tag is "O", or a place and a type: "B-person". The place is that of the token in its span: B begins it, I is inside, E
(or L) ends it, S (or U) is a span of one token.
"""

from __future__ import annotations

from collections.abc import Sequence

OUTSIDE = "O"
BEGIN, INSIDE = "B", "I"
PLACES = {"B": "B", "I": "I", "E": "E", "L": "E", "S": "S", "U": "S"}
Span = tuple[int, int, str]  # first step, the step after the last, type


def parts(tag: str) -> tuple[str, str] | None:
    """(place B, I, E or S, type) of a tag: ("O", "") outside, None if it isn't a span tag. A bare "B" has the type
    ""."""
    place, dash, kind = tag.partition("-")
    if tag == OUTSIDE:
        return OUTSIDE, ""
    return (PLACES[place], kind) if place in PLACES and bool(dash) == bool(kind) else None


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans of a sequence, in order. Tags that aren't span tags, such as "", are outside."""
    found: list[Span] = []
    start, kind = -1, ""  # the open span; −1: none
    for step, tag in enumerate([*tags, OUTSIDE]):
        place, here = parts(tag) or (OUTSIDE, "")
        if start >= 0 and (place not in ("I", "E") or here != kind):
            found.append((start, step, kind))
            start = -1
        if place != OUTSIDE and start < 0:
            start, kind = step, here
        if place in ("E", "S"):
            found.append((start, step + 1, here))
            start = -1
    return found


def as_iob2(tags: Sequence[str]) -> list[str]:
    """The same spans in IOB2.

    Raises:
        ValueError: a tag isn't a span tag.
    """
    for tag in tags:
        if parts(tag) is None:
            raise ValueError(f"{tag!r} isn't a tag of spans")
    written = [OUTSIDE] * len(tags)
    for start, end, kind in spans(tags):
        suffix = f"-{kind}" if kind else ""
        written[start:end] = [BEGIN + suffix, *[INSIDE + suffix] * (end - start - 1)]
    return written


def follows(tag: str, previous: str | None) -> bool:
    """Whether IOB2 allows `tag` after `previous` (None: at the beginning): an I continues a span of its type."""
    place, kind = parts(tag) or (OUTSIDE, "")
    if place != INSIDE:
        return True
    before = parts(previous) if previous is not None else None
    return before is not None and before[0] != OUTSIDE and before[1] == kind
