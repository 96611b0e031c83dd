"""The signs of a tune in ABC: what its letters, numbers and bar lines say, in the order in which they are written."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from components.datasets.grid import chord_symbol
from components.datasets.repeats import ending_numbers, says_jump
from components.datasets.sandbox import Refused
from components.harmony import Key

MOST_ELEMENTS = 100_000  # of one tune, repeats played
LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
SHARPS, FLATS = "FCGDAEB", "BEADGCF"
FIFTHS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1}
MODES = {  # first three letters → (name, fifths less than major's)
    "": ("major", 0), "maj": ("major", 0), "ion": ("ionian", 0), "m": ("minor", 3), "min": ("minor", 3),
    "aeo": ("minor", 3), "dor": ("dorian", 2), "phr": ("phrygian", 4), "lyd": ("lydian", -1),
    "mix": ("mixolydian", 1), "loc": ("locrian", 5),
}  # fmt: skip
DECORATIONS = {"d.c.": "D.C.", "dacapo": "D.C.", "d.s.": "D.S.", "dacoda": "to coda", "fine": "fine"}
LENGTH = r"(\d{0,4})(/{0,4})(\d{0,4})"
TOKEN = re.compile(
    rf"""(?P<text>"[^"\n]*") | (?P<grace>\{{[^}}\n]*\}}) | (?P<deco>![^!\s]{{1,40}}!|\+[^+\s]{{1,40}}\+)
    | \[(?P<field>[A-Za-z]):(?P<value>[^\]\n]*)\]
    | (?P<bar>:*\|[\]|]?:*(?:[1-9][0-9,\-]*)?|\[\||::+|\[[1-9][0-9,\-]*)
    | \((?P<p>[2-9])(?::(?P<q>[2-9]?))?(?::(?P<r>\d{{0,2}}))?
    | \[(?P<chord>(?:[_^=]{{0,2}}[A-Ga-g][,']{{0,5}}\d{{0,4}}/{{0,4}}\d{{0,4}}-?)+)\]{LENGTH}
    | (?P<acc>[_^=]{{0,2}})(?P<note>[A-Ga-g])(?P<octave>[,']{{0,5}}){LENGTH}
    | (?P<rest>[zx]){LENGTH} | (?P<bars>Z)(\d{{0,3}}) | (?P<tie>-) | (?P<broken>>{{1,3}}|<{{1,3}})
    | (?P<sign>[SO]) | .""",
    re.VERBOSE,
)
IN_CHORD = re.compile(rf"([_^=]{{0,2}})([A-Ga-g])([,']{{0,5}}){LENGTH}(-?)")


@dataclass
class Element:
    """One written thing. `kind`: note, rest, chord, bar, open, close, ending, metre, part, segno, coda, words."""

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
    triplets: int = 0  # notes left in the tuplet
    ratio: Fraction = Fraction(1)
    broken: Fraction = Fraction(1)  # what the next note is scaled by
    metre: tuple[int, int] | None = None  # that holds now, where it isn't the tune's


@dataclass
class Tune:
    title: str = ""
    metre: tuple[int, int] = (4, 4)
    unit: Fraction | None = None
    tempo: float = 0.0
    key: str = ""
    parts: str = ""  # the order in which they are played
    part: str = ""  # that is being written
    signature: dict[str, int] = field(default_factory=dict)
    voices: dict[str, Voice] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)


def parse_tune(text: str) -> Tune:
    """The tune of a text that begins with its X: line.

    Raises:
        Refused: it is longer than any tune.
    """
    tune = Tune()
    in_body = False
    voice = tune.voices.setdefault("1", Voice())
    for line in text.splitlines():
        line = line.partition("%")[0].rstrip()
        if re.match(r"[A-Za-z]:", line) and not line.startswith("|:"):
            letter, value = line[0], line[2:].strip()
            if letter == "V":
                voice = _voice(tune, value)
            else:
                _field(tune, voice, letter, value, in_body)
            in_body = in_body or letter == "K"
        elif in_body:
            voice = _music(tune, voice, line)
    return tune


def _voice(tune: Tune, value: str) -> Voice:
    name = value.split()[0][:20] if value.split() else "1"
    if name not in tune.voices and len(tune.voices) >= 32:
        raise Refused("has more than 32 voices")
    first = tune.voices.get("1")
    if first and not first.elements and not first.name and name != "1" and len(tune.voices) == 1:
        del tune.voices["1"]
    new = Voice(elements=[Element("part", value=tune.part)] if tune.part else [])
    voice = tune.voices.setdefault(name, new)
    named = re.search(r'(?:name|nm)="([^"]{1,60})"', value)
    voice.name = named[1] if named else voice.name or name
    return voice


def _field(tune: Tune, voice: Voice, letter: str, value: str, in_body: bool) -> None:
    if letter == "T" and not tune.title:
        tune.title = value[:120]
    elif letter == "M":
        metre = {"C": (4, 4), "C|": (2, 2)}.get(value) or _fraction_pair(value)
        if metre:
            if in_body:
                voice.elements.append(Element("metre", value=metre))
                voice.metre = metre
            else:
                tune.metre = metre
    elif letter == "L":
        pair = _fraction_pair(value)
        tune.unit = Fraction(*pair) * 4 if pair else tune.unit
    elif letter == "Q" and not tune.tempo:
        found = re.search(r"(?:(\d{1,2})/(\d{1,2})\s*=\s*)?(\d{1,4})\s*$", re.sub(r'"[^"]*"', "", value))
        if found and 5 <= int(found[3]) <= 1000:
            beat = Fraction(int(found[1]), int(found[2])) * 4 if found[1] and int(found[2]) else Fraction(1)
            tune.tempo = min(max(float(beat * int(found[3])), 5.0), 1000.0)
    elif letter == "K":
        _key(tune, value)
    elif letter == "P" and in_body:
        tune.part = value[:1]
        for each in tune.voices.values():
            each.elements.append(Element("part", value=tune.part))
    elif letter == "P":
        tune.parts = value


def _fraction_pair(value: str) -> tuple[int, int] | None:
    found = re.match(r"(\d{1,3})/(\d{1,3})\b", value)
    return (int(found[1]), int(found[2])) if found and int(found[1]) and int(found[2]) else None


def _key(tune: Tune, value: str) -> None:
    found = re.match(r"([A-G])([#b]?)\s*([A-Za-z]*)", value)
    if not found:
        if value.lower().startswith("hp"):  # Highland pipes: F and C sharp
            tune.signature = {"F": 1, "C": 1}
        return
    mode = found[3].lower()
    name, less = MODES.get(mode if mode == "m" else mode[:3], ("major", 0))
    fifths = FIFTHS[found[1]] + 7 * ((found[2] == "#") - (found[2] == "b")) - less
    signs = SHARPS[: min(fifths, 7)] if fifths > 0 else FLATS[: min(-fifths, 7)]
    tune.signature = dict.fromkeys(signs, 1 if fifths > 0 else -1)
    for sign, letter in re.findall(r"\s([_^=])([A-Ga-g])", value):
        tune.signature[letter.upper()] = {"_": -1, "^": 1, "=": 0}[sign]
    if not tune.key:
        tonic = (LETTERS[found[1]] + (found[2] == "#") - (found[2] == "b")) % 12
        tune.key = str(Key(tonic, name))


def _music(tune: Tune, voice: Voice, line: str) -> Voice:
    unit = tune.unit or (Fraction(1, 2) if Fraction(*tune.metre) >= Fraction(3, 4) else Fraction(1, 4))
    for match in TOKEN.finditer(line):
        if len(voice.elements) > MOST_ELEMENTS:
            raise Refused(f"has more than {MOST_ELEMENTS:,} signs")
        group = match.groupdict()
        if group["note"]:
            pitch = _pitch(tune, voice, group["acc"], group["note"], group["octave"])
            _add(voice, (pitch,), unit * _length(_after(match, "octave")))
        elif group["chord"]:
            inside = IN_CHORD.findall(group["chord"])
            pitches = tuple(sorted({_pitch(tune, voice, a, n, o) for a, n, o, *_ in inside}))
            _add(voice, pitches, unit * _length(inside[0][3:6]) * _length(_after(match, "chord")))
            voice.elements[-1].tied = any(tie for *_, tie in inside)
        elif group["rest"]:
            _add(voice, (), unit * _length(_after(match, "rest")))
        elif group["bars"]:
            count = int(match.group(match.re.groupindex["bars"] + 1) or 1)
            _add(voice, (), Fraction(*(voice.metre or tune.metre)) * 4 * count)
        elif group["text"]:
            _symbol(tune, voice, group["text"][1:-1])
        elif group["bar"]:
            voice.accidentals.clear()
            _bar(voice, group["bar"])
        elif group["p"]:
            _tuplet(tune, voice, int(group["p"]), group["q"], group["r"])
        elif group["broken"]:
            small = Fraction(1, 2 ** len(group["broken"]))
            before = next((e for e in reversed(voice.elements[-8:]) if e.kind in ("note", "rest")), None)
            if before:
                long_first = group["broken"][0] == ">"
                before.length *= 2 - small if long_first else small
                voice.broken = small if long_first else 2 - small
        elif group["tie"]:
            if voice.elements and voice.elements[-1].kind == "note":
                voice.elements[-1].tied = True
        elif group["deco"]:
            _decoration(voice, group["deco"][1:-1].casefold())
        elif group["sign"]:
            voice.elements.append(Element({"S": "segno", "O": "coda"}[group["sign"]]))
        elif group["grace"]:
            tune.lost["grace note"] += sum(c.isalpha() for c in group["grace"])
        elif group["field"]:
            if group["field"] == "V":
                voice = _voice(tune, group["value"].strip())
            else:
                _field(tune, voice, group["field"], group["value"].strip(), True)
                unit = tune.unit or unit
    return voice


def _after(match: re.Match, name: str) -> tuple[str, str, str]:
    """The three groups of a length that follow the group `name`."""
    at = match.re.groupindex[name]
    return match.group(at + 1) or "", match.group(at + 2) or "", match.group(at + 3) or ""


def _length(parts: tuple[str, str, str]) -> Fraction:
    """3/2 → 3/2, / → 1/2, // → 1/4; what makes no sense counts as 1."""
    number, slashes, divisor = parts
    top = int(number or 1) or 1
    if not slashes:
        return Fraction(top)
    return Fraction(top, (int(divisor) or 1) if divisor else 2 ** len(slashes))


def _pitch(tune: Tune, voice: Voice, accidental: str, letter: str, octave: str) -> int:
    upper = letter.upper()
    height = (5 if letter.isupper() else 6) + octave.count("'") - octave.count(",")
    if accidental:
        voice.accidentals[upper, height] = accidental.count("^") - accidental.count("_")
    shift = voice.accidentals.get((upper, height), tune.signature.get(upper, 0))
    return min(max(12 * height + LETTERS[upper] + shift, 0), 127)


def _add(voice: Voice, pitches: tuple[int, ...], length: Fraction) -> None:
    length *= voice.broken
    voice.broken = Fraction(1)
    if voice.triplets:
        length *= voice.ratio
        voice.triplets -= 1
    voice.elements.append(Element("note" if pitches else "rest", length, pitches))


def _tuplet(tune: Tune, voice: Voice, p: int, q: str | None, r: str | None) -> None:
    """(p:q:r — p notes in the time of q, for the next r notes."""
    beats, unit_ = voice.metre or tune.metre
    odd = 3 if unit_ == 8 and beats % 3 == 0 else 2
    time = int(q) if q else {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(p, odd)
    voice.ratio, voice.triplets = Fraction(time, p), int(r) if r else p


def _decoration(voice: Voice, name: str) -> None:
    """What a decoration says of the order in which the tune is played."""
    if name in ("segno", "coda"):
        voice.elements.append(Element(name))
    elif name in DECORATIONS:
        voice.elements.append(Element("words", value=DECORATIONS[name]))


def _symbol(tune: Tune, voice: Voice, text: str) -> None:
    words = text.lstrip("^_<>@").strip()
    if words.casefold() in ("segno", "s", "coda"):
        voice.elements.append(Element("coda" if words.casefold() == "coda" else "segno"))
        return
    if words != text or not text or says_jump(words):  # an annotation
        voice.elements.append(Element("words", value=words))
        return
    if voice.elements and voice.elements[-1].kind == "chord":
        tune.lost["chord symbol beside another, the first kept (kept)"] += 1
        return
    voice.elements.append(Element("chord", value=chord_symbol(text, tune.lost)))


def _bar(voice: Voice, sign: str) -> None:
    ending = re.search(r"[1-9][0-9,\-]*$", sign)
    signs = sign.rstrip("0123456789,-")
    if signs.startswith(":"):
        times = 1 + len(signs) - len(signs.lstrip(":")) if "|" in signs else 2  # ::| is played three times
        voice.elements.append(Element("close", value=times))
    voice.elements.append(Element("bar", value="||" in signs or "|]" in signs))
    if signs.endswith(":"):
        voice.elements.append(Element("open"))
    if ending:
        voice.elements.append(Element("ending", value=ending_numbers(ending[0])))
