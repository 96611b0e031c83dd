"""MusicXML features that music21 lacks: the score in an archive, measure-repeat signs, and repeats."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from html import unescape
from xml.etree.ElementTree import Element

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.midi_file import SILENT
from components.datasets.music.formats.repeats import DONT_FIT, Bar, ending_numbers, read_words

MOST_XML = 64 << 20  # bytes, unpacked
CONTAINER = "META-INF/container.xml"
SCORES = (".xml", ".musicxml")
SEVERAL = "its container doesn't say which file is the score"
MOST_CONTAINER = 1 << 16
MOST_MEMBERS = 256
MUSIC = ("note", "backup", "forward", "harmony")  # elements that sound in a bar


def unpacked(data: bytes, remarks: list[str]) -> bytes:
    """The score in an .mxl archive: the one named in META-INF/container.xml, or the first one. A remark is added if
    there are several candidates.

    The container is searched, not parsed: programs write titles unescaped, with characters that XML forbids.

    Raises:
        Refused: there is no score, the archive is damaged, or it unpacks to more than MOST_XML.
    """
    left = MOST_XML
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info.filename for info in archive.infolist()[:MOST_MEMBERS] if not info.is_dir()]
            named, likely = _named(archive, members), _likely(members)
            for name in dict.fromkeys([*named, *likely]):
                with archive.open(name) as file:
                    xml = file.read(left + 1)
                left -= len(xml)
                if left < 0:
                    raise Refused(f"unpacks to more than {MOST_XML:,} bytes")
                if b"<score-" in xml.replace(b"\0", b""):  # in UTF-16 too
                    others = [one for one in likely if one != name and one.lower().endswith(SCORES)]
                    if others and name not in named:
                        remarks.append(f"{SEVERAL}: of {len(others) + 1} files, {name[:80]} is read")
                    return xml
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, zlib.error) as error:
        raise Refused(f"damaged .mxl: {str(error)[:100]}") from error
    raise Refused("damaged .mxl: no score in the archive")


def _named(archive: zipfile.ZipFile, members: list[str]) -> list[str]:
    """Members named in the container."""
    if CONTAINER not in members:
        return []
    with archive.open(CONTAINER) as file:
        text = file.read(MOST_CONTAINER).decode("utf-8", "replace")
    paths = re.findall(r"""full-path\s*=\s*(["'])(.{1,1000}?)\1""", text)
    return [name for _, path in paths if (name := unescape(path)) in members]


def _likely(members: list[str]) -> list[str]:
    """Members that may be a score, those with the likeliest names first."""
    others = [name for name in members if not name.startswith(("META-INF/", "__MACOSX/"))]
    return sorted(others, key=lambda name: not name.lower().endswith(SCORES))


def write_out(root: Element, left_out: Counter[str]) -> None:
    """Expand measure-repeat signs, and replace cue notes, which aren't played, and slashes by rests; remove chord
    symbols without a root, such as V7, which music21 can't read.

    Raises:
        Refused: notes have durations, but the unit is missing.
    """
    muted = {part.get("id") for part in root.iterfind("part-list/score-part") if _muted(part)}
    for part in root.findall("part"):
        if part.get("id") in muted:
            left_out[SILENT] += sum(note.find("pitch") is not None for note in part.iterfind("measure/note"))
        if part.find("measure/note/duration") is not None and part.find("measure/attributes/divisions") is None:
            raise Refused("its durations have no unit: <divisions> is missing")
        for note in part.iterfind("measure/note"):
            slash = (note.findtext("notehead") or "").strip() == "slash"
            if (slash or note.find("cue") is not None) and (pitch := note.find("pitch")) is not None:
                left_out["slash: a rhythm without a pitch" if slash else "cue note"] += 1
                note.remove(pitch)
                note.insert(0, Element("rest"))
        for transpose in part.iter("transpose"):
            if transpose.find("diatonic") is None:  # optional, but music21 needs it
                steps = Element("diatonic")
                steps.text = str(round(float(transpose.findtext("chromatic") or 0) * 7 / 12))
                transpose.insert(0, steps)
        _chord_symbols(part, left_out)
        _repeat_measures(part.findall("measure"), left_out)


def _muted(part: Element) -> bool:
    """Whether all volumes of a part in the part list are 0."""
    volumes = [(volume.text or "").strip() for volume in part.iterfind("midi-instrument/volume")]
    return bool(volumes) and all(re.fullmatch(r"0(\.0*)?", volume) for volume in volumes)


def _chord_symbols(part: Element, left_out: Counter[str]) -> None:
    for measure in part.findall("measure"):
        for harmony in measure.findall("harmony"):
            if harmony.find("root") is None:
                measure.remove(harmony)
                left_out["chord symbol without a root"] += 1
            elif (harmony.findtext("kind") or "").strip() == "other":
                left_out["chord symbol of an unknown kind, read as major (kept)"] += 1


def _repeat_measures(measures: Sequence[Element], left_out: Counter[str]) -> None:
    """Copy the music of the bars before into bars with a measure-repeat sign, where their staff has no notes."""
    back, staff, unit = 0, None, ""  # back: bars; 0: no repeat sign in effect
    units: list[str] = []
    for at, measure in enumerate(measures):
        for style in measure.iterfind("attributes/measure-style"):
            for sign in style.iterfind("measure-repeat"):
                bars, staff = (sign.text or "1").strip(), style.get("number")
                back = int(bars) if sign.get("type") == "start" and bars.isdecimal() and len(bars) < 3 else 0
        unit = measure.findtext("attributes/divisions", unit)
        units.append(unit)
        there = [note.findtext("staff", "1") for note in measure.iterfind("note") if note.find("pitch") is not None]
        if not back or (staff in there if staff else there):
            continue
        if there or at < back or units[at - back] != unit:
            left_out["bar that repeats those before it (left empty)"] += 1
            continue
        for element in [element for element in measure if element.tag in MUSIC]:
            measure.remove(element)
        measure.extend(deepcopy(element) for element in measures[at - back] if element.tag in MUSIC)


def written_bars(root: Element, remarks: list[str]) -> list[Bar]:
    """The repeat signs of each bar of a partwise score, all parts combined; [] with a remark if they can't be
    resolved."""
    parts = [part.findall("measure") for part in root.findall("part")]
    repeats = [repeat for part in parts for measure in part for repeat in measure.iter("repeat")]
    lines = [line for part in parts for measure in part for line in measure.iter("barline")]
    unlike = len({len(measures) for measures in parts}) > 1
    within = any(line.get("location") == "middle" and line.find("repeat") is not None for line in lines)
    if not parts or unlike or within:
        why = "the parts have different numbers of bars" if unlike else "one lies within a bar"
        remarks += [f"{DONT_FIT} ({why}): read once, as written"] * bool(repeats)
        return []
    bars = [Bar() for _ in parts[0]]
    for measures in parts:
        ending: frozenset[int] = frozenset()
        for bar, measure in zip(bars, measures, strict=True):
            ending = _read(measure, bar, ending)
    _tell_codas_apart(bars)
    return bars


def _read(measure: Element, bar: Bar, ending: frozenset[int]) -> frozenset[int]:
    """Add the measure's repeat signs to `bar`; returns the ending that continues after it."""
    stops = False
    for mark in measure.iter("ending"):
        if mark.get("type") == "start":
            ending, stops = ending_numbers(mark.get("number", "")), False
        else:
            stops = True
    bar.ending |= ending
    for mark in measure.iter("repeat"):
        if mark.get("direction") == "forward":
            bar.forward = True
        else:
            times = mark.get("times", "2")
            bar.times = max(bar.times, int(times) if times.isdigit() and len(times) < 4 else 2)
            bar.after_jump |= mark.get("after-jump") == "yes"
    for direction in measure.iter("direction"):
        for words in direction.iter("words"):
            read_words(words.text or "", bar)
    for sound in measure.iter("sound"):
        bar.segno |= sound.get("segno") is not None
        bar.coda |= sound.get("coda") is not None
        bar.to_coda |= sound.get("tocoda") is not None
        bar.fine |= sound.get("fine") is not None
        if sound.get("dacapo") == "yes" or sound.get("dalsegno") is not None:
            bar.jump = "segno" if sound.get("dalsegno") is not None else "capo"
    bar.segno |= any(True for _ in measure.iter("segno"))
    bar.coda |= any(True for _ in measure.iter("coda"))
    return frozenset() if stops else ending


def _tell_codas_apart(bars: list[Bar]) -> None:
    """The sign for "to the coda" and "coda" is the same: if nothing else tells them apart, the last one is the coda."""
    codas = [bar for bar in bars if bar.coda]
    for bar in codas[:-1] if not any(bar.to_coda for bar in bars) else ():
        bar.coda, bar.to_coda = False, True
    for bar in codas[:-1]:  # a sign at the bar that says "To Coda" in words
        bar.coda &= not bar.to_coda
