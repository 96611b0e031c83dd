"""Standard MIDI files to pieces on the grid. Runs in the sandbox: files are untrusted input."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Any

import numpy as np

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.beats import follow_beats, on_beats
from components.datasets.music.formats.grid import (
    LONGEST_STEPS,
    ONLY_DRUMS,
    Piece,
    Track,
    bar_steps,
    clean,
    decoded,
    follows_beat,
    key_name,
    settle_tracks,
    triplets_moved,
    usable_metre,
)
from components.datasets.music.formats.midi_file import IN_SECONDS, TICKS, MidiFile, MidiTrack, kept, parse_midi
from components.harmony import Key

KIT = (27, 87)  # pitches of General MIDI 2's drum kits
MOST_NOTES = 200_000
MOST_TRACKS = 256
MOST_CHANGES = 4096  # of tempo or metre
OFF_THE_BEAT = "off the beat: its notes don't follow the file's beats, so positions in the bar are unreliable"
FOLLOWED = "off the beat: its beats were estimated from the notes; where bars begin is unknown"
# sequencers' names for drum tracks on any channel; steel drums are pitched
DRUMS = re.compile(
    r"(?i)(?<!steel )(?<!tongue )\bdrum(s|set|mer)?\b(?!.{0,3}(n|bass))|schlagzeug|\bbatterie\b|\bbater[ií]a\b|ドラム"
)
SLOWEST, FASTEST = 5.0, 1000.0  # plausible tempi in quarter notes a minute


def read_midi(data: bytes, name: str, options: dict[str, Any]) -> list[Piece]:
    """The pieces in a MIDI file: one, but for type 2 each track is a separate song. The drum channel and whole silent
    bars before the first note are left out.

    Options: `steps_per_beat`, `max_seconds`, `beats` ("follow": if a piece was played without a click, its beats are
    tracked from its notes; "file": always use the file's beats).

    Raises:
        Refused: the file contains no music; the reason is shown to the user.
    """
    file, stem = parse_midi(data), clean(PurePath(name).stem)
    if file.kind < 2 or len(file.tracks) < 2:
        return [_piece(file, file.tracks, stem, options)]
    pieces = []
    for number, track in enumerate(file.tracks, start=1):
        title = clean(decoded(track.name)) or f"{stem} {number}"
        try:
            pieces.append(_piece(file, [track], title, options))
        except Refused as refused:  # the other songs are still read
            pieces.append(Piece("MIDI", title, [], options["steps_per_beat"], refused=str(refused)))
    return pieces


def _piece(file: MidiFile, given: Sequence[MidiTrack], title: str, options: dict[str, Any]) -> Piece:
    spb = options["steps_per_beat"]
    left_out: Counter[str] = Counter()
    remarks: list[str] = []
    if file.named > len(file.tracks):
        remarks.append(f"{file.named - len(file.tracks)} of {file.named} tracks aren't in the file")
    tempo_at, tempo_qpm = tempi_of(given, remarks)
    tpq, scale = int(file.division), 1.0
    if file.seconds:
        tempo_at, tempo_qpm = tempo_at[:1], tempo_qpm[:1]
        tpq, scale = TICKS, TICKS * tempo_qpm[0] / 60.0 / file.division
        remarks.append(f"{IN_SECONDS}: a tempo of {tempo_qpm[0]:g} quarter notes per minute is assumed")
    channels = [(track, channel) for track in given for channel in track.notes]
    if len(channels) > MOST_TRACKS:
        remarks.append(f"only the first {MOST_TRACKS} of {len(channels)} tracks are read")
    numbers = [number for number, (track, channel) in enumerate(channels[:MOST_TRACKS]) if track.notes[channel]]
    drums = sum(len(notes) for track in given for notes in track.drums.values())
    by_name = [number for number in numbers if called_drums(*channels[number])]
    if by_name and len(by_name) < len(numbers):
        numbers = [number for number in numbers if number not in by_name]
        names = ", ".join(dict.fromkeys(repr(clean(decoded(channels[number][0].name))) for number in by_name))
        remarks.append(f"percussion by the track's name: {names}")
        drums += sum(len(channels[number][0].notes[channels[number][1]]) for number in by_name)
    if drums:
        left_out["drum"] = drums
    left_out += kept(given)
    played = [channels[number] for number in numbers]
    sizes = [len(track.notes[channel]) for track, channel in played]
    if not sizes:
        raise Refused(ONLY_DRUMS if drums else "has no notes")
    if sum(sizes) > MOST_NOTES:
        raise Refused(f"has {sum(sizes):,} notes, more than {MOST_NOTES:,}")
    time, end, pitch, velocity = np.array([note for track, channel in played for note in track.notes[channel]]).T
    which = np.repeat(np.arange(len(sizes)), sizes)
    time, end = (np.rint(edge * scale).astype(np.int64) for edge in (time, end))
    first, last = int(time.min()), int(end.max())
    metres, upbeat_ticks = metres_of(given, spb, tpq, first, remarks)
    skip = silence_of(metres, upbeat_ticks, first, tpq, spb)
    if skip:
        bars = round(skip * spb / tpq / bar_steps(metres[0][1], spb))
        remarks.append(f"{bars} silent bars before the first note")
    seconds = seconds_of(tempo_at, tempo_qpm, tpq, first, last)
    if seconds > options["max_seconds"]:
        raise Refused(f"lasts {seconds:,.0f} s, longer than max_seconds={options['max_seconds']:g}")
    if last * spb // tpq > LONGEST_STEPS:
        raise Refused(f"lasts {last // tpq:,} beats, more than {LONGEST_STEPS // spb:,}")
    beat, stop = (time - skip) / tpq, (end - skip) / tpq
    followed = False
    if not follows_beat(beat):
        followed = options["beats"] == "follow"
        remarks.append(FOLLOWED if followed else OFF_THE_BEAT)
    if followed:
        beats = follow_beats(np.sort(beat))
        beat, stop = on_beats(beat, beats), on_beats(stop, beats)
        whole = np.floor(beat.min())
        beat, stop = beat - whole, stop - whole
    elif moved := triplets_moved(beat, spb):
        left_out[f"triplet note moved to a grid of {spb} steps in a beat (kept)"] += moved
    off = np.abs(beat * spb - np.rint(beat * spb)) / spb * 60_000.0  # milliseconds at one beat a minute
    error = off / (tempo_qpm[np.searchsorted(tempo_at, time, side="right") - 1] if len(tempo_at) > 1 else tempo_qpm[0])
    settled = settle_tracks(beat * spb, stop * spb, pitch, velocity, which, len(sizes), left_out)
    tracks = []
    for number, (track, channel), notes in zip(numbers, played, settled, strict=True):
        program = track.programs[channel].most_common(1)[0][0]
        tracks.append(Track(number, clean(decoded(track.name)), notes, program, track.lyrics > 0))
    for track in given:  # a karaoke file has its words in a separate track
        if track.lyrics and not track.notes:
            for other in tracks:
                other.lyrics |= other.name != "" and other.name == clean(decoded(track.name))
    later = () if followed else metres[1:]
    changes = [(round((tick - skip) * spb / tpq), metre) for tick, metre in later if tick > skip]
    piece_key = key_of(given, first, tracks)
    opening = int(np.searchsorted(tempo_at, first, side="right") - 1)
    return Piece(
        format="MIDI",
        title=title,
        tracks=tracks,
        steps_per_beat=spb,
        metre=metres[0][1],
        metre_changes=changes,
        upbeat_steps=round(upbeat_ticks * spb / tpq),
        tempo_bpm=float(tempo_qpm[opening]),
        tempo_changes=int((np.diff(tempo_qpm[opening:]) != 0).sum()),
        seconds=seconds,
        key=piece_key,
        left_out=left_out,
        remarks=remarks,
        timing_error_ms=float(error.mean()),
    )


def called_drums(track: MidiTrack, channel: int) -> bool:
    """Whether a track is named as drums and has only pitches of a kit (General MIDI 2: 27 to 87)."""
    if not DRUMS.search(decoded(track.name)):
        return False
    return all(KIT[0] <= pitch <= KIT[1] for _, _, pitch, _ in track.notes[channel])


def key_of(tracks: Sequence[MidiTrack], first_note: int, parts: list[Track]) -> str:
    """The key of the key signature in effect at the first note; "" if there is none, or only C major, which programs
    write where no key was chosen. Whether a signature is major or minor is decided by the notes, as many programs
    write major always; minor counts."""
    before = [key for track in tracks for key in track.keys if key[0] <= first_note]
    last = max((tick for tick, *_ in before), default=0)
    there = [(sharps, minor) for tick, sharps, minor in before if tick == last and (sharps or minor)]
    sharps, minor = there[0] if there else (0, False)
    if minor:
        return str(Key((7 * sharps + 9) % 12, "minor"))
    return key_name(parts, sharps) if sharps else ""


def tempi_of(tracks: Sequence[MidiTrack], remarks: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ticks [N] (the first is 0) at which the tempi [N] begin, in quarter notes a minute; 120 if the file has none."""
    tempi = {0: 120.0}
    found = sorted(tempo for track in tracks for tempo in track.tempi)[:MOST_CHANGES]
    for tick, qpm in found:
        if SLOWEST <= qpm <= FASTEST:
            tempi[tick] = qpm
        else:
            remarks.append("an impossible tempo is ignored")
    if not found:
        remarks.append("no tempo in the file: 120 is assumed")
    ticks = sorted(tempi)
    return np.array(ticks, dtype=np.int64), np.array([tempi[tick] for tick in ticks])


def seconds_of(tempo_at: np.ndarray, qpm: np.ndarray, tpq: int, first: int, last: int) -> float:
    """Playing time from tick `first` to tick `last`."""
    edges = np.clip(np.append(tempo_at, max(last, int(tempo_at[-1]))), first, last)
    return float((np.diff(edges) / tpq * 60.0 / qpm).sum())


def metres_of(
    tracks: Sequence[MidiTrack], spb: int, tpq: int, first_note: int, remarks: list[str]
) -> tuple[list[tuple[int, tuple[int, int]]], int]:
    """((tick, metre) of each change, the first at 0 or before the music; length of the upbeat in ticks)

    Notation programs write an upbeat as one bar of a shorter metre.
    """
    found: dict[int, tuple[int, int]] = {}
    for tick, *metre in sorted(change for track in tracks for change in track.metres)[:MOST_CHANGES]:
        if not usable_metre(*metre, spb):
            remarks.append(f"the metre {metre[0]}/{metre[1]} is ignored: its bar isn't a whole number of steps")
        else:
            found[tick] = (metre[0], metre[1])
    metres = [next(same) for _, same in groupby(sorted(found.items()), key=lambda change: change[1])]
    if not metres or metres[0][0] > first_note:
        metres.insert(0, (0, (4, 4)))
        remarks.append("no metre in the file: 4/4 is assumed")
    if len(metres) > 1 and metres[0][0] == 0:
        (_, opening), (second, metre) = metres[:2]
        ticks = bar_steps(opening, spb) * tpq / spb
        if second == ticks and ticks < bar_steps(metre, spb) * tpq / spb and first_note < second:
            return [(0, metre), *metres[2:]], second
    return metres, 0


def silence_of(metres: list[tuple[int, tuple[int, int]]], upbeat: int, first: int, tpq: int, spb: int) -> int:
    """Ticks of whole silent bars before the first note, while the first metre is in effect."""
    bar = bar_steps(metres[0][1], spb) * tpq / spb  # a bar of 7/8 has 17.5 ticks, if a quarter note has 5
    bars = int(first // bar) if not upbeat else 0
    silence = round(bars * bar)
    return silence if len(metres) == 1 or metres[1][0] >= silence else 0
