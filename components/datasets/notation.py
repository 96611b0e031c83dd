"""MusicXML and Humdrum through music21, onto the grid. Runs in the sandbox: the bytes are a stranger's."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from fractions import Fraction
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from components.datasets.grid import LONGEST_STEPS, Piece, Track, bar_steps, chord_spans, clean, settle, usable_metre
from components.datasets.sandbox import Refused
from components.errors import UserError
from components.harmony import Key, Symbol, match_chord, parse_chord

if TYPE_CHECKING:
    from music21.harmony import ChordSymbol
    from music21.stream import Part as StreamPart
    from music21.stream import Score as StreamScore

MOST_XML = 64 << 20  # bytes, unpacked
MOST_MEMBERS = 256
MOST_NOTES = 200_000
MOST_PARTS = 128


def read_notation(data: bytes, name: str, options: dict[str, Any]) -> list[Piece]:
    """The piece in a MusicXML (plain or packed) or Humdrum file, as it sounds: repeats played, transposing
    instruments at their sounding pitch, ties joined, grace notes left out.

    Raises:
        Refused: the file gives no music; the reason is for a person.
    """
    ending = PurePath(name).suffix.lower()
    remarks: list[str] = []
    if ending == ".krn":
        stream, kind = _humdrum(data), "Humdrum"
    else:
        stream, kind = _musicxml(_unpacked(data) if data.startswith(b"PK") else data), "MusicXML"
    stream = _sounding(stream, remarks)
    return [_piece(stream, kind, PurePath(name).stem, options, remarks)]


def _unpacked(data: bytes) -> bytes:
    """The score in an .mxl archive: what META-INF/container.xml names, or the first .xml."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: info for info in archive.infolist()[:MOST_MEMBERS]}
            wanted = [name for name in members if name.lower().endswith((".xml", ".musicxml"))]
            wanted = [name for name in wanted if not name.startswith("META-INF")]
            if "META-INF/container.xml" in members:
                with archive.open("META-INF/container.xml") as file:
                    root = ElementTree.fromstring(file.read(1 << 16))
                named = [element.get("full-path", "") for element in root.iter() if element.tag.endswith("rootfile")]
                wanted = [name for name in named if name in members] or wanted
            if not wanted:
                raise Refused("damaged .mxl: no score in the archive")
            with archive.open(wanted[0]) as file:
                xml = file.read(MOST_XML + 1)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise Refused(f"damaged .mxl: {str(error)[:100]}") from error
    if len(xml) > MOST_XML:
        raise Refused(f"unpacks to more than {MOST_XML:,} bytes")
    return xml


def _musicxml(data: bytes) -> StreamScore:
    from music21.musicxml.xmlToM21 import MusicXMLImporter

    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Refused(f"damaged XML: {str(error)[:100]}") from error
    if root.tag != "score-partwise":
        raise Refused(f"isn't partwise MusicXML: its root is <{root.tag[:40]}>")
    importer = MusicXMLImporter()
    importer.xmlRootToScore(root, importer.stream)
    return importer.stream


def _humdrum(data: bytes) -> StreamScore:
    from music21.converter.subConverters import ConverterHumdrum

    converter = ConverterHumdrum()
    converter.parseData(data.decode("utf-8", "replace"))
    return converter.stream


def _sounding(stream: StreamScore, remarks: list[str]) -> StreamScore:
    from music21.bar import Repeat
    from music21.repeat import ExpanderException, RepeatMark
    from music21.stream import StreamException

    if any(part.atSoundingPitch is False for part in stream.parts):
        stream.toSoundingPitch(inPlace=True)
    marks = any(True for _ in stream.recurse().getElementsByClass((Repeat, RepeatMark)))
    if not marks:
        return stream
    try:
        return stream.expandRepeats()
    except (ExpanderException, StreamException, ValueError, TypeError, IndexError, AttributeError):
        remarks.append("its repeats don't fit together: read once, as written")
        return stream


