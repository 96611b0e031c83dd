"""Chords, scales and keys by name: parsing of chord symbols, and symbols for sets of notes.

Pitch classes count from C = 0. Chord kinds are named as written after the root: "Dm7" is (2, "m7"); a plain
major triad is called "maj" and a minor one "min".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from components.errors import UserError, nearest, unknown
from components.score import Chord

ROOTS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")  # as they are written
LONGEST_NAME = 40  # maximum length of a chord symbol or key


class Kind(NamedTuple):
    """A chord kind: its tones in semitones above the root, and the scale played on it."""

    tones: tuple[int, ...]
    scale: str


# In order of preference for notes that fit several kinds.
KINDS: dict[str, Kind] = {
    "maj": Kind((0, 4, 7), "ionian"),
    "min": Kind((0, 3, 7), "dorian"),
    "7": Kind((0, 4, 7, 10), "mixolydian"),
    "m7": Kind((0, 3, 7, 10), "dorian"),
    "maj7": Kind((0, 4, 7, 11), "ionian"),
    "dim": Kind((0, 3, 6), "locrian"),
    "m7b5": Kind((0, 3, 6, 10), "locrian"),
    "dim7": Kind((0, 3, 6, 9), "diminished"),
    "6": Kind((0, 4, 7, 9), "ionian"),
    "m6": Kind((0, 3, 7, 9), "melodic minor"),
    "sus4": Kind((0, 5, 7), "mixolydian"),
    "7sus4": Kind((0, 5, 7, 10), "mixolydian"),
    "aug": Kind((0, 4, 8), "whole tone"),
    "mmaj7": Kind((0, 3, 7, 11), "melodic minor"),
    "9": Kind((0, 4, 7, 10, 2), "mixolydian"),
    "m9": Kind((0, 3, 7, 10, 2), "dorian"),
    "maj9": Kind((0, 4, 7, 11, 2), "ionian"),
    "7b9": Kind((0, 4, 7, 10, 1), "half-whole"),
    "7#9": Kind((0, 4, 7, 10, 3), "half-whole"),
    "7#11": Kind((0, 4, 7, 10, 6), "lydian dominant"),
    "7b13": Kind((0, 4, 7, 10, 8), "phrygian dominant"),
    "7b5": Kind((0, 4, 6, 10), "whole tone"),
    "7#5": Kind((0, 4, 8, 10), "whole tone"),
    "7alt": Kind((0, 4, 8, 10, 1, 3), "altered"),
    "maj7#11": Kind((0, 4, 7, 11, 6), "lydian"),
    "maj7#5": Kind((0, 4, 8, 11), "lydian augmented"),
    "13": Kind((0, 4, 7, 10, 2, 9), "mixolydian"),
    "m13": Kind((0, 3, 7, 10, 2, 9), "dorian"),
    "maj13": Kind((0, 4, 7, 11, 2, 9), "ionian"),
    "13b9": Kind((0, 4, 7, 10, 1, 9), "half-whole"),
    "m11": Kind((0, 3, 7, 10, 2, 5), "dorian"),
    "9sus4": Kind((0, 5, 7, 10, 2), "mixolydian"),
    "69": Kind((0, 4, 7, 9, 2), "ionian"),
    "m69": Kind((0, 3, 7, 9, 2), "melodic minor"),
    "add9": Kind((0, 4, 7, 2), "ionian"),
    "madd9": Kind((0, 3, 7, 2), "dorian"),
    "sus2": Kind((0, 2, 7), "ionian"),
    "5": Kind((0, 7), "mixolydian"),
}

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "phrygian dominant": (0, 1, 4, 5, 7, 8, 10),
    "lydian dominant": (0, 2, 4, 6, 7, 9, 10),
    "lydian augmented": (0, 2, 4, 6, 8, 9, 11),
    "altered": (0, 1, 3, 4, 6, 8, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
    "diminished": (0, 2, 3, 5, 6, 8, 9, 11),
    "half-whole": (0, 1, 3, 4, 6, 7, 9, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "chromatic": tuple(range(12)),
}

_ALIASES = {
    "": "maj", "m": "min", "maj": "maj", "mmaj": "mmaj7", "o": "dim", "d": "dim", "mb5": "dim", "o7": "dim7",
    "h": "m7b5", "h7": "m7b5", "m7-5": "m7b5", "+": "aug", "#5": "aug", "+7": "7#5", "7+": "7#5", "aug7": "7#5",
    "dom7": "7", "dom": "7", "maj6": "6", "maj7+": "maj7#5", "7-5": "7b5", "7-9": "7b9", "7+9": "7#9", "alt": "7alt",
    "sus": "sus4", "7sus": "7sus4", "sus7": "7sus4", "9sus": "9sus4", "6/9": "69", "maj69": "69", "maj6/9": "69",
    "6add9": "69", "m6/9": "m69", "add2": "add9", "2": "sus2", "4": "sus4", "9#11": "7#11", "11": "9sus4",
    "7b9b13": "7alt", "7#9b13": "7alt", "7#5b9": "7alt", "7#5#9": "7alt", "7b5b9": "7alt", "maj9#11": "maj7#11",
}  # fmt: skip
_MAJOR_MARKS = re.compile(r"(major|maj|ma|M|\^|j)(?=[0-9#]|$)")
_MINOR_MARKS = re.compile(r"(minor|min|mi|m|-)")
_SYMBOL = re.compile(r"([A-G])(bb(?!\d)|##|[b#]?)(.*?)(?:/([A-Ga-g])(bb|##|[b#+]?))?")
_SIGNS = str.maketrans({"♭": "b", "♯": "#", "𝄫": "bb", "Δ": "^", "△": "^", "ø": "h", "Ø": "h", "°": "o", "–": "-"})
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NO_CHORD = {"n.c.", "nc", "n.c"}


class Symbol(NamedTuple):
    """A chord symbol without time. `bass` is None if it is the root."""

    root: int
    kind: str
    bass: int | None = None


class Key(NamedTuple):
    """A tonic (pitch class) and a name of SCALES."""

    tonic: int
    scale: str

    @property
    def pitch_classes(self) -> frozenset[int]:
        """The scale's notes."""
        return frozenset((self.tonic + tone) % 12 for tone in SCALES[self.scale])

    def __str__(self) -> str:
        return f"{ROOTS[self.tonic]} {self.scale}"


