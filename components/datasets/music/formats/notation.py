"""MusicXML and Humdrum to pieces on the grid, through music21. Runs in the sandbox: files are untrusted input."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.grid import (
    LONGEST_STEPS,
    ONLY_DRUMS,
    QUARTER_TONE,
    Piece,
    Track,
    bar_steps,
    chord_spans,
    chord_symbol,
    clean,
    decoded,
    key_name,
    moved,
    settle,
    uneven_bars,
    usable_metre,
)
from components.datasets.music.formats.humdrum import as_played, as_written
from components.datasets.music.formats.musicxml import unpacked, write_out, written_bars
from components.datasets.music.formats.repeats import DONT_FIT, Bar, Misfit, played_or_once
from components.drums import CHANNEL
from components.errors import UserError
from components.harmony import SCALES, Key, Symbol, match_chord, parse_chord

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from music21.harmony import ChordSymbol
    from music21.stream import Part as StreamPart
    from music21.stream import Score as StreamScore

OF_DRUMS = re.compile(r"[bst]?drum|perc|.?cymb|crshc|ridec|hihat|trngl|tambu|tmtam|gong|casts|mracs|wdblk|claps")
TRANSPOSED = re.compile(r"(?:^|\t)\*I?Tr(?!d0c0\b)d-?\d+c-?\d+", re.MULTILINE)
MOST_NOTES = 200_000
MOST_PARTS = 128


def read_notation(data: bytes, name: str, options: dict[str, Any]) -> list[Piece]:
    """The piece in a MusicXML (plain or compressed) or Humdrum file, as it sounds: repeats expanded, transposing
    instruments at sounding pitch, ties joined, grace notes left out.

    Raises:
        Refused: the file contains no music; the reason is shown to the user.
    """
    remarks: list[str] = []
    left_out: Counter[str] = Counter()
    if PurePath(name).suffix.lower() == ".krn":
        text = decoded(data)
        if transposed := len(TRANSPOSED.findall(text)):
            left_out["transposition (*Tr, *ITr), read as written (kept)"] += transposed
        stream, kind, bars = _humdrum(text, remarks), "Humdrum", []
    else:
        root = _xml(unpacked(data, remarks) if data.startswith(b"PK") else data)
        write_out(root, left_out)
        stream, kind, bars = _musicxml(root), "MusicXML", written_bars(root, remarks)
    if any(part.atSoundingPitch is False for part in stream.parts):
        stream.toSoundingPitch(inPlace=True)
    return [_piece(stream, kind, PurePath(name).stem, options, bars, left_out, remarks)]


def _xml(data: bytes) -> Element:
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Refused(f"damaged XML: {str(error)[:100]}") from error
    if root.tag != "score-partwise":
        raise Refused(f"isn't partwise MusicXML: its root is <{root.tag[:40]}>")
    return root


def _musicxml(root: Element) -> StreamScore:
    from music21.musicxml.xmlToM21 import MusicXMLImporter

    importer = MusicXMLImporter()
    importer.xmlRootToScore(root, importer.stream)
    return importer.stream


def _humdrum(text: str, remarks: list[str]) -> StreamScore:
    from music21.converter.subConverters import ConverterHumdrum

    def parsed(lines: str) -> StreamScore:
        converter = ConverterHumdrum()
        converter.parseData(lines + "\n")
        return converter.stream

    try:
        played = as_played(text)
        if played is not None:
            return parsed(played)
    except Exception as error:  # music21 raises various errors if the sections' spines don't join
        why = error if isinstance(error, Misfit) else type(error).__name__
        remarks.append(f"{DONT_FIT} ({why}): read once, as written")
    return parsed(as_written(text))


class Playing:
    """Maps the written bars of a score to their played positions, in quarter notes."""

    def __init__(self, part: StreamPart, bars: Sequence[Bar], remarks: list[str]) -> None:
        from music21.stream import Measure

        measures = list(part.getElementsByClass(Measure))
        self.upbeat = Fraction(measures[0].paddingLeft) if measures else Fraction(0)
        self.starts = [Fraction(measure.offset) for measure in measures] or [Fraction(0)]
        ends = [*self.starts[1:], Fraction(part.highestTime)]
        order = range(len(self.starts))
        if len(bars) == len(measures):
            order = played_or_once(bars, remarks)
        elif any(bar != Bar() for bar in bars):
            remarks.append(f"{DONT_FIT} (its bars can't be told apart): read once, as written")
        at, self.order = Fraction(0), []  # (bar, played position)
        for index in order:
            self.order.append((index, at))
            at += ends[index] - self.starts[index]

    def of(self, elements: Iterable[Any]) -> Iterator[tuple[Fraction, Any]]:
        """The elements of a part, which have written offsets, at each position where they are played."""
        inside: list[list[tuple[Fraction, Any]]] = [[] for _ in self.starts]
        for element in elements:
            offset = Fraction(element.offset)
            index = max(bisect_right(self.starts, offset) - 1, 0)
            inside[index].append((offset - self.starts[index], element))
        return ((at + within, element) for index, at in self.order for within, element in inside[index])

    def holding(self, elements: Iterable[Any]) -> Iterator[tuple[Fraction, Any]]:
        """As `of`, for elements that stay in effect: the one in effect at a written bar is repeated when the bar is."""
        given = sorted(((Fraction(element.offset), element) for element in elements), key=lambda pair: pair[0])
        for index, at in self.order:
            start = self.starts[index]
            before = [element for offset, element in given if offset <= start]
            if before:
                yield at, before[-1]
            stop = self.starts[index + 1] if index + 1 < len(self.starts) else Fraction(10**9)
            yield from ((at + offset - start, element) for offset, element in given if start < offset < stop)


def _piece(
    stream: StreamScore,
    kind: str,
    stem: str,
    options: dict[str, Any],
    bars: Sequence[Bar],
    left_out: Counter[str],
    remarks: list[str],
) -> Piece:
    from music21 import key, meter, tempo

    spb = options["steps_per_beat"]
    parts = list(stream.parts)[:MOST_PARTS]
    if not parts:
        raise Refused("has no parts")
    tracks, errors = [], []
    symbols: list[tuple[int, Symbol | None]] = []
    playing = Playing(parts[0], bars, remarks)
    flats = [part.flatten() for part in parts]
    for number, (part, flat) in enumerate(zip(parts, flats, strict=True)):
        spans = _spans(playing.of(flat.notes), spb, left_out, symbols, _drums(flat))
        if not spans:
            continue
        table = np.array(spans)
        if len(table) > MOST_NOTES or table[:, 1].max() > LONGEST_STEPS:
            raise Refused(f"has more than {MOST_NOTES:,} notes or {LONGEST_STEPS // spb:,} beats")
        errors.append(moved(table[:, 0], spb, left_out))
        notes = settle(table[:, 0], table[:, 1], table[:, 2], table[:, 3], left_out)
        tracks.append(Track(number, clean(str(part.partName or "")), notes, _program(part)))
    if not tracks:
        raise Refused(ONLY_DRUMS if left_out["drum"] else "has no notes")
    metres: list[tuple[int, tuple[int, int]]] = []
    for offset, signature in playing.holding(flats[0].getElementsByClass(meter.TimeSignature)):
        metre = (signature.numerator, signature.denominator)
        if not usable_metre(*metre, spb):
            remarks.append(f"the metre {metre[0]}/{metre[1]} is ignored: its bar isn't a whole number of steps")
        elif not metres or metres[-1][1] != metre:
            metres.append((round(offset * spb), metre))
    if not metres:
        remarks.append("no metre in the file: 4/4 is assumed")
    metre = metres[0][1] if metres else (4, 4)
    if len(metres) == 1:
        lines = [at for _, at in playing.order][1:]
        remarks += uneven_bars(lines, next(iter(lines), Fraction(0)), Fraction(*metre) * 4)
    bar = bar_steps(metre, spb)
    upbeat = (bar - round(playing.upbeat * spb)) % bar
    marks = [mark.getQuarterBPM() for mark in flats[0].getElementsByClass(tempo.MetronomeMark)]
    tempi = [float(bpm) for bpm in marks if bpm and 5 <= bpm <= 1000]
    if not tempi:
        remarks.append("no tempo in the file: 120 is assumed")
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
    signatures = list(flats[0].getElementsByClass(key.KeySignature))
    # Humdrum names the key beside its signature
    named = (one for one in signatures if isinstance(one, key.Key) and one.offset == signatures[0].offset)
    declared = next(named, next(iter(signatures), None))
    if isinstance(declared, key.Key) and declared.mode in SCALES:
        piece.key = str(Key(declared.tonic.pitchClass, declared.mode))
    elif declared is not None and declared.sharps is not None:
        piece.key = key_name(tracks, declared.sharps)
    piece.chords = chord_spans(symbols, piece.length_steps)
    piece.seconds = piece.length_steps / spb * 60 / piece.tempo_bpm
    if piece.seconds > options["max_seconds"]:
        raise Refused(f"lasts {piece.seconds:,.0f} s, longer than max_seconds={options['max_seconds']:g}")
    piece.timing_error_ms = float(np.concatenate(errors).mean()) / spb * 60_000 / piece.tempo_bpm
    return piece


def _spans(
    notes: Iterable[tuple[Fraction, Any]],
    spb: int,
    left_out: Counter[str],
    symbols: list[tuple[int, Symbol | None]],
    drums: set[int],
) -> list[tuple[float, float, int, int]]:
    """(start and end in steps, pitch, velocity) of a part's notes, ties joined; chord symbols are added to `symbols`.
    `drums`: see `_drums`."""
    from music21.harmony import ChordSymbol, NoChord
    from music21.percussion import PercussionChord

    spans: list[list[Any]] = []
    tied: dict[int, int] = {}  # pitch → index of the span that a tie may extend
    for offset, element in notes:
        start = offset * spb
        if isinstance(element, ChordSymbol):
            symbols.append((round(start), None if isinstance(element, NoChord) else _symbol(element, left_out)))
            continue
        if element.duration.isGrace:
            left_out["grace note"] += len(element.pitches) or 1
            continue
        if not element.pitches or isinstance(element, PercussionChord) or id(element) in drums:
            left_out["drum"] += len(element.pitches) or 1
            continue
        end = start + Fraction(element.quarterLength) * spb
        velocity = element.volume.velocity or 80
        for note in getattr(element, "notes", (element,)):
            pitch = int(note.pitch.midi)
            if not 0 <= pitch <= 127:
                left_out["note with an impossible pitch, time or velocity"] += 1
                continue
            if note.pitch.ps != round(note.pitch.ps):
                left_out[QUARTER_TONE] += 1
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


def _drums(flat: StreamPart) -> set[int]:
    """Unpitched notes, by `id`: a clef, a MIDI channel or Humdrum's instrument name is percussion."""
    from music21.clef import Clef, PercussionClef
    from music21.humdrum.spineParser import MiscTandem
    from music21.instrument import Instrument

    named = any(OF_DRUMS.match(one.tandem) for one in flat.getElementsByClass(MiscTandem))
    if named or any(one.midiChannel == CHANNEL for one in flat.getElementsByClass(Instrument)):
        return {id(note) for note in flat.notes}
    changes = sorted((clef.offset, isinstance(clef, PercussionClef)) for clef in flat.getElementsByClass(Clef))
    if not any(drums for _, drums in changes):
        return set()
    at = [offset for offset, _ in changes]
    held = [False, *(drums for _, drums in changes)]
    return {id(note) for note in flat.notes if held[bisect_right(at, note.offset)]}


def _symbol(element: ChordSymbol, left_out: Counter[str]) -> Symbol | None:
    try:
        return parse_chord(element.figure.replace("-", "b"))  # music21 writes B-flat as B-
    except UserError:
        bass = element.bass()
        found = match_chord(element.pitchClasses, bass.pitchClass if bass else None)
        return found or chord_symbol(element.figure.replace("-", "b"), left_out)


def _program(part: StreamPart) -> int:
    instrument = part.getInstrument(returnDefault=False)
    program = getattr(instrument, "midiProgram", None)
    return int(program) if program is not None and 0 <= program <= 127 else 0
