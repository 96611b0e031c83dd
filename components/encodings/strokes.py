"""Strokes of a pen as offsets from point to point and pen lifts, optionally with the written text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import normalize

import numpy as np

from components.encodings.base import Encoding, Field
from components.encodings.vocabulary import SPECIALS, UNK, Vocabulary
from components.errors import UserError
from components.ink import MOST_POINTS, Ink

PEN = 2  # column: 1 if the pen is lifted after the point
WIDTH = 3
MOST_TEXT = 1000  # characters in the text of an item


class Strokes(Encoding):
    """Ink ↔ float32 [T, 3]: for each point its offset from the previous one, to the right and down, and 1 if the pen is
    lifted after it, else 0. The offset of the first point is 0.

    Offsets are divided by the root mean square of all dx and dy in the training data, the same number for both axes.

    `texts`: include the characters of the text, for models that write a given text.

    Raises:
        UserError: an item has fewer than two points, all points are equal, or with `texts` the text is missing.
    """

    kind = "strokes"
    form = "strokes"
    unit = "point"

    def __init__(self, *, texts: bool = False) -> None:
        self.texts = texts
        self.scale = 1.0

    @property
    def fields(self) -> dict[str, Field]:
        points = {"points": Field(width=WIDTH)}
        return points | {"text": Field(size=len(self.vocabulary))} if self.texts else points

    @property
    def jacobian(self) -> float:
        """Difference of the loss per point, in nats, between the data's units and those of the encoding: 2 ln scale."""
        return 2 * math.log(self.scale)

    def fit(self, items: Iterable[Ink]) -> None:
        squares, count, characters = 0.0, 0, set()
        for item in items:
            offsets = self._offsets(item)[1:, :PEN]
            squares, count = squares + float((offsets**2).sum()), count + offsets.size
            characters.update(self._text(item))
        self.scale = math.sqrt(squares / count) if count else 1.0
        self.vocabulary = Vocabulary([*SPECIALS, *sorted(characters)])

    def encode(self, item: Ink) -> dict[str, np.ndarray]:
        rows = self._offsets(item)
        rows[:, :PEN] /= self.scale
        points = rows.astype(np.float32)
        if not self.texts:
            return {"points": points}
        return {"points": points, "text": self.characters(self._text(item))}

    def characters(self, text: str) -> np.ndarray:
        """The ids [U] of a text; UNK for unknown characters."""
        return np.array([self.vocabulary.id(one) for one in text], dtype=np.int64)

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """The ids [U] of the text to write, without unknown characters, and a warning about these.

        Raises:
            UserError: all characters are unknown.
        """
        ways = (text, normalize("NFC", text), normalize("NFD", text))
        text = min(ways, key=lambda way: np.count_nonzero(self.characters(way) == UNK))
        ids = self.characters(text)
        lost = sorted({one for one, id in zip(text, ids, strict=True) if id == UNK})
        if len(lost) and (ids == UNK).all():
            known = "".join(self.vocabulary.token(id) for id in range(len(SPECIALS), len(self.vocabulary)))
            raise UserError(
                f"the model can't write any character of {text[:60]!r}",
                where="generation.prompt",
                hint=f"its characters: {known!r}",
            )
        names = " ".join(map(repr, lost[:20]))
        return ids[ids != UNK], [f"left out, since the training data don't contain them: {names}"] * bool(lost)

    def decode(self, ids: Sequence[Any] | np.ndarray) -> Ink:
        """The strokes of points [T, 3], starting at (0, 0). Points after the last lift are also a stroke."""
        rows = np.asarray(ids, dtype=np.float64)
        rows = rows.reshape(-1, WIDTH) if rows.size else np.zeros((0, WIDTH))
        places = np.cumsum(rows[:, :PEN] * self.scale, axis=0)
        ends = np.flatnonzero(rows[:, PEN] > 0.5) + 1
        return Ink(tuple(stroke for stroke in np.split(places, ends) if len(stroke)))

    def learned(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        self.scale = float(state["scale"])
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale {self.scale}")

    def remarks(self) -> list[str]:
        of = f"; {len(self.vocabulary) - len(SPECIALS)} characters" if self.texts else ""
        return [f"coordinates are scaled: 1 equals {self.scale:.4g} units of the data{of}"]

    def _text(self, item: Ink) -> str:
        if not self.texts:
            return ""
        if not 1 <= len(item.text) <= MOST_TEXT:
            long = f"the text has {len(item.text):,} characters; at most {MOST_TEXT:,} are allowed"
            hint = "set encoding.texts: false to learn drawing without texts"
            raise UserError(long if item.text else "the strokes have no text", where="data", hint=hint)
        return item.text

    def _offsets(self, item: Ink) -> np.ndarray:
        """Float64 [T, 3] in the data's units."""
        if not isinstance(item, Ink):
            raise UserError(
                f"needs pen strokes, not {type(item).__name__}", where="data", hint="set data.reader=strokes"
            )
        if not 2 <= item.points <= MOST_POINTS:
            raise UserError(f"has {item.points:,} points; 2 to {MOST_POINTS:,} are allowed", where="data")
        places = np.concatenate(item.strokes)
        if not np.isfinite(places).all():
            raise UserError("a coordinate is NaN or infinite", where="data")
        if (places == places[0]).all():
            raise UserError("all points are equal", where="data")
        rows = np.zeros((len(places), WIDTH))
        rows[1:, :PEN] = np.diff(places, axis=0)
        rows[np.cumsum([len(stroke) for stroke in item.strokes if len(stroke)]) - 1, PEN] = 1.0
        return rows