def parse_chord(text: str, *, where: str | None = None) -> Symbol | None:
    """Parse a chord symbol in any of the usual spellings (Cmaj7 CM7 C^7 CΔ; C-7 Cmi7; Bb B♭; Cø; D/f+).

    None is "N.C.", no chord.

    Raises:
        UserError: `text` isn't a chord symbol; the nearest kind is suggested.
    """
    plain = text.strip().translate(_SIGNS)
    if plain.casefold() in _NO_CHORD:
        return None
    whole = re.fullmatch(r"\(([^()]*)\)", plain)  # an optional chord, in brackets
    found = _SYMBOL.fullmatch(whole[1] if whole else plain) if len(plain) <= LONGEST_NAME else None
    if found is None:
        raise UserError(
            f"{text[:LONGEST_NAME]!r} isn't a chord symbol",
            where=where,
            hint='a chord symbol begins with its root, A to G: "Dm7", "Bb7", "F#m7b5", "C/E"; "N.C." means no chord',
        )
    letter, accidental, written, bass_letter, bass_accidental = found.groups()
    suffix = re.sub(r"[(),\s]", "", written)
    if bass_letter is None and suffix.endswith("/"):
        raise UserError(f"{text!r} has no bass note after /", where=where, hint='for example "C/E"')
    kind = _kind(suffix)
    if kind is None:
        near = nearest(_normal(suffix), KINDS)
        meant = f"; did you mean {letter}{accidental}{written_kind(near)}?" if near else ""
        choices = ", ".join(written_kind(kind) or "(nothing)" for kind in KINDS)
        raise UserError(f"unknown chord {text!r}{meant}", where=where, hint=f"after the root: {choices}")
    root = _pitch_class(letter, accidental)
    bass = None if bass_letter is None else _pitch_class(bass_letter.upper(), bass_accidental.replace("+", "#"))
    return Symbol(root, kind, None if bass == root else bass)


def format_chord(chord: Symbol | Chord | None) -> str:
    """The symbol as text, "Dm7/G"; `parse_chord` reads it back. None is "N.C."."""
    if chord is None:
        return "N.C."
    bass = "" if chord.bass is None else f"/{ROOTS[chord.bass]}"
    return f"{ROOTS[chord.root]}{written_kind(chord.kind)}{bass}"


def chord_tones(chord: Symbol | Chord) -> frozenset[int]:
    """The chord's pitch classes. A bass note that isn't one of its tones isn't included."""
    return frozenset((chord.root + tone) % 12 for tone in KINDS[chord.kind].tones)


def chord_scale(chord: Symbol | Chord) -> frozenset[int]:
    """The pitch classes of the scale played on the chord: dorian on m7, mixolydian on 7 …"""
    return Key(chord.root, KINDS[chord.kind].scale).pitch_classes | chord_tones(chord)


