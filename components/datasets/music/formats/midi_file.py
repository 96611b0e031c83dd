"""Parser of standard MIDI files: notes, tempi, metres and names of each track, tolerant of damage.

A parser of this project, because libraries lose music: notes without an end, notes after a program change, the songs of
a file of type 2, a whole file because of one byte out of range, names in old encodings. The MIDI Manufacturers
Association, Standard MIDI Files 1.0 (RP-001). Times are ticks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.midi_channels import WATCHED, Channels
from components.drums import CHANNEL

MOST_EVENTS = 4_000_000  # of a track
MOST_TRACKS = 1024
MOST_OUT_OF_RANGE = 16  # data bytes above 127 that are tolerated; files with more are refused as damaged
TICKS = 480  # in a quarter note, for files whose ticks are parts of a second
SILENT = "note where the volume is 0, read as if it were heard (kept)"
IN_SECONDS = "its time is in seconds (SMPTE), not in beats"
BANK, MODE = 0, 1
GM2_DRUMS, GM2_MELODY = 120, 121  # bank numbers; General MIDI 2 (RP-024)
XG_DRUMS = (126, 127)  # Yamaha XG: sound effects and drum kits
NAME, LYRIC, TEMPO, METRE, KEY = 0x03, 0x05, 0x51, 0x58, 0x59  # kinds of meta events
SHARPS = frozenset((*range(8), *range(249, 256)))  # seven sharps to seven flats, −7 to 7 in a byte
BANK_SELECT, SUSTAIN = 0, 64  # controllers
Notes = list[tuple[int, int, int, int]]  # start, end, pitch, velocity


class Kit(NamedTuple):
    """An event that makes a channel a drum kit or not, from a tick on: a program change with the bank `value` (`by`
    BANK), or a rhythm message (`by` MODE, `value` above 0: drums)."""

    tick: int
    channel: int
    by: int
    value: int


@dataclass
class MidiTrack:
    """One track chunk. `name` is in bytes, as in the file."""

    name: bytes = b""
    notes: dict[int, Notes] = field(default_factory=dict)  # by channel, from 0, in the order of their first notes
    drums: dict[int, Notes] = field(default_factory=dict)  # notes of drum kits, not in `notes`
    kits: list[Kit] = field(default_factory=list)
    gs: bool = False  # Roland GS, where bank 127 has the sounds of an older synthesiser, no drums
    programs: dict[int, Counter[int]] = field(default_factory=dict)  # by channel: program → number of notes
    tempi: list[tuple[int, float]] = field(default_factory=list)  # tick, quarter notes a minute
    metres: list[tuple[int, int, int]] = field(default_factory=list)  # tick, beats, unit
    keys: list[tuple[int, int, bool]] = field(default_factory=list)  # tick, sharps (negative: flats), minor?
    pedals: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # by channel: tick, position (0 to 127)
    changes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # by channel: tick, program from there on
    lyrics: int = 0
    never_closed: int = 0  # notes
    out_of_range: int = 0  # data bytes
    moved: int = 0  # notes that begin while a bend or a tuning changes their pitch
    silent: int = 0  # notes that begin while their channel's volume is 0
    tunings: int = 0  # messages of the MIDI Tuning Standard
    other_pedals: int = 0  # presses of the sostenuto or the soft pedal


@dataclass
class MidiFile:
    """`kind`: 0 one track, 1 simultaneous tracks, 2 separate songs. `division`: ticks in a quarter note, or with
    `seconds` (SMPTE), ticks in a second."""

    kind: int
    division: float
    seconds: bool
    named: int  # number of tracks in the header
    tracks: list[MidiTrack]


def kept(tracks: Sequence[MidiTrack]) -> Counter[str]:
    """Notes that are kept, but sound different in the file, counted for the report."""
    counts = {
        "note never ended: it goes to the next of its pitch (kept)": sum(track.never_closed for track in tracks),
        "byte out of range put right (kept)": sum(track.out_of_range for track in tracks),
        "note that a pitch bend or a tuning moves, read at its written pitch (kept)": sum(t.moved for t in tracks),
        SILENT: sum(track.silent for track in tracks),
        "tuning message, not followed (kept)": sum(track.tunings for track in tracks),
    }
    return Counter({what: count for what, count in counts.items() if count})


def parse_midi(data: bytes) -> MidiFile:
    """The file in `data`, possibly in a RIFF envelope (.rmi).

    Raises:
        Refused: it is something else, or damaged.
    """
    if (begin := data.find(b"MThd", 0, 64)) < 0:
        raise Refused(f"isn't a MIDI file: it begins with {bytes(data[:4])!r}, not with b'MThd'")
    data = data[begin:]
    if len(data) < 14 or int.from_bytes(data[4:8], "big") < 6:
        raise Refused("damaged MIDI: its header ends too soon")
    kind, count, division = (int.from_bytes(data[at : at + 2], "big") for at in (8, 10, 12))
    if kind > 2:
        raise Refused(f"damaged MIDI: type {kind}, but only 0 to 2 exist")
    seconds = division >= 0x8000  # the negative number of frames in a second, then the ticks in a frame
    ticks = (256 - (division >> 8)) * (division & 0xFF) if seconds else division
    if not ticks:
        raise Refused("damaged MIDI: 0 ticks in a beat")
    tracks: list[MidiTrack] = []
    at = 8 + int.from_bytes(data[4:8], "big")
    while at + 8 <= len(data) and len(tracks) < MOST_TRACKS:
        chunk, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        at += 8
        if chunk == b"MTrk":
            if at + size > len(data):
                there = len(data) - at
                raise Refused(f"damaged MIDI: track {len(tracks) + 1} has {there:,} of its {size:,} bytes")
            tracks.append(_track(data[at : at + size], len(tracks) + 1))
        at += size
    for song in [tracks] if kind < 2 else [[track] for track in tracks]:
        _share_programs(song)
        _take_out_drums(song)
    return MidiFile(kind, ticks, seconds, count, tracks)


def _track(data: bytes, number: int) -> MidiTrack:
    track = MidiTrack()
    strings: dict[int, list[int]] = defaultdict(list)  # channel · 128 + pitch → time · 128 + velocity, 0: note off
    program = [0] * 16
    try:
        time = _events(data, track, strings, program)
    except IndexError:
        raise Refused(f"damaged MIDI: track {number} ends in the middle of an event") from None
    except ValueError as error:
        raise Refused(f"damaged MIDI: track {number} {error}") from None
    for key, string in strings.items():
        notes, open_ = _paired(string, time)
        track.never_closed += open_
        if notes:
            track.notes.setdefault(key >> 7, []).extend((start, end, key & 127, loud) for start, end, loud in notes)
    return track


def _share_programs(tracks: Sequence[MidiTrack]) -> None:
    """Combine programs across tracks: if one track has a channel's notes and another its programs, use these."""
    for track in tracks:
        for channel in [channel for channel in track.programs if channel not in track.changes]:
            changes = sorted(change for other in tracks for change in other.changes.get(channel, ()))
            if changes:
                ticks = [tick for tick, _ in changes]
                before = (bisect_right(ticks, start) - 1 for start, *_ in track.notes[channel])
                track.programs[channel] = Counter(changes[at][1] if at >= 0 else 0 for at in before)


