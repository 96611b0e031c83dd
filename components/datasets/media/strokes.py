"""Pen stroke files: drawings as JSON, one a line (Quick, Draw!), and handwriting as XML (IAM-OnDB)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from xml.parsers import expat

import numpy as np
from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.files.cells import lines
from components.datasets.files.folders import ending
from components.errors import UserError
from components.ink import MOST_POINTS, Ink

FARTHEST = 1e7  # largest coordinate: float32 offsets keep their digits
MOST_XML_POINTS = 1_000_000  # of a file
DEEPEST = 100  # nested elements


@dataclass(kw_only=True, eq=False)
class StrokesReader(TextFilesReader):
    """Drawings and handwriting, a piece each.

    `.ndjson` (or .jsonl, .json): a piece a line, as in Quick, Draw!: an object whose "drawing" is a list of strokes
    [[x, …], [y, …]] (a third list, of times, is ignored), y downwards. "word" or "text" is its label. Drawings whose
    "recognized" is false are left out, unless `unrecognized` is set.

    `.xml`: a piece a file, as in IAM-OnDB: elements Stroke with elements Point that have x and y, downwards; the
    optional element Text is the text written.

    Pieces of fewer than two or more than `max_points` points are left out, and all pieces of a file after the first
    `most`.
    """

    framing = "sequences"
    endings = (".ndjson", ".jsonl", ".json", ".xml")

    max_points: Annotated[int, Field(ge=2, le=MOST_POINTS)] = 1000
    most: Annotated[int, Field(gt=0)] | None = None
    unrecognized: bool = False

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        self.ways_out = {self._too_long: "set a larger data.max_points"}

    def items(self) -> Iterator[Ink]:
        return (ink for _, ink in self._placed())

    def places(self, indices: Collection[int]) -> dict[int, str]:
        return {index: place for index, (place, _) in enumerate(self._placed()) if index in indices}

    @property
    def _too_long(self) -> str:
        return f"more than {self.max_points:,} points"

    def _placed(self) -> Iterator[tuple[str, Ink]]:
        """Each piece with its location."""
        self.dropped.clear()
        for path in self.files:
            pieces = self._xml(path) if ending(path) == ".xml" else self._json(path)
            yield from islice(pieces, self.most)

    def _json(self, path: Path) -> Iterator[tuple[str, Ink]]:
        fit = pairs = 0
        for number, line in lines(self._text, path):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
                ink = _drawing(found)
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                if number == 1 or isinstance(error, _OfPoints):  # the format may be wrong for all lines
                    hint = 'write each line as {"drawing": [[[x, …], [y, …]], …]}: for each stroke its xs and its ys'
                    what = f"isn't a drawing: {str(error)[:100]}"
                    raise UserError(what, where=f"{path}: line {number}", hint=hint) from None
                self.dropped["isn't a drawing"] += 1
                continue
            if found.get("recognized") is False and not self.unrecognized:
                self.dropped["not recognized"] += 1
            elif self._fits(ink):
                pairs += all(len(stroke) == 2 for stroke in ink.strokes)
                fit += 1
                yield f"{path.name}: line {number}", ink
        if fit and pairs == fit:
            what = f"{path.name}: every stroke has two points"
            self.tell(f"warning: {what}: is it [x, y], [x, y], not [x, …], [y, …]?")

    def _xml(self, path: Path) -> Iterator[tuple[str, Ink]]:
        reading = _Xml()
        try:
            for block in self._text.blocks(path):
                reading.parser.Parse(block, False)
            reading.parser.Parse("", True)
            ink = reading.ink()
        except (expat.ExpatError, ValueError, OverflowError) as error:
            hint = "the file needs elements Stroke with elements Point, each with x and y"
            raise UserError(f"can't be read as strokes: {str(error)[:100]}", where=str(path), hint=hint) from None
        if self._fits(ink):
            yield path.name, ink

    def _fits(self, ink: Ink) -> bool:
        if ink.points < 2:
            self.dropped["fewer than two points"] += 1
        elif ink.points > self.max_points:
            self.dropped[self._too_long] += 1
        else:
            return True
        return False


def _drawing(found: Any) -> Ink:
    """The ink of a line's JSON. Raises ValueError, TypeError or OverflowError if it isn't a drawing."""
    if not isinstance(found, dict) or not isinstance(found.get("drawing"), list):
        raise ValueError('no list "drawing"')
    text = found.get("word", found.get("text", ""))
    if not isinstance(text, str):
        raise ValueError("its text isn't a string")
    strokes = []
    for stroke in found["drawing"]:
        if not isinstance(stroke, list) or len(stroke) < 2:
            raise ValueError("a stroke isn't [[x, …], [y, …]]")
        if len(stroke) > 3 and all(isinstance(one, list) for one in stroke):
            raise _OfPoints(f"a stroke of {len(stroke)} lists: are they points [x, y]?")
        xs, ys = stroke[:2]
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise ValueError("a stroke has different numbers of xs and ys")
        if not all(type(one) in (int, float) for one in (*xs, *ys)):
            raise ValueError("a coordinate isn't a number")
        if xs:
            strokes.append(_stroke(xs, ys))
    return Ink(tuple(strokes), text.replace("\0", ""))


def _stroke(xs: Sequence[float], ys: Sequence[float]) -> np.ndarray:
    places = np.array([xs, ys], dtype=np.float64).T
    if not (np.abs(places) <= FARTHEST).all():
        raise ValueError(f"a coordinate is beyond {FARTHEST:,.0f}")
    return places


class _OfPoints(ValueError):
    """Strokes as lists of points instead of lists of x and of y: short ones look alike."""


class _Xml:
    """Streaming parser of a file. Only the points and the text are kept: no tree, no entities."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.buffer_text = True
        self.strokes: list[tuple[list[float], list[float]]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.points = self.letters = 0

    def ink(self) -> Ink:
        text = " ".join("".join(self.words).split())
        return Ink(tuple(_stroke(xs, ys) for xs, ys in self.strokes if xs), text)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.inside.append(name)
        if len(self.inside) > DEEPEST:
            raise ValueError(f"elements nested more than {DEEPEST} deep")
        if name == "Stroke":
            self.strokes.append(([], []))
        elif name == "Point":
            if not self.strokes or "x" not in attributes or "y" not in attributes:
                raise ValueError("a Point outside a Stroke, or without x and y")
            self.points += 1
            if self.points > MOST_XML_POINTS:
                raise ValueError(f"more than {MOST_XML_POINTS:,} points")
            for axis, places in zip("xy", self.strokes[-1], strict=True):
                places.append(float(attributes[axis][:40]))

    def _end(self, name: str) -> None:
        self.inside.pop()

    def _characters(self, text: str) -> None:
        if self.inside[-1:] == ["Text"] and self.letters < MOST_POINTS:
            self.letters += len(text)
            self.words.append(text)

    def _doctype(self, *_: Any) -> None:
        raise ValueError("it has a document type declaration, which isn't allowed for safety")
