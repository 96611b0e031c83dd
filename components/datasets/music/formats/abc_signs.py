"""Parser of ABC tunes: notes, rests, chords, bar lines and fields, in written order."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.grid import QUARTER_TONE, chord_symbol
from components.datasets.music.formats.repeats import ending_numbers, says_jump
from components.drums import CHANNEL
from components.harmony import Key, Symbol

MIDI_CHANNEL = re.compile(r"(?:%%|I:)\s*MIDI\s+channel\s*=?\s*(\d{1,2})\b")
MIDI_TRANSPOSE = re.compile(r"(?:%%|I:)\s*MIDI\s+r?transpose\s*=?\s*[-+]?0*[1-9]")
CLEF = re.compile(r"(?:^|\s)(?:clef=)?(perc|treble|alto|tenor|bass)|\bclef=(?=[GCF])")
MOST_ELEMENTS = 100_000  # in a tune, repeats expanded
LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
SHARPS, FLATS = "FCGDAEB", "BEADGCF"
FIFTHS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1}
MODES = {  # first three letters → (name, difference in fifths from major)
    "": ("major", 0), "maj": ("major", 0), "ion": ("ionian", 0), "m": ("minor", 3), "min": ("minor", 3),
    "aeo": ("minor", 3), "dor": ("dorian", 2), "phr": ("phrygian", 4), "lyd": ("lydian", -1),
    "mix": ("mixolydian", 1), "loc": ("locrian", 5),
}  # fmt: skip
DECORATIONS = {
    "d.c.": "D.C.", "dacapo": "D.C.", "d.s.": "D.S.", "dacoda": "to coda", "fine": "fine",
    **{f"d.{of}.al{to}": f"D.{of.upper()}. al {to}" for of in "cs" for to in ("coda", "fine")},
}  # fmt: skip
FIELD = re.compile(r"(?:[A-Z]|[mrsw]):(?![|:])")  # "G:|" is a note and a bar line
BLOCK = re.compile(r"^%%begin(\w+).*?(?:^%%end\1.*?$|\Z)", re.MULTILINE | re.DOTALL)  # text, PostScript
LENGTH = r"(\d{0,4})(/{0,4})(\d{0,4})"
TOKEN = re.compile(
    rf"""(?P<text>"[^"\n]*") | (?P<grace>\{{[^}}\n]*\}}) | (?P<deco>![^!\s]{{1,40}}!|\+[^+\s]{{1,40}}\+)
    | \[(?P<field>[A-Za-z]):(?P<value>[^\]\n]*)\]
    | (?P<bar>:*\|[\]|]?:*(?:[1-9][0-9,\-]*)?|\[\|:*|::+|\[[1-9][0-9,\-]*)
    | \((?P<p>[2-9])(?::(?P<q>[2-9]?))?(?::(?P<r>\d{{0,2}}))?
    | (?P<micro>[_^]\d?/\d?)(?=[A-Ga-g])
    | \[(?P<chord>[^\[\]|:\n]*)\]{LENGTH}
    | (?P<acc>[_^=]{{0,2}})(?P<note>[A-Ga-g])(?P<octave>[,']{{0,5}}){LENGTH}
    | (?P<rest>[zx]){LENGTH} | (?P<bars>Z)(\d{{0,3}}) | (?P<tie>-) | (?P<broken>>{{1,3}}|<{{1,3}})
    | (?P<sign>[SO]) | (?P<overlay>&) | .""",
    re.VERBOSE,
)
NOT_NOTES = re.compile(r"\"([^\"]*)\"|![^!]*!|\+[^+]*\+")  # in a chord
PLUS = re.compile(r"\"[^\"\n]*\"|\+([^+\s]{1,40})\+")  # a decoration; before ABC 2, a chord
NOTES = re.compile(r"(?!f+$)(?:[_^=]{0,2}[A-Ga-g][,']{0,5}\d{0,2}/{0,2}\d?){2,}")  # +ff+ is a dynamic
NO_KEY = re.compile(r"(?i)none|hp|clef|treble|alto|tenor|bass|perc|middle|[a-z]+=|$")
IN_CHORD = re.compile(rf"([_^=]{{0,2}})([A-Ga-g])([,']{{0,5}}){LENGTH}(-?)")


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
    tempo: float = 0.0
    key: str = ""
    parts: str = ""  # playing order
    part: str = ""  # part being read
    signature: dict[str, int] = field(default_factory=dict)
    shift: int = 0
    drums: bool = False
    voices: dict[str, Voice] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)


def parse_tune(text: str) -> Tune:
    """The tune in a text that begins with an X: line. An empty line ends the tune; bars and fields after it are still
    read, but other text isn't.

    Raises:
        Refused: the tune is longer than MOST_ELEMENTS, or has no K: line.
    """
    tune = Tune()
    in_body = ended = False
    voice = tune.voices.setdefault("1", Voice())
    for line in BLOCK.sub("%", text).splitlines():
        written, line = line, _uncommented(line)
        if channel := MIDI_CHANNEL.match(written):
            voice.drums = int(channel[1]) == CHANNEL + 1
        elif MIDI_TRANSPOSE.match(written):
            tune.lost["%%MIDI transpose: read as written (kept)"] += 1
        elif not line:
            ended = ended or (in_body and not written.strip())
        elif FIELD.match(line):
            letter, value = line[0], line[2:].strip()
            if letter == "V":
                voice = _voice(tune, value)
            else:
                _field(tune, voice, letter, value, in_body)
            in_body = in_body or letter == "K"
        elif line.startswith("+:"):  # continues the previous field
            continue
        elif ended and "|" not in line:
            tune.lost["line of text after the tune"] += 1
        elif in_body:
            voice = _music(tune, voice, line)
    if not in_body:
        raise Refused("has no K: line, which must come before the notes")
    return tune


def _uncommented(line: str) -> str:
    quoted = False
    for at, sign in enumerate(line if "%" in line else ""):
        quoted ^= sign == '"'
        if sign == "%" and not quoted and line[at - 1 : at] != "\\":
            return line[:at].rstrip()
    return line.rstrip()


def _voice(tune: Tune, value: str) -> Voice:
    name = value.split()[0][:20] if value.split() else "1"
    if name not in tune.voices and len(tune.voices) >= 32:
        raise Refused("has more than 32 voices")
    first = tune.voices.get("1")
    new = Voice(shift=tune.shift, drums=tune.drums)
    new.elements += [Element("part", value=tune.part)] if tune.part else []
    if first and not first.elements and not first.name and name != "1" and len(tune.voices) == 1:
        new.drums |= tune.voices.pop("1").drums
    voice = tune.voices.setdefault(name, new)
    named = re.search(r'(?:name|nm)="([^"]{1,60})"', value)
    voice.name = named[1] if named else voice.name or name
    voice.shift, voice.drums = _shift(value, voice.shift), _drums(value.partition(" ")[2], voice.drums)
    return voice


def _field(tune: Tune, voice: Voice, letter: str, value: str, in_body: bool) -> None:
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
    elif letter == "L" and (pair := _fraction_pair(value)):
        unit = Fraction(*pair) * 4
        voice.unit, tune.unit = (unit, tune.unit) if in_body else (None, unit)
    elif letter == "Q" and not tune.tempo:
        found = re.search(r"(?:(\d{1,2})/(\d{1,2})\s*=\s*)?(\d{1,4})\s*$", re.sub(r'"[^"]*"', "", value))
        if found and 5 <= int(found[3]) <= 1000:
            beat = Fraction(int(found[1]), int(found[2])) * 4 if found[1] and int(found[2]) else Fraction(1)
            tune.tempo = min(max(float(beat * int(found[3])), 5.0), 1000.0)
    elif letter == "K":
        signature = _key(tune, value)
        if in_body:
            voice.signature = voice.signature if signature is None else signature
            voice.shift, voice.drums = _shift(value, voice.shift), _drums(value, voice.drums)
        else:
            tune.signature, tune.shift, tune.drums = signature or {}, _shift(value, 0), _drums(value, False)
            for each in tune.voices.values():  # voices declared before the key
                each.shift, each.drums = each.shift or tune.shift, each.drums or tune.drums
    elif letter == "P" and in_body:
        tune.part = value[:1]
        for each in tune.voices.values():
            each.elements.append(Element("part", value=tune.part))
    elif letter == "P":
        tune.parts = value


def _fraction_pair(value: str) -> tuple[int, int] | None:
    """The pair of numbers of 3/4 or (2+3)/8."""
    found = re.match(r"\(?(\d{1,3}(?:\s*\+\s*\d{1,3}){0,9})\)?\s*/\s*(\d{1,3})\b", value)
    top = sum(map(int, found[1].split("+"))) if found else 0
    return (top, int(found[2])) if found and top and int(found[2]) else None


def _shift(value: str, before: int) -> int:
    """The transposition in semitones that a key or a voice gives (transpose=-2, octave=1, clef=treble-8)."""
    semitones = re.search(r"\btranspose=([-+]?\d{1,2})\b", value)
    octaves = re.search(r"\boctave=([-+]?\d)\b", value)
    clef = re.search(r"(?:treble|alto|tenor|bass|[GCF])\d?([-+])8\b", value)
    if not (semitones or octaves or clef):
        return before
    by_clef = (12 if clef[1] == "+" else -12) if clef else 0
    return (int(semitones[1]) if semitones else 0) + 12 * (int(octaves[1]) if octaves else 0) + by_clef


def _drums(value: str, before: bool) -> bool:
    """Whether the clef of a key or a voice is percussion."""
    clef = CLEF.search(re.sub(r'"[^"]*"', "", value))
    return clef[1] == "perc" if clef else before


def _key(tune: Tune, value: str) -> dict[str, int] | None:
    """The signature: letter → 1 sharp, −1 flat, 0 natural; None if the field has no key."""
    found = re.match(r"([A-G])([#b]?)\s*([A-Za-z]*)", value[:1].upper() + value[1:])
    said = found and (found[3].lower()[:3] in MODES or found[3].lower() == "m")
    if not found or (value[:1].islower() and not (said and found[3])):  # "g": G minor, as in German, or G major?
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
        tonic = (LETTERS[found[1]] + (found[2] == "#") - (found[2] == "b") + _shift(value, 0)) % 12  # sounding pitch
        tune.key = str(Key(tonic, name))
    return signature


def _music(tune: Tune, voice: Voice, line: str) -> Voice:
    usual = tune.unit or (Fraction(1, 2) if Fraction(*tune.metre) >= Fraction(3, 4) else Fraction(1, 4))
    unit = voice.unit or usual
    line = PLUS.sub(lambda found: f"[{found[1]}]" if found[1] and NOTES.fullmatch(found[1]) else found[0], line)
    for match in TOKEN.finditer(line):
        if len(voice.elements) > MOST_ELEMENTS:
            raise Refused(f"has more than {MOST_ELEMENTS:,} signs")
        group = match.groupdict()
        if voice.overlay and not (group["bar"] or group["field"]):
            tune.lost["note beside the voice's own (&)"] += bool(group["note"] or group["chord"])
        elif group["note"]:
            pitch = _pitch(tune, voice, group["acc"], group["note"], group["octave"])
            _add(tune, voice, (pitch,), unit * _length(_after(match, "octave")))
        elif group["chord"]:
            for text in NOT_NOTES.findall(group["chord"]):
                _symbol(tune, voice, text)
            inside = IN_CHORD.findall(NOT_NOTES.sub("", group["chord"]))
            if not inside:
                continue
            pitches = tuple(sorted({_pitch(tune, voice, a, n, o) for a, n, o, *_ in inside}))
            _add(tune, voice, pitches, unit * _length(inside[0][3:6]) * _length(_after(match, "chord")))
            voice.elements[-1].tied = any(tie for *_, tie in inside)
        elif group["micro"]:
            tune.lost[QUARTER_TONE] += 1
        elif group["rest"]:
            _add(tune, voice, (), unit * _length(_after(match, "rest")))
        elif group["bars"]:
            count = int(match.group(match.re.groupindex["bars"] + 1) or 1)
            _add(tune, voice, (), Fraction(*(voice.metre or tune.metre)) * 4 * count)
        elif group["text"]:
            _symbol(tune, voice, group["text"][1:-1])
        elif group["bar"]:
            last = next((e for e in reversed(voice.elements) if e.kind != "bar"), None)
            voice.carried = voice.sounding if last and last.tied else {}
            voice.accidentals.clear()
            voice.overlay = False
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
        elif group["overlay"]:
            voice.overlay, voice.triplets, voice.broken = True, 0, Fraction(1)
        elif group["sign"]:
            voice.elements.append(Element({"S": "segno", "O": "coda"}[group["sign"]]))
        elif group["grace"]:
            tune.lost["grace note"] += sum(c.isalpha() for c in group["grace"])
        elif group["field"]:
            if group["field"] == "V":
                voice = _voice(tune, group["value"].strip())
            else:
                _field(tune, voice, group["field"], group["value"].strip(), True)
            unit = voice.unit or usual
    return voice


def _after(match: re.Match, name: str) -> tuple[str, str, str]:
    """The three groups of a length after the group `name`."""
    at = match.re.groupindex[name]
    return match.group(at + 1) or "", match.group(at + 2) or "", match.group(at + 3) or ""


def _length(parts: tuple[str, str, str]) -> Fraction:
    """3/2 → 3/2, / → 1/2, // → 1/4; an invalid length counts as 1."""
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
    signature = tune.signature if voice.signature is None else voice.signature
    place = upper, height
    shift = voice.accidentals.get(place, voice.carried.get(place, signature.get(upper, 0)))
    voice.written[place] = shift
    return min(max(12 * height + LETTERS[upper] + shift + voice.shift, 0), 127)


def _add(tune: Tune, voice: Voice, pitches: tuple[int, ...], length: Fraction) -> None:
    if voice.drums and pitches:
        tune.lost["drum"] += len(pitches)
        pitches = ()
    length *= voice.broken
    voice.broken = Fraction(1)
    if voice.triplets:
        length *= voice.ratio
        voice.triplets -= 1
    voice.sounding, voice.written, voice.carried = voice.written, {}, {}
    voice.elements.append(Element("note" if pitches else "rest", length, pitches))


def _tuplet(tune: Tune, voice: Voice, p: int, q: str | None, r: str | None) -> None:
    """Begin a tuplet (p:q:r — p notes in the time of q, for the next r notes."""
    beats, unit_ = voice.metre or tune.metre
    odd = 3 if unit_ == 8 and beats % 3 == 0 else 2
    time = int(q) if q else {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(p, odd)
    voice.ratio, voice.triplets = Fraction(time, p), int(r) if r else p


def _decoration(voice: Voice, name: str) -> None:
    """Add an element if the decoration is a repeat or jump sign."""
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
    symbol = chord_symbol(text, tune.lost)
    if symbol is not None and voice.shift:  # the symbol names the chord in the written key
        root, kind, bass = symbol
        symbol = Symbol((root + voice.shift) % 12, kind, None if bass is None else (bass + voice.shift) % 12)
    voice.elements.append(Element("chord", value=symbol))


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