def _piece(stream: StreamScore, kind: str, stem: str, options: dict[str, Any], remarks: list[str]) -> Piece:
    from music21 import key, meter, tempo
    from music21.stream import Measure

    spb = options["steps_per_beat"]
    parts = list(stream.parts)[:MOST_PARTS]
    if not parts:
        raise Refused("has no parts")
    left_out: Counter[str] = Counter()
    tracks, errors = [], []
    symbols: list[tuple[int, Symbol | None]] = []
    flats = [part.flatten() for part in parts]
    for number, (part, flat) in enumerate(zip(parts, flats, strict=True)):
        spans = _spans(flat, spb, left_out, symbols)
        if not spans:
            continue
        table = np.array(spans)
        if len(table) > MOST_NOTES or table[:, 1].max() > LONGEST_STEPS:
            raise Refused(f"has more than {MOST_NOTES:,} notes or {LONGEST_STEPS // spb:,} beats")
        errors.append(np.abs(table[:, 0] - np.rint(table[:, 0])))
        notes = settle(table[:, 0], table[:, 1], table[:, 2], table[:, 3], left_out)
        tracks.append(Track(number, clean(str(part.partName or "")), notes, _program(part)))
    if not tracks:
        raise Refused("has only percussion" if left_out["drum"] else "has no notes")
    signatures = list(flats[0].getElementsByClass(meter.TimeSignature))
    metres: list[tuple[int, tuple[int, int]]] = []
    for signature in signatures:
        metre = (signature.numerator, signature.denominator)
        if not usable_metre(*metre, spb):
            remarks.append(f"the metre {metre[0]}/{metre[1]} is ignored: its bar isn't a whole number of steps")
        elif not metres or metres[-1][1] != metre:
            metres.append((round(Fraction(signature.offset) * spb), metre))
    if not metres:
        remarks.append("no metre in the file: 4/4")
    metre = metres[0][1] if metres else (4, 4)
    bar = bar_steps(metre, spb)
    measures = list(parts[0].getElementsByClass(Measure))
    first = measures[0] if measures else None
    upbeat = (bar - round(Fraction(first.paddingLeft) * spb)) % bar if first is not None else 0
    marks = [mark.getQuarterBPM() for mark in flats[0].getElementsByClass(tempo.MetronomeMark)]
    tempi = [float(bpm) for bpm in marks if bpm and 5 <= bpm <= 1000]
    if not tempi:
        remarks.append("no tempo in the file: 120")
    title = stream.metadata.bestTitle if stream.metadata else None
    piece = Piece(
        kind,
        clean(str(title or stem)),
        tracks,
        spb,
        metre,
        metres[1:],
        upbeat,
        tempi[0] if tempi else 120.0,
        len(set(tempi)) - 1 if tempi else 0,
        left_out=left_out,
        remarks=remarks,
    )
    declared = next(iter(flats[0].getElementsByClass(key.Key)), None)
    if declared is not None and declared.mode in ("major", "minor"):
        piece.key = str(Key(declared.tonic.pitchClass, declared.mode))
    piece.chords = chord_spans(symbols, piece.length_steps)
    piece.seconds = piece.length_steps / spb * 60 / piece.tempo_bpm
    if piece.seconds > options["max_seconds"]:
        raise Refused(f"lasts {piece.seconds:,.0f} s, longer than max_seconds={options['max_seconds']:g}")
    piece.timing_error_ms = float(np.concatenate(errors).mean()) / spb * 60_000 / piece.tempo_bpm
    return piece


def _spans(
    flat: StreamPart, spb: int, left_out: Counter[str], symbols: list[tuple[int, Symbol | None]]
) -> list[tuple[float, float, int, int]]:
    """(start and end in steps, pitch, velocity) of a part's notes, ties joined; its chord symbols go to `symbols`."""
    from music21.harmony import ChordSymbol, NoChord
    from music21.percussion import PercussionChord

    spans: list[list[Any]] = []
    tied: dict[int, int] = {}  # pitch → index of the span that a tie may lengthen
    for element in flat.notes:
        start = Fraction(element.offset) * spb
        if isinstance(element, ChordSymbol):
            symbol = None if isinstance(element, NoChord) else _symbol(element)
            if symbol is None and not isinstance(element, NoChord):
                left_out["chord symbol that can't be read (kept)"] += 1
            else:
                symbols.append((round(start), symbol))
            continue
        if element.duration.isGrace:
            left_out["grace note"] += len(element.pitches) or 1
            continue
        if not element.pitches or isinstance(element, PercussionChord):
            left_out["drum"] += 1
            continue
        end = start + Fraction(element.quarterLength) * spb
        velocity = element.volume.velocity or 80
        for note in getattr(element, "notes", (element,)):
            pitch = int(note.pitch.midi)
            if not 0 <= pitch <= 127:
                left_out["note with an impossible pitch, time or velocity"] += 1
                continue
            tie = note.tie or element.tie
            at = tied.pop(pitch, None) if tie is not None and tie.type in ("stop", "continue") else None
            if at is not None and spans[at][1] == start:
                spans[at][1] = end
            else:
                at = len(spans)
                spans.append([start, end, pitch, int(velocity)])
            if tie is not None and tie.type in ("start", "continue"):
                tied[pitch] = at
    return [(float(start), float(end), pitch, velocity) for start, end, pitch, velocity in spans]


def _symbol(element: ChordSymbol) -> Symbol | None:
    try:
        return parse_chord(element.figure.replace("-", "b"))  # music21 writes B-flat as B-
    except UserError:
        bass = element.bass()
        return match_chord(element.pitchClasses, bass.pitchClass if bass else None)


def _program(part: StreamPart) -> int:
    instrument = part.getInstrument(returnDefault=False)
    program = getattr(instrument, "midiProgram", None)
    return int(program) if program is not None and 0 <= program <= 127 else 0
