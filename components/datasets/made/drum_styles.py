"""Drumming styles as rules: how likely, and how hard, a piece of the kit is hit on each sixteenth of a bar.

Written for this project from what textbooks on drumming have in common; nothing was copied or measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

ALWAYS, OFTEN, MAYBE, SELDOM, NEVER = 1.0, 0.75, 0.4, 0.15, 0.0
_LIKELY = {"X": ALWAYS, "O": OFTEN, "o": MAYBE, ".": SELDOM, "g": MAYBE, "G": OFTEN, "-": NEVER}
_FORCE = {"X": 0.9, "O": 0.8, "o": 0.7, ".": 0.6, "g": 0.25, "G": 0.25}  # g, G: ghost notes


@dataclass(frozen=True, order=True)
class Hit:
    """A hit on the grid: sixteenth in the bar, piece of the kit, force from 0 to 1."""

    place: int
    piece: str
    force: float


@dataclass(frozen=True)
class Style:
    """`pattern`: for each piece a sign per sixteenth of the bar: X always, O often, o maybe, . seldom, G and g a ghost
    note often and maybe. `tempo`: quarter notes a minute. `swing`: delay of the second note of a pair, as a share of
    half the pair; `unit`: which pairs are swung, 2: eighths, 4: sixteenths. `lag`: milliseconds."""

    pattern: Mapping[str, str]
    tempo: tuple[int, int]
    metre: tuple[int, int] = (4, 4)
    swing: float = 0.0
    unit: int = 4
    lag: Mapping[str, float] = field(default_factory=dict)
    crash: bool = True

    @property
    def places(self) -> int:
        return self.metre[0] * 16 // self.metre[1]


STYLES: dict[str, Style] = {
    "rock": Style(
        {"kick": "X-.-.-o-O-o-.-.-", "snare": "----X-------X--.", "closed hi-hat": "X-X-X-X-X-X-X-X-"},
        (96, 152), lag={"snare": 5},
    ),
    "hard_rock": Style(
        {"kick": "X-o-.-O-X-o-.-o-", "snare": "----X-------X---", "ride": "X---X---X---X---",
         "open hi-hat": "--------------.-"},
        (110, 170), lag={"ride": -4},
    ),
    "funk": Style(
        {"kick": "X-.o--O-.-O-.o--", "snare": "-g-gX-gG-GggX-g.", "closed hi-hat": "XoXoXoXoXoXoXoXo",
         "open hi-hat": "------.-------o-"},
        (88, 112), swing=0.12, lag={"snare": 8, "closed hi-hat": -3},
    ),
    "hip_hop": Style(
        {"kick": "X--o--.O--O--.o-", "snare": "----X--g-g--X--g", "closed hi-hat": "X-X-X-XoX-X-X-Xo"},
        (80, 100), swing=0.28, lag={"snare": 16, "kick": 4},
    ),
    "disco": Style(
        {"kick": "X---X---X---X---", "snare": "----X-------X---", "open hi-hat": "--O---O---O---O-",
         "closed hi-hat": "X-.-X-.-X-.-X-.-"},
        (112, 128), lag={"open hi-hat": -4},
    ),
    "shuffle": Style(
        {"kick": "X---.-.-X-.-.-o-", "snare": "--g-X---g---X-g-", "closed hi-hat": "X-X-X-X-X-X-X-X-"},
        (84, 132), swing=0.33, unit=2, lag={"snare": 6},
    ),
    "jazz": Style(
        {"kick": "o---.---o---.---", "snare": "--.---g---.-g-g-", "ride": "X---X-X-X---X-X-",
         "closed hi-hat": "----X-------X---"},
        (110, 220), swing=0.33, unit=2, lag={"ride": -5, "snare": 6}, crash=False,
    ),
    "bossa": Style(
        {"kick": "X--O--X-X--O--X-", "snare": "X--O--O---O--X--", "closed hi-hat": "X-X-X-X-X-X-X-X-"},
        (110, 145), crash=False, lag={"snare": 4},
    ),
    "samba": Style(
        {"kick": "X--oX--oX--oX--o", "snare": "G-gXgGX-GgX-gX-g", "ride": "X-OoX-OoX-OoX-Oo"},
        (95, 120), swing=0.1, lag={"kick": -3},
    ),
    "reggae": Style(
        {"kick": "--------X-----.-", "snare": "--------X---.-.-", "closed hi-hat": "O-X-O-X-O-X-O-Xo",
         "open hi-hat": "------.-------.-"},
        (66, 88), swing=0.2, lag={"kick": 8, "snare": 10},
    ),
    "slow_12_8": Style(
        {"kick": "X---.-----o-X-.-----o---", "snare": "------X---.-------X-.-g-",
         "closed hi-hat": "X-X-X-X-X-X-X-X-X-X-X-X-"},
        (84, 126), metre=(12, 8), lag={"snare": 9},
    ),
    "waltz": Style(
        {"kick": "X-----.-.---", "snare": "----O-g-O-.-", "ride": "X---X-X-X-o-"},
        (96, 168), metre=(3, 4), swing=0.3, unit=2, crash=False, lag={"ride": -3},
    ),
}  # fmt: skip
assert all(len(row) == style.places for style in STYLES.values() for row in style.pattern.values())

_DOWN_THE_KIT = ("snare", "high tom", "mid tom", "low tom")


def groove(style: Style, rng: np.random.Generator, like: Sequence[Hit] = ()) -> list[Hit]:
    """A bar of the style. With a bar `like`, most of its optional hits are kept."""
    kept = {(hit.place, hit.piece) for hit in like}
    hits = []
    for piece, signs in style.pattern.items():
        for place, sign in enumerate(signs):
            chance = _LIKELY[sign]
            if like and chance < ALWAYS and rng.random() < 0.85:
                chance = float((place, piece) in kept)
            if rng.random() < chance:
                hits.append(Hit(place, piece, _accented(style, place, piece, _FORCE[sign])))
    opened = {hit.place for hit in hits if hit.piece == "open hi-hat"}  # a hi-hat is open or closed
    return [hit for hit in hits if hit.piece != "closed hi-hat" or hit.place not in opened]


def _accented(style: Style, place: int, piece: str, force: float) -> float:
    """Cymbals are hit harder on beats than between them."""
    beat = 6 if style.metre == (12, 8) else 4
    if piece in ("closed hi-hat", "ride"):
        return force * (0.9 if place % beat == 0 else 0.72 if place % 2 == 0 else 0.5)
    return force


def fill(style: Style, bar: Sequence[Hit], rng: np.random.Generator) -> list[Hit]:
    """The bar with a fill at its end: down the kit from the snare, with a crescendo."""
    length = int(rng.choice([4, 6, 8, style.places], p=[0.4, 0.2, 0.3, 0.1]))
    first = style.places - length
    step = int(rng.choice([1, 2], p=[0.7, 0.3])) if not style.swing or style.unit == 4 else 2
    hits = [hit for hit in bar if hit.place < first or (hit.piece == "kick" and rng.random() < 0.3)]
    places = [place for place in range(first, style.places, step) if rng.random() < 0.88]
    for index, place in enumerate(places):
        at = index * len(_DOWN_THE_KIT) // max(1, len(places))
        piece = _DOWN_THE_KIT[min(3, at + int(rng.random() < 0.15))]
        rising = 0.55 + 0.35 * (place - first) / length
        hits.append(Hit(place, piece, rising + (0.1 if place % 4 == 0 else -0.08)))
    return hits
