"""Regions of a piece written as text: "bars 5-8, alto tenor; beats 33-36"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.encodings.base import Encoding
from components.encodings.timeline import Timeline
from components.errors import UserError, meant
from components.render.layout import units
from components.score import Score

WHERE = "rewrite"
LONGEST = 1000  # characters of a region's text
_SPAN = re.compile(r"(bars?|beats?)\s*(\d{1,6})(?:\s*(?:-|–|to)\s*(\d{1,6}))?")


@dataclass(frozen=True)
class Region:
    """The steps from `start` to `stop` of some voices."""

    start: int
    stop: int
    voices: tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A piece whose ids [T] (without BOS and EOS) are regenerated where `free`, bool [T]."""

    ids: np.ndarray
    timeline: Timeline
    free: np.ndarray

    @classmethod
    def read(cls, text: str, encoding: Encoding, ids: Sequence[int] | np.ndarray) -> Piece:
        """The piece, free in the regions of the text. Events that cross the edge of a region are fixed.

        Raises:
            UserError: the text can't be parsed, the piece has no such bars or voices, no event is within a region, or
                the encoding doesn't support it.
        """
        ids = np.asarray(ids, dtype=np.int64)
        timeline = encoding.timeline(ids)
        free = np.zeros(len(ids), dtype=bool)
        for region in read_regions(text, encoding.decode(ids), timeline.voices):
            inside = (timeline.start >= region.start) & (timeline.stop <= region.stop)
            found = inside & np.isin(timeline.voice, region.voices)
            if not found.any():
                names = ", ".join(timeline.voices[voice] for voice in region.voices)
                what = f"{names}: no note lies completely in {text!r}"
                raise UserError(what, where=WHERE, hint="notes that cross its edges aren't rewritten: choose more bars")
            free |= found
        return cls(ids, timeline, free)


def read_regions(text: str, score: Score, names: tuple[str, ...]) -> list[Region]:
    """Parse a text with regions. Bars and beats count from 1; an upbeat is 0.

    Raises:
        UserError: it can't be parsed, or the score has no such bars or voices; lists the existing ones.
    """
    bars, beats = units(score)
    last_bar, upbeat = max(bars, default=0), ", 0 for the upbeat" if 0 in bars else ""
    hint = (
        f"the piece has bars 1-{last_bar} and beats 1-{max(beats, default=0)}{upbeat}; voices: {', '.join(names)} "
        f'(default: all); write it like "bars {min(2, last_bar)}-{min(3, last_bar)}, {names[-1]}", '
        "and separate several parts with ;"
    )
    shown = text if len(text) <= 60 else text[:59] + "…"
    regions = []
    for part in text[:LONGEST].casefold().split(";") if len(text) <= LONGEST else [""]:
        span, *words = re.split(r"[\s,&]+(?=[a-z])", part.strip())
        found, named = _SPAN.fullmatch(span.rstrip(" ,")), [word.strip(" ,") for word in words if word != "and"]
        if found is None:
            raise UserError(f"can't understand {shown!r}", where=WHERE, hint=hint)
        for word in named:
            if word not in names:
                raise UserError(f"there is no voice {word!r}{meant(word, names)}", where=WHERE, hint=hint)
        of = bars if found[1].startswith("bar") else beats
        first, last = int(found[2]), int(found[3] or found[2])
        if not first <= last or first not in of or last not in of:
            raise UserError(f"the piece has no {found[0]}", where=WHERE, hint=hint)
        voices = tuple(names.index(word) for word in named) or tuple(range(len(names)))
        regions.append(Region(of[first][0], of[last][1], voices))
    return regions
