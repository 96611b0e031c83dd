"""A single-line font, a to z, and texts written in it as irregular handwriting.

A glyph's strokes are separated by spaces, the parts of a stroke by "+": "l" joins points by straight lines, "c" by a
curve through them. A point is two hexadecimal digits, x and y upwards: the baseline is y = 3, small letters reach 7,
tall ones a.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from components.ink import Ink

GLYPHS: dict[str, str] = {
    "a": "c4627052345+l454743",
    "b": "l0a0305+c0527452303",
    "c": "c4627052344",
    "d": "c4627052345+l454a43",
    "e": "l0545+c4527052344",
    "f": "c493a2823 l0737",
    "g": "c4627052345+l454741+c412001",
    "h": "l0a0305+c05274543",
    "i": "l1713 l1a19",
    "j": "l2721+c211001 l2a29",
    "k": "l0a03 l470543",
    "l": "l1a14+c142333",
    "m": "l070305+c05273533+l3335+c35576563",
    "n": "l070305+c05274543",
    "o": "c2705234527",
    "p": "l070005+c0527452303",
    "q": "c4627052345+l454740+l4051",
    "r": "l070305+c052746",
    "s": "c46270625442304",
    "t": "l2a24+c243344 l0747",
    "u": "l0705+c052345+l454743",
    "v": "l072347",
    "w": "l0713273347",
    "x": "l0743 l4703",
    "y": "l0723 l4700",
    "z": "l07470343",
}
BASELINE, GAP, SPACE = 3, 2.0, 3.0  # grid units: between letters, and width of a space
STEP = 1.2  # between two points


def written(text: str, rng: np.random.Generator) -> Ink:
    """A text as ink, x-height 14 to 26. Size, slant, width, roundness, spacing and irregularity are drawn once for the
    text; each letter varies a little."""
    unit, slant, width = rng.uniform(3.5, 6.5), rng.normal(0.15, 0.15), rng.uniform(0.8, 1.2)
    gap, step = GAP * rng.uniform(0.7, 1.3), STEP * rng.uniform(0.85, 1.15)
    unsteady, rounded, rise = rng.uniform(0.05, 0.25), rng.uniform(0, 1), rng.normal(0, 0.02)
    strokes, at = [], 0.0
    for letter in text:
        if letter == " ":
            at += SPACE
            continue
        parts = _parts(letter)
        moved = np.array([at, rng.normal(0, 0.15)])
        for stroke in parts:
            line = _joined([(kind, points + rng.normal(0, unsteady, points.shape)) for kind, points in stroke], rounded)
            line = _resampled(line * [width, 1.0], step)
            strokes.append(line + moved + rng.normal(0, 0.03, line.shape))
        at += width * max(points[:, 0].max() for stroke in parts for _, points in stroke) + gap
    upright = [stroke - [0.0, BASELINE] for stroke in strokes]
    slanted = [np.stack([s[:, 0] + slant * s[:, 1], -(s[:, 1] + rise * s[:, 0])], axis=1) for s in upright]
    return Ink(tuple(unit * stroke for stroke in slanted), text)


@cache
def _parts(letter: str) -> list[list[tuple[str, np.ndarray]]]:
    """The parts of each stroke of a letter: type, and points [N, 2]."""
    return [[(part[0], _points(part[1:])) for part in stroke.split("+")] for stroke in GLYPHS[letter].split()]


def _points(digits: str) -> np.ndarray:
    return np.array([int(digit, 16) for digit in digits], dtype=float).reshape(-1, 2)


def _joined(parts: list[tuple[str, np.ndarray]], rounded: float) -> np.ndarray:
    """One line [N, 2] through the parts of a stroke, each from the end of the last. `rounded`: from straight lines (0)
    to curves (1)."""
    lines: list[np.ndarray] = []
    for kind, points in parts:
        if lines:
            points = np.concatenate([lines[-1][-1:], points[1:]])
        line = _through(points, 1.0 if kind == "c" else 0.5 * rounded)
        lines.append(line[1:] if lines else line)
    return np.concatenate(lines)


PLACES = np.linspace(0, 1, 9)[:-1, None]  # between two points


def _through(points: np.ndarray, rounded: float) -> np.ndarray:
    """Points along straight lines through points [N, 2]; with `rounded` 1 along the Catmull-Rom spline, or between the
    two."""
    padded, t = np.concatenate([points[:1], points, points[-1:]])[:, None], PLACES
    a, b, c, d = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    straight = b + t * (c - b)
    curve = b + 0.5 * ((c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    between = straight + rounded * (curve - straight)
    return np.concatenate([between.reshape(-1, 2), points[-1:]])


def _resampled(line: np.ndarray, step: float) -> np.ndarray:
    """Points on a line, about `step` apart, including its ends."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    places = np.linspace(0, along[-1], max(2, round(along[-1] / step) + 1))
    return np.stack([np.interp(places, along, line[:, axis]) for axis in (0, 1)], axis=1)