def _take_out_drums(tracks: Sequence[MidiTrack]) -> None:
    """Move the notes of drum kits from `notes` to `drums`: those of channel 10, and of other channels that a bank or a
    manufacturer's system message makes a kit."""
    gs = any(track.gs for track in tracks)
    changes: dict[int, list[Kit]] = defaultdict(list)
    for kit in sorted((kit for track in tracks for kit in track.kits), key=lambda kit: kit.tick):
        changes[kit.channel].append(kit)
    for track in tracks:
        for channel, notes in track.notes.items():
            spans = _kits(channel, changes[channel], gs)
            ticks = [tick for tick, _ in spans]
            drums = [spans[bisect_right(ticks, note[0]) - 1][1] for note in notes]
            track.drums[channel] = [note for note, drum in zip(notes, drums, strict=True) if drum]
            track.notes[channel] = [note for note, drum in zip(notes, drums, strict=True) if not drum]


def _kits(channel: int, changes: Sequence[Kit], gs: bool) -> list[tuple[int, bool]]:
    """(tick, is it a drum kit from there on?) of a channel, the first before all notes."""
    mode, kit = None, channel == CHANNEL
    spans = [(-1, kit)]
    for change in changes:
        if change.by == MODE:
            mode = change.value > 0
        elif channel == CHANNEL:
            kit = change.value != GM2_MELODY
        else:
            kit = change.value == GM2_DRUMS or (change.value in XG_DRUMS and not gs)
        spans.append((change.tick, kit if mode is None else mode))
    return spans


def _rhythm(value: bytes, time: int, track: MidiTrack) -> None:
    """Read a system message of Roland (GS) or Yamaha (XG) that sets whether a channel is for drums."""
    if len(value) >= 8 and value[0] == 0x41 and value[2:5] == b"\x42\x12\x40":
        track.gs |= value[5:8] == b"\x00\x7f\x00"
        if value[5] & 0xF0 == 0x10 and value[6] == 0x15:
            part = value[5] & 0x0F  # 0 is channel 10, 1 to 9 are 1 to 9, and so on
            track.kits.append(Kit(time, CHANNEL if not part else part - (part <= 9), MODE, value[7]))
    elif len(value) >= 7 and value[0] == 0x43 and value[2:4] == b"\x4c\x08" and value[4] < 16 and value[5] == 7:
        track.kits.append(Kit(time, value[4], MODE, value[6]))


