"""Fields of ABC tunes: metre, unit length, tempo, key, and what they change in a voice."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from components.harmony import Key

CLEF = re.compile(r"(?:^|\s)(?:clef=)?(perc|treble|alto|tenor|bass)|\bclef=(?=[GCF])")
LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
SHARPS, FLATS = "FCGDAEB", "BEADGCF"
FIFTHS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1}
MODES = {  # first three letters → (name, difference in fifths from major)
    "": ("major", 0), "maj": ("major", 0), "ion": ("ionian", 0), "m": ("minor", 3), "min": ("minor", 3),
    "aeo": ("minor", 3), "dor": ("dorian", 2), "phr": ("phrygian", 4), "lyd": ("lydian", -1),
    "mix": ("mixolydian", 1), "loc": ("locrian", 5), "dur": ("major", 0), "mol": ("minor", 3),
}  # fmt: skip
NO_KEY = re.compile(r"(?i)none|hp|clef|treble|alto|tenor|bass|perc|middle|[a-z]+=|$")


@dataclass
class Element:
    """An element of a tune. `kind`: note, rest, chord, bar, open, close, ending, metre, part, segno, coda, words."""

    kind: str
    length: Fraction = Fraction(0)  # quarter notes
    pitches: tuple[int, ...] = ()
    tied: bool = False
    value: Any = None


@dataclass
class Voice:
    name: str = ""
    elements: list[Element] = field(default_factory=list)
    accidentals: dict[tuple[str, int], int] = field(default_factory=dict)  # of this bar
    written: dict[tuple[str, int], int] = field(default_factory=dict)  # accidentals of the notes being read
    sounding: dict[tuple[str, int], int] = field(default_factory=dict)  # accidentals of the last notes
    carried: dict[tuple[str, int], int] = field(default_factory=dict)  # by ties over the bar line, for the next notes
    triplets: int = 0  # notes left in the tuplet
    ratio: Fraction = Fraction(1)
    broken: Fraction = Fraction(1)  # factor for the length of the next note
    # values that differ from the tune's: another voice keeps its own key
    metre: tuple[int, int] | None = None
    unit: Fraction | None = None
    signature: dict[str, int] | None = None
    shift: int = 0  # semitones from written to sounding pitch
    drums: bool = False  # unpitched percussion
    overlay: bool = False  # an overlay (&): notes from the beginning of the bar, until it ends


@dataclass
class Tune:
    title: str = ""
    metre: tuple[int, int] = (4, 4)
    unit: Fraction | None = None
    tempo: float = 0.0  # quarter notes a minute
    tempi: list[str] = field(default_factory=list)  # tempo fields before the key, in a unit that may follow them
    last_tempo: float = 0.0
    tempo_changes: int = 0
    german: bool = False
    key: str = ""
    parts: str = ""  # playing order
    part: str = ""  # part being read
    signature: dict[str, int] = field(default_factory=dict)
    shift: int = 0
    drums: bool = False
    voices: dict[str, Voice] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)

    @property
    def usual(self) -> Fraction:
        """The unit note length in quarter notes; if there is no L: field, that of the metre."""
        return self.unit or (Fraction(1, 2) if Fraction(*self.metre) >= Fraction(3, 4) else Fraction(1, 4))


def read_field(tune: Tune, voice: Voice, letter: str, value: str, in_body: bool) -> None:
    """Read a field such as `M:3/4` of a tune, or in its body of a voice."""
    if letter == "T" and not tune.title:
        tune.title = value[:120]
    elif letter == "M":
        metre = {"C": (4, 4), "C|": (2, 2)}.get(value) or _fraction_pair(value)
        if metre and in_body:
            voice.elements.append(Element("metre", value=metre))
            voice.metre = metre
        elif metre:
            tune.metre = metre
        elif value.lower() not in ("", "none"):
            tune.lost["metre that can't be read: the one before holds (kept)"] += 1
    elif letter == "L":
        if pair := (1, 1) if value == "1" else _fraction_pair(value):
            unit = Fraction(*pair) * 4
            voice.unit, tune.unit = (unit, tune.unit) if in_body else (None, unit)
        elif value:
            tune.lost["unit note length that can't be read: the one before holds (kept)"] += 1
    elif letter == "Q" and not in_body:
        tune.tempi.append(value)
    elif letter == "Q":
        tune.tempo_changes += _set_tempo(tune, value, voice.unit or tune.usual)
    elif letter == "K":
        signature = _key(tune, value)
        if in_body:
            voice.signature = voice.signature if signature is None else signature
            voice.shift, voice.drums = shift(value, voice.shift), drums(value, voice.drums)
        else:
            for each in tune.tempi:
                _set_tempo(tune, each, tune.usual)
            tune.signature, tune.shift, tune.drums = signature or {}, shift(value, 0), drums(value, False)
            for each in tune.voices.values():  # voices declared before the key
                each.shift, each.drums = each.shift or tune.shift, each.drums or tune.drums
    elif letter == "m":
        tune.lost["macro (m:), not expanded (kept)"] += 1
    elif letter == "P" and in_body:
        tune.part = value[:1]
        for each in tune.voices.values():
            each.elements.append(Element("part", value=tune.part))
    elif letter == "P":
        tune.parts = value


def _fraction_pair(value: str) -> tuple[int, int] | None:
    """The pair of numbers of 3/4 or (2+3)/8."""
    found = re.fullmatch(r"\(?(\d{1,3}(?:\s*\+\s*\d{1,3}){0,9})\)?\s*/\s*(\d{1,3})", value)
    top = sum(map(int, found[1].split("+"))) if found else 0
    return (top, int(found[2])) if found and top and int(found[2]) else None


def _set_tempo(tune: Tune, value: str, unit: Fraction) -> bool:
    """Set the tempo of a field, if it has one; whether another was in effect before."""
    tempo = _tempo(value, unit)
    if not tempo:
        return False
    if unit != 1 and "=" not in value:
        tune.lost["tempo without a note length, read in quarter notes a minute (kept)"] += 1
    changed = bool(tune.tempo) and tempo != tune.last_tempo
    tune.tempo, tune.last_tempo = tune.tempo or tempo, tempo
    return changed


def _tempo(value: str, unit: Fraction) -> float:
    """Quarter notes a minute of Q:1/4=120, Q:3/8 1/8=40 or Q:120, or of an old Q:C3=40, where C is the unit note length
    (in quarter notes); 0 if there is no number. By the standard Q:120 counts unit note lengths too, but files usually
    mean quarter notes."""
    beats, _, number = re.sub(r'"[^"]*"', "", value).rpartition("=")
    found = re.search(r"(?<![\d/])\d{1,4}(?:\.\d{1,3})?(?![\d/])", number)
    if not found or not 5 <= float(found[0]) <= 1000:
        return 0.0
    beat = sum(Fraction(int(a), int(b)) for a, b in re.findall(r"(\d{1,2})/(\d{1,2})", beats) if int(b))
    if units := re.fullmatch(r"\s*[A-Ga-g]\s*(\d{0,2})\s*", beats):
        beat = unit / 4 * (int(units[1] or 1) or 1)
    return min(max(float((beat or Fraction(1, 4)) * 4) * float(found[0]), 5.0), 1000.0)


def shift(value: str, before: int) -> int:
    """The transposition in semitones that a key or a voice gives (transpose=-2, octave=1, clef=treble-8)."""
    semitones = re.search(r"\btranspose=([-+]?\d{1,2})\b", value)
    octaves = re.search(r"\boctave=([-+]?\d)\b", value)
    clef = re.search(r"(?:treble|alto|tenor|bass|[GCF])\d?([-+])8\b", value)
    if not (semitones or octaves or clef):
        return before
    by_clef = (12 if clef[1] == "+" else -12) if clef else 0
    return (int(semitones[1]) if semitones else 0) + 12 * (int(octaves[1]) if octaves else 0) + by_clef


def drums(value: str, before: bool) -> bool:
    """Whether the clef of a key or a voice is percussion."""
    clef = CLEF.search(re.sub(r'"[^"]*"', "", value))
    return clef[1] == "perc" if clef else before


def _key(tune: Tune, value: str) -> dict[str, int] | None:
    """The signature: letter → 1 sharp, −1 flat, 0 natural; None if the field has no key."""
    found = re.match(r"([A-G])([#b]?)[\s-]*([A-Za-z]*)", value[:1].upper() + value[1:])
    said = found and (found[3].lower()[:3] in MODES or found[3].lower() == "m")
    # "As" and "Es" are A flat and E flat in German; after a blank, words such as a clef's aren't of the key
    other = found and not said and (found[3].lower() != "exp" and not NO_KEY.match(value[found.start(3) :]))
    # "g": G minor, as in German, or G major?
    if not found or other or (value[:1].islower() and not (said and found[3])):
        if not NO_KEY.match(value):
            tune.lost["key that can't be read: no sharps or flats (kept)"] += 1
        if value.lower().startswith("hp"):  # Highland pipes: F and C sharp
            return {"F": 1, "C": 1}
        return {} if value.lower().startswith("none") else None
    mode = found[3].lower()
    name, less = MODES.get(mode if mode == "m" else mode[:3], ("major", 0))
    fifths = FIFTHS[found[1]] + 7 * ((found[2] == "#") - (found[2] == "b")) - less
    signs = SHARPS[: min(fifths, 7)] if fifths > 0 else FLATS[: min(-fifths, 7)]
    # with "exp" only the accidentals that follow count
    signature = dict.fromkeys("" if mode == "exp" else signs, 1 if fifths > 0 else -1)
    for sign, letter in re.findall(r"\s([_^=])([A-Ga-g])", value):
        signature[letter.upper()] = {"_": -1, "^": 1, "=": 0}[sign]
    if not tune.key and mode != "exp":
        tonic = (LETTERS[found[1]] + (found[2] == "#") - (found[2] == "b") + shift(value, 0)) % 12  # sounding pitch
        tune.key = str(Key(tonic, name))
    return signature
