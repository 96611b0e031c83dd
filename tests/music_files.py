"""Small files of music for the tests, written with symusic, music21 or by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import symusic

TPQ = 480
Notes = list[tuple[float, float, int]]  # start and duration in beats, pitch

TUNE: Notes = [
    (beat, 0.9, pitch) for beat, pitch in enumerate([72, 74, 76, 77, 79, 77, 76, 74, 72, 71, 72, 74, 76, 72, 74, 72])
]
CHORDS: Notes = [
    (4.0 * bar, 3.9, pitch)
    for bar, block in enumerate([(48, 52, 55), (53, 57, 60), (43, 47, 50, 53), (48, 52, 55)])
    for pitch in block
]
BASS: Notes = [(2.0 * half, 1.5, pitch) for half, pitch in enumerate([36, 43, 41, 36, 43, 38, 36, 43])]
DRUMS: Notes = [(beat / 2, 0.1, 42 if beat % 2 else 36) for beat in range(32)]


def midi(
    path: Path,
    *tracks: tuple[str, int, Notes] | tuple[str, int, Notes, bool],
    tempi: tuple[tuple[float, float], ...] = ((0, 100),),
    metres: tuple[tuple[float, int, int], ...] = ((0, 4, 4),),
    words: list[tuple[float, str]] = [],  # noqa: B006 - read only
) -> Path:
    """A MIDI file of (name, program, notes[, is drums]) tracks; times in beats."""
    score = symusic.Score(TPQ)
    for at, bpm in tempi:
        score.tempos.append(symusic.Tempo(round(at * TPQ), bpm))
    for at, beats, unit in metres:
        score.time_signatures.append(symusic.TimeSignature(round(at * TPQ), beats, unit))
    for name, program, notes, *drums in tracks:
        track = symusic.Track(name, program, bool(drums and drums[0]))
        for start, duration, pitch in notes:
            track.notes.append(symusic.Note(round(start * TPQ), round(duration * TPQ), pitch, 90))
        score.tracks.append(track)
    for at, word in words:
        score.tracks[0].lyrics.append(symusic.TextMeta(round(at * TPQ), word))
    path.parent.mkdir(parents=True, exist_ok=True)
    score.dump_midi(str(path))
    return path


def smf(*tracks: bytes, kind: int = 1, division: int = TPQ) -> bytes:
    """A MIDI file of tracks of events, which end by themselves."""
    head = b"MThd" + struct.pack(">IHHH", 6, kind, len(tracks), division)
    return head + b"".join(b"MTrk" + struct.pack(">I", len(t) + 4) + t + b"\0\xff\x2f\0" for t in tracks)


def events(*rows: tuple[int, bytes]) -> bytes:
    """Events at absolute ticks, as the bytes of a track."""
    out, now = b"", 0
    for tick, event in rows:
        wait, now = tick - now, tick
        out += bytes([0x80 | wait >> 7, wait & 127] if wait > 127 else [wait]) + event
    return out


def pop_song(path: Path) -> Path:
    """Drums, bass, guitar, strings, and a melody that isn't first."""
    strings = [(start, duration, pitch + 24) for start, duration, pitch in CHORDS]
    return midi(
        path,
        ("Drums", 0, DRUMS, True),
        ("E.Bass", 33, BASS),
        ("Nylon Gtr", 24, CHORDS),
        ("Strings", 48, strings),
        ("Lead Vocals", 53, TUNE),
    )


def piano_piece(path: Path) -> Path:
    """Both hands on one track."""
    return midi(path, ("", 0, sorted(TUNE + CHORDS)))


MUSICXML = """<?xml version="1.0" encoding="UTF-8"?>
<score-partwise version="4.0"><work><work-title>A lead sheet</work-title></work>
<part-list><score-part id="P1"><part-name>Voice</part-name></score-part></part-list>
<part id="P1">
<measure number="0" implicit="yes"><attributes><divisions>6</divisions><key><fifths>-1</fifths></key>
<time><beats>3</beats><beat-type>4</beat-type></time></attributes>
<note><pitch><step>C</step><octave>5</octave></pitch><duration>6</duration><type>quarter</type></note></measure>
<measure number="1"><harmony><root><root-step>F</root-step></root><kind>major</kind></harmony>
<note><grace/><pitch><step>G</step><octave>5</octave></pitch><type>eighth</type></note>
<note><pitch><step>F</step><octave>5</octave></pitch><duration>2</duration></note>
<note><pitch><step>G</step><octave>5</octave></pitch><duration>2</duration></note>
<note><pitch><step>A</step><octave>5</octave></pitch><duration>2</duration></note>
<harmony><root><root-step>G</root-step></root><kind>minor-seventh</kind><bass><bass-step>B</bass-step>
<bass-alter>-1</bass-alter></bass></harmony>
<note><pitch><step>B</step><alter>-1</alter><octave>5</octave></pitch><duration>12</duration><tie type="start"/></note>
</measure>
<measure number="2"><harmony><root><root-step>C</root-step></root><kind>dominant</kind></harmony>
<note><pitch><step>B</step><alter>-1</alter><octave>5</octave></pitch><duration>6</duration><tie type="stop"/></note>
<note><pitch><step>C</step><octave>5</octave></pitch><duration>12</duration></note></measure>
<measure number="3"><attributes><time><beats>2</beats><beat-type>4</beat-type></time></attributes>
<harmony><root><root-step>F</root-step></root><kind>major</kind></harmony>
<note><pitch><step>F</step><octave>5</octave></pitch><duration>6</duration></note>
<note><chord/><pitch><step>A</step><octave>4</octave></pitch><duration>6</duration></note>
<note><pitch><step>F</step><octave>5</octave></pitch><duration>6</duration></note></measure>
</part></score-partwise>
"""

KERN = """**kern
*clefG2
*k[]
*M3/4
4c
=1
4e
4.g
8a
=2
2.cc
=3
2.g
*-
"""

ABC = """X:1
T:Repeats, endings and a triplet
M:4/4
L:1/8
Q:1/4=90
K:G
D2|:"G"GABc d4|"D7"(3fed "G"g2 z4|1 "C"e8:|2 "C"=f8|]

X:2
T:Broken rhythm, ties, chords and an odd symbol
M:6/8
K:Ador
"Am"A>B c2- c2|"X7"[Ace]3 ^g'3|"G/b"G,6|

X:3
T:Nothing
K:C
"""