def _events(data: bytes, track: MidiTrack, strings: dict[int, list[int]], program: list[int]) -> int:
    """Read a track's events into `track` and `strings`; returns the last tick. The inner loop, so without function
    calls."""
    at = time = status = events = 0
    end = len(data)
    banks: dict[int, int] = {}  # by channel
    state = Channels()
    while at < end:
        events += 1
        byte = data[at]
        at += 1
        if byte < 0x80:
            time += byte
        else:
            wait, at = _number(data, at - 1)
            time += wait
        byte = data[at]
        if byte >= 0xF0:
            at = _meta(data, at, time, track)
            if at < 0:
                break
            continue
        if byte >= 0x80:
            status = byte
            at += 1
        elif not status:
            raise ValueError(f"has the byte {byte} where an event should begin")
        kind = status & 0xF0
        first = data[at]
        at += 1
        if kind in (0x80, 0x90):
            loud = data[at]
            at += 1
            if first > 0x7F or loud > 0x7F:
                track.out_of_range += 1
                loud = min(loud, 0x7F)
                if first > 0x7F:
                    continue
            if kind == 0x80:
                loud = 0
            channel = status & 0x0F
            strings[channel << 7 | first].append(time << 7 | loud)
            if loud:
                track.programs.setdefault(channel, Counter())[program[channel]] += 1
                track.moved += channel in state.bent or channel in state.tuned
                track.silent += channel in state.silent
            continue
        if kind == 0xC0:
            program[status & 0x0F] = first & 0x7F
            track.changes.setdefault(status & 0x0F, []).append((time, first & 0x7F))
            if (status & 0x0F) in banks:
                track.kits.append(Kit(time, status & 0x0F, BANK, banks[status & 0x0F]))
        elif kind != 0xD0:
            track.out_of_range += data[at] > 0x7F
            if kind == 0xB0:
                if first == BANK_SELECT:
                    banks[status & 0x0F] = data[at]
                elif first == SUSTAIN:
                    track.pedals.setdefault(status & 0x0F, []).append((time, data[at]))
                elif first in WATCHED:
                    track.other_pedals += state.control(status & 0x0F, first, data[at])
            elif kind == 0xE0:
                state.bend(status & 0x0F, (data[at] << 7 | first) - 8192)
            at += 1
        track.out_of_range += first > 0x7F
        if track.out_of_range > MOST_OUT_OF_RANGE or events > MOST_EVENTS:
            raise ValueError("has bytes out of range, or too many events")
    if track.out_of_range > MOST_OUT_OF_RANGE:
        raise ValueError(f"has {track.out_of_range} bytes out of range")
    return time


def _meta(data: bytes, at: int, time: int, track: MidiTrack) -> int:
    """Read the meta event or the system message at `at`. Returns the position of the next event, −1 after the last."""
    message = data[at]
    kind = data[at + 1] if message == 0xFF else -1
    if data[at] not in (0xF0, 0xF7, 0xFF):
        raise ValueError(f"has the byte {data[at]}, which isn't allowed in files")
    size, at = _number(data, at + (2 if kind >= 0 else 1))
    value = data[at : at + size]
    if len(value) < size:
        raise IndexError
    if message == 0xF0:
        _rhythm(value, time, track)
        track.tunings += len(value) > 3 and value[0] in (0x7E, 0x7F) and value[2] == 8
    elif kind == NAME and not track.name:
        track.name = value
    elif kind == LYRIC:
        track.lyrics += 1
    elif kind == TEMPO and size == 3 and any(value):
        track.tempi.append((time, 6e7 / int.from_bytes(value, "big")))
    elif kind == METRE and size >= 2:
        track.metres.append((time, value[0], 1 << min(value[1], 16)))
    elif kind == KEY and size == 2 and value[0] in SHARPS and value[1] < 2:
        track.keys.append((time, (value[0] + 7) % 256 - 7, value[1] == 1))
    return -1 if kind == 0x2F else at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and the position after it."""
    number = 0
    for place in range(at, at + 4):
        number = number << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return number, place + 1
    raise ValueError("has a number of more than four bytes")


def _paired(string: list[int], last: int) -> tuple[list[tuple[int, int, int]], int]:
    """(start, end, velocity) of the notes of one pitch, and the number of notes without a note off.

    A note off ends the oldest sounding note. If it is missing, a note ends when its pitch begins again or is ended, or
    with the track.
    """
    sounding: deque[int] = deque()
    notes: list[tuple[int, int, int]] = []
    for event in string:
        if event & 127:
            sounding.append(event)
        elif sounding:
            begun = sounding.popleft()
            notes.append((begun >> 7, event >> 7, begun & 127))
    if not sounding:
        return notes, 0
    ends = [event >> 7 for event in string[1:]] + [last]
    notes = [(event >> 7, end, event & 127) for event, end in zip(string, ends, strict=True) if event & 127]
    return notes, len(sounding)