def match_chord(pitch_classes: Iterable[int], bass: int | None = None) -> Symbol | None:
    """The symbol that fits sounding notes best; None for fewer than two, or if no chord fits.

    Missing fifths cost little; missing thirds, roots and notes outside the chord cost more. Between symbols that fit
    equally (C6 and Am7), the one on the bass note wins, then the more common kind.
    """
    notes = {pitch % 12 for pitch in pitch_classes}
    low = None if bass is None else bass % 12
    if len(notes) < 2:
        return None
    best: tuple[float, int, int, str] | None = None
    for rank, (kind, (tones, _)) in enumerate(KINDS.items()):
        for root in range(12):
            inside = {(root + tone) % 12 for tone in tones}
            missing = [(note - root) % 12 for note in inside - notes]
            outside = notes - inside
            if 2 * len(outside) > len(notes) or 2 * len(missing) > len(tones):
                continue
            cost = 1.5 * len(outside) + sum(0.6 if tone == 7 else 2.0 if tone == 0 else 1.3 for tone in missing)
            cost += 0.5 * (low is not None and low != root)
            best = min(best or (99.0, 0, 0, ""), (cost, rank, root, kind))
    if best is None or best[0] > 3.0:
        return None
    _, _, root, kind = best
    return Symbol(root, kind, low if low is not None and low != root else None)


def parse_key(text: str, *, where: str | None = None) -> Key:
    """Parse a key or scale: "F major", "F", "Bbm", "d minor", "D dorian", "C blues".

    Raises:
        UserError: it is neither; the nearest scale is suggested.
    """
    found = re.fullmatch(r"\s*([A-Ga-g])([b#]?)(m?)(?:[\s-]+(.+?))?\s*", text[:LONGEST_NAME].translate(_SIGNS))
    if found is None or (found[3] and found[4]):
        raise UserError(
            f"{text[:LONGEST_NAME]!r} isn't a key", where=where, hint='for example "F major", "Bb minor", "D dorian"'
        )
    scale = re.sub(r"\s+", " ", (found[4] or ("minor" if found[3] or found[1].islower() else "major")).casefold())
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES, where=where)
    return Key(_pitch_class(found[1].upper(), found[2]), scale)


# How well each degree fits a key: probe-tone ratings of Krumhansl and Kessler (1982), as in Krumhansl,
# Cognitive Foundations of Musical Pitch (1990), p. 30.
_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def _templates() -> np.ndarray:
    """[24, 12]: each key's weight of each pitch class; rows sum to 0, so the mean has no effect."""
    rows = []
    for profile in _PROFILES.values():
        centred = np.array(profile) - np.mean(profile)
        rows += [np.roll(centred / np.linalg.norm(centred), tonic) for tonic in range(12)]
    return np.array(rows)


_FITS = _templates()


def find_key(weights: Sequence[float], sharps: int | None = None) -> Key:
    """The major or minor key whose profile correlates best with twelve weights (the duration of each pitch class); only
    the two keys of a signature if `sharps` (negative: flats) is given.

    Krumhansl and Schmuckler's algorithm. Equal weights give C major.
    """
    fits = _FITS @ np.asarray(weights, dtype=np.float64)
    keys = range(24) if sharps is None else (7 * sharps % 12, 12 + (7 * sharps + 9) % 12)
    best = max(keys, key=fits.__getitem__)
    # far below the effect of the smallest weight, far above rounding errors
    if sharps is None and fits[best] <= 1e-9 * max(1.0, float(np.abs(weights).max())):
        return Key(0, "major")
    return Key(best % 12, list(_PROFILES)[best // 12])


def strong_steps(metre: tuple[int, int], bar_steps: int) -> tuple[int, ...]:
    """Steps of a bar where its strong beats begin: 1 and 3 of four beats (4/4, 12/8), otherwise the first only."""
    beats = metre[0] // 3 if metre[0] > 3 and metre[0] % 3 == 0 and metre[1] >= 8 else metre[0]
    return (0, bar_steps // 2) if beats == 4 and bar_steps % 2 == 0 else (0,)


def _kind(suffix: str) -> str | None:
    normal = _normal(suffix)
    normal = _ALIASES.get(normal, normal)
    return normal if normal in KINDS else None


def _normal(suffix: str) -> str:
    """One spelling for major ("maj") and minor ("m") marks; "^" alone is a major seventh."""
    if suffix in ("^", "j"):
        return "maj7"
    minor = _MINOR_MARKS.match(suffix)
    if _MAJOR_MARKS.match(suffix):
        return _MAJOR_MARKS.sub("maj", suffix, count=1)
    if minor:
        rest = suffix[minor.end() :]
        return "m" + ("maj7" if rest == "^" else _MAJOR_MARKS.sub("maj", rest, count=1))
    return suffix


def written_kind(kind: str | None) -> str:
    """A chord kind as written after the root: "" for a major triad, "m" for a minor one."""
    return {"maj": "", "min": "m", None: ""}.get(kind, kind or "")


def _pitch_class(letter: str, accidental: str) -> int:
    return (_LETTERS[letter] + accidental.count("#") - accidental.count("b")) % 12
