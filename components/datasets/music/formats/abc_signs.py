"""Parser of ABC tunes: notes, rests, chords, bar lines and fields, in written order."""

from __future__ import annotations

import re
from fractions import Fraction

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.abc_fields import LETTERS, Element, Tune, Voice, drums, read_field, shift
from components.datasets.music.formats.grid import QUARTER_TONE, chord_symbol
from components.datasets.music.formats.repeats import ending_numbers, says_jump
from components.drums import CHANNEL
from components.harmony import Symbol

MIDI_CHANNEL = re.compile(r"(?:%%|I:)\s*MIDI\s+channel\s*=?\s*(\d{1,2})\b")
MIDI_TRANSPOSE = re.compile(r"(?:%%|I:)\s*MIDI\s+r?transpose\s*=?\s*[-+]?0*[1-9]")
MOST_ELEMENTS = 100_000  # in a tune, repeats expanded
DECORATIONS = {
    "d.c.": "D.C.", "dacapo": "D.C.", "d.s.": "D.S.", "dacoda": "to coda", "fine": "fine",
    **{f"d.{of}.al{to}": f"D.{of.upper()}. al {to}" for of in "cs" for to in ("coda", "fine")},
}  # fmt: skip
GERMAN_H = re.compile(r'"H(?:[m7/"]|maj|sus|dim|is)')
GERMAN_B = re.compile(r"^B(?!b(?!\d)|es|♭)|(?<=/)B(?=$|\s)")
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
    | (?P<rest>[zx]){LENGTH} | (?P<bars>[ZX])(\d{{0,3}}) | (?P<tie>-) | (?P<broken>>{{1,3}}|<{{1,3}})
    | (?P<sign>[SO]) | (?P<overlay>&) | .""",
    re.VERBOSE,
)
NOT_NOTES = re.compile(r"\"([^\"]*)\"|![^!]*!|\+[^+]*\+")  # in a chord
PLUS = re.compile(r"\"[^\"\n]*\"|\+([^+\s]{1,40})\+")  # a decoration; before ABC 2, a chord
NOTES = re.compile(r"(?!f+$)(?:[_^=]{0,2}[A-Ga-g][,']{0,5}\d{0,2}/{0,2}\d?){2,}")  # +ff+ is a dynamic
IN_CHORD = re.compile(rf"([_^=]{{0,2}})([A-Ga-g])([,']{{0,5}}){LENGTH}(-?)")


def parse_tune(text: str, german: bool = False) -> Tune:
    """The tune in a text that begins with an X: line. An empty line ends the tune; bars and fields after it are still
    read, but other text isn't. `german`: chord symbols are German, B is B flat.

    Raises:
        Refused: the tune is longer than MOST_ELEMENTS, or has no K: line.
    """
    tune = Tune(german=german)
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
                read_field(tune, voice, letter, value, in_body)
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
    voice.shift, voice.drums = shift(value, voice.shift), drums(value.partition(" ")[2], voice.drums)
    return voice


def _music(tune: Tune, voice: Voice, line: str) -> Voice:
    unit = voice.unit or tune.usual
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
                read_field(tune, voice, group["field"], group["value"].strip(), True)
            unit = voice.unit or tune.usual
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
    if tune.german and (found := GERMAN_B.sub("Bb", text)) != text:
        tune.lost["chord symbol B, read as B flat: others of the file are called H (kept)"] += 1
        text = found
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
