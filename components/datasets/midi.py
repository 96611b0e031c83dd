"""Standard MIDI files by symusic, onto the grid. Runs in the sandbox: the bytes are a stranger's."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import Any

import numpy as np
import symusic

from components.datasets.beats import follow_beats, on_beats
from components.datasets.grid import (
    LONGEST_STEPS,
    Piece,
    Track,
    bar_steps,
    clean,
    follows_beat,
    settle_tracks,
    usable_metre,
)
from components.datasets.sandbox import Refused

MOST_NOTES = 200_000
MOST_TRACKS = 256
MOST_CHANGES = 4096  # of tempo or metre
OFF_THE_BEAT = "off the beat: its notes fall anywhere between the beats, so places in the bar mean little"
FOLLOWED = "off the beat: its beats were followed from note to note; where bars begin isn't known"
SLOWEST, FASTEST = 5.0, 1000.0  # quarter notes a minute that a tempo is believed at


def read_midi(data: bytes, name: str, options: dict[str, Any]) -> Piece:
    """The piece in a MIDI file. The drum channel is left out; whole silent bars before the first note too.

    Options: `steps_per_beat`, `max_seconds`, `beats` ("follow": of a piece that was played without a click, the beats
    are sought in its notes; "file": they are the file's whatever was played).

    Raises:
        Refused: the file gives no music; the reason is for a person.
    """
    at = data.find(b"MThd", 0, 64)  # a RIFF envelope (.rmi) may come before it
    if at < 0:
        raise Refused(f"isn't a MIDI file: it begins with {bytes(data[:4])!r}, not with b'MThd'")
    try:
        score = symusic.Score.from_midi(data[at:])
    except RuntimeError as error:
        raise Refused(
            f"damaged MIDI: {clean(str(error).removeprefix('MiniMidi: ').removesuffix(': iostream error'), 120)}"
        ) from error
    if score.tpq <= 0:
        raise Refused("damaged MIDI: 0 ticks in a beat")
    if score.note_num() > MOST_NOTES:
        raise Refused(f"has {score.note_num():,} notes, more than {MOST_NOTES:,}")
    spb = options["steps_per_beat"]
    left_out: Counter[str] = Counter()
    remarks: list[str] = []
    tempo_at, tempo_qpm = _tempi(score, remarks)
    numbers, arrays = [], []
    for number, track in enumerate(score.tracks[:MOST_TRACKS]):
        if track.is_drum:
            left_out["drum"] += len(track.notes)
        elif len(track.notes):
            numbers.append(number)
            arrays.append(track.notes.numpy())
    if len(score.tracks) > MOST_TRACKS:
        remarks.append(f"only the first {MOST_TRACKS} of {len(score.tracks)} tracks are read")
    time, duration, pitch, velocity, which = _joined(arrays, left_out)
    if not len(time):
        raise Refused("has only drums" if left_out["drum"] else "has no notes")
    first, last = int(time.min()), int((time + duration).max())
    metres, upbeat_ticks = _metres(score, spb, first, remarks)
    skip = _silence(metres, upbeat_ticks, first, score.tpq, spb)
    if skip:
        remarks.append(f"{skip * spb // score.tpq // bar_steps(metres[0][1], spb)} silent bars before the first note")
    seconds = _seconds(tempo_at, tempo_qpm, score.tpq, first, last)
    if seconds > options["max_seconds"]:
        raise Refused(f"lasts {seconds:,.0f} s, longer than max_seconds={options['max_seconds']:g}")
    if last * spb // score.tpq > LONGEST_STEPS:
        raise Refused(f"lasts {last // score.tpq:,} beats, more than {LONGEST_STEPS // spb:,}")
    beat, stop = (time - skip) / score.tpq, (time - skip + duration) / score.tpq
    followed = False
    if not follows_beat(beat):
        followed = options["beats"] == "follow"
        remarks.append(FOLLOWED if followed else OFF_THE_BEAT)
    if followed:
        beats = follow_beats(np.sort(beat))
        beat, stop = on_beats(beat, beats), on_beats(stop, beats)
        whole = np.floor(beat.min())
        beat, stop = beat - whole, stop - whole
    off = np.abs(beat * spb - np.rint(beat * spb)) / spb * 60_000.0  # milliseconds at one beat a minute
    error = off / (tempo_qpm[np.searchsorted(tempo_at, time, side="right") - 1] if len(tempo_at) > 1 else tempo_qpm[0])
    settled = settle_tracks(beat * spb, stop * spb, pitch, velocity, which, len(numbers), left_out)
    tracks = []
    for number, notes in zip(numbers, settled, strict=True):
        track = score.tracks[number]
        if len(notes):
            tracks.append(Track(number, clean(track.name), notes, int(track.program), len(track.lyrics) > 0))
    for track in score.tracks[:MOST_TRACKS]:  # a karaoke file keeps its words in a track of its own
        if len(track.lyrics) and not len(track.notes):
            for other in tracks:
                other.lyrics |= other.name != "" and other.name == clean(track.name)
    changes = [] if followed else metres[1:]
    changes = [(round((tick - skip) * spb / score.tpq), metre) for tick, metre in changes if tick > skip]
    opening = int(np.searchsorted(tempo_at, first, side="right") - 1)
    return Piece(
        format="MIDI",
        title=clean(PurePath(name).stem),
        tracks=tracks,
        steps_per_beat=spb,
        metre=metres[0][1],
        metre_changes=changes,
        upbeat_steps=round(upbeat_ticks * spb / score.tpq),
        tempo_bpm=float(tempo_qpm[opening]),
        tempo_changes=int((np.diff(tempo_qpm[opening:]) != 0).sum()),
        seconds=seconds,
        left_out=left_out,
        remarks=remarks,
        timing_error_ms=float(error.mean()),
    )


def _joined(arrays: list[dict[str, np.ndarray]], left_out: Counter[str]) -> list[np.ndarray]:
    """Time, duration, pitch, velocity and track (from 0) of all notes that can be true (a damaged file's may not be).

    Of all tracks at once: on small arrays NumPy's calls cost more than its arithmetic.
    """
    which = np.repeat(np.arange(len(arrays)), [len(notes["time"]) for notes in arrays])
    names = ("time", "duration", "pitch", "velocity")
    columns = [np.concatenate([notes[name] for notes in arrays]).astype(np.int64) for name in names] if arrays else []
    columns = [*(columns or [which] * 4), which]
    good = (columns[0] >= 0) & (columns[1] >= 0) & (columns[2] >= 0) & (columns[3] > 0)
    if not good.all():
        left_out["note with an impossible pitch, time or velocity"] += int((~good).sum())
        columns = [column[good] for column in columns]
    return columns


def _tempi(score: Any, remarks: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ticks [N] (the first is 0) from which the tempi [N], quarter notes a minute, hold; 120 where none is said."""
    tempi = {0: 120.0}
    for tempo in score.tempos[:MOST_CHANGES]:
        if SLOWEST <= tempo.qpm <= FASTEST and tempo.time >= 0:
            tempi[int(tempo.time)] = float(tempo.qpm)
        else:
            remarks.append("a tempo that can't be true is ignored")
    if not score.tempos:
        remarks.append("no tempo in the file: 120")
    ticks = sorted(tempi)
    return np.array(ticks, dtype=np.int64), np.array([tempi[tick] for tick in ticks])


def _seconds(tempo_at: np.ndarray, qpm: np.ndarray, tpq: int, first: int, last: int) -> float:
    """Playing time from tick `first` to tick `last`."""
    edges = np.clip(np.append(tempo_at, max(last, int(tempo_at[-1]))), first, last)
    return float((np.diff(edges) / tpq * 60.0 / qpm).sum())


def _metres(score: Any, spb: int, first_note: int, remarks: list[str]) -> tuple[list[tuple[int, tuple[int, int]]], int]:
    """((tick, metre) of each change, the first at 0 or before the music; length of the upbeat in ticks)

    Notation programs write an upbeat as one bar of a shorter metre of its own.
    """
    found: dict[int, tuple[int, int]] = {}
    for change in score.time_signatures[:MOST_CHANGES]:
        metre = (int(change.numerator), int(change.denominator))
        if change.time < 0 or not usable_metre(*metre, spb):
            remarks.append(f"the metre {metre[0]}/{metre[1]} is ignored: its bar isn't a whole number of steps")
        else:
            found[int(change.time)] = metre
    metres: list[tuple[int, tuple[int, int]]] = []
    for tick in sorted(found):
        if not metres or metres[-1][1] != found[tick]:
            metres.append((tick, found[tick]))
    if not metres or metres[0][0] > first_note:
        metres.insert(0, (0, (4, 4)))
        remarks.append("no metre in the file: 4/4")
    if len(metres) > 1 and metres[0][0] == 0:
        (_, opening), (second, metre) = metres[:2]
        ticks = bar_steps(opening, spb) * score.tpq / spb
        if second == ticks and ticks < bar_steps(metre, spb) * score.tpq / spb and first_note < second:
            return [(0, metre), *metres[2:]], second
    return metres, 0


def _silence(metres: list[tuple[int, tuple[int, int]]], upbeat: int, first: int, tpq: int, spb: int) -> int:
    """Ticks of whole bars of silence before the first note, as long as the first metre holds."""
    bar = bar_steps(metres[0][1], spb) * tpq // spb
    bars = first // bar if bar and not upbeat else 0
    return bars * bar if len(metres) == 1 or metres[1][0] >= bars * bar else 0
