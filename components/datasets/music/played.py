"""Drum and piano performances from a MIDI file, read in a subprocess: times as played, notes aren't moved to a grid.

A long file gives several pieces. Runs in the sandbox: files are untrusted input.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.grid import bar_steps, clean, settle
from components.datasets.music.formats.midi import MOST_NOTES, called_drums, metres_of, seconds_of, silence_of, tempi_of
from components.datasets.music.formats.midi_file import IN_SECONDS, TICKS, MidiFile, kept, parse_midi
from components.datasets.music.formats.pieces import packed_notes
from components.drums import PIECE_OF

FINE = 96  # steps in a quarter note of drums
PER_SECOND = 1000  # steps of a performance
SIXTEENTH = FINE // 4
PIANOS = range(8)  # General MIDI's programs
DOWN = 64  # pedal values from here on are down
LONGEST_HOURS = 4
METRE_CHANGES = "its metre changes: bars are counted in the first one"
Piece = tuple[dict[str, Any], dict[str, Any] | None]  # row of the report; packed score, None: skipped


def read_drums(data: bytes, name: str, options: dict[str, Any]) -> list[Piece]:
    """The drums of a file, `bars` bars a piece (0: all of them); silent bars before the first hit are left out.

    Raises:
        Refused: it has no drums, or can't be read.
    """
    return _of_songs(_drums, data, name, options)


def _drums(file: MidiFile, name: str, options: dict[str, Any]) -> list[Piece]:
    left_out, remarks = kept([track for track in file.tracks if any(track.drums.values())]), list[str]()
    hits = [hit for track in file.tracks for of_channel in track.drums.values() for hit in of_channel]
    channels = [(track, channel) for track in file.tracks for channel, notes in track.notes.items() if notes]
    by_name = [hit for track, channel in channels if called_drums(track, channel) for hit in track.notes[channel]]
    others = sum(len(track.notes[channel]) for track, channel in channels) - len(by_name)
    hits += by_name
    if not hits:
        raise Refused("has no drums: its notes are of other instruments" if others else "has no notes")
    for key, count in Counter(pitch for _, _, pitch, _ in hits if pitch not in PIECE_OF).items():
        left_out[f"hit of key {key}, no piece of the kit"] += count
    if others:
        left_out["note of another instrument"] += others
    hits = [hit for hit in hits if hit[2] in PIECE_OF]
    if not hits:
        raise Refused("has only percussion that is no piece of the kit")
    _check(len(hits))
    time, _, pitch, velocity = np.array(sorted(hits)).T
    tempo_at, tempo_qpm = tempi_of(file.tracks, remarks)
    tpq = int(file.division)
    if file.seconds:
        tempo_at, tempo_qpm, tpq = tempo_at[:1], tempo_qpm[:1], TICKS
        time = np.rint(time * (TICKS * tempo_qpm[0] / 60.0 / file.division)).astype(np.int64)
        remarks.append(f"{IN_SECONDS}: a beat is taken to last as long as at {tempo_qpm[0]:g} quarters a minute")
    metres, upbeat = metres_of(file.tracks, FINE, tpq, int(time[0]), remarks)
    if len(metres) > 1:
        remarks.append(METRE_CHANGES)
    skip = silence_of([metres[0]], upbeat, int(time[0]) + tpq // 8, tpq, FINE)  # a hit just before a bar is its own
    start = (time - skip) * FINE / tpq
    bar, lead = bar_steps(metres[0][1], FINE), round(upbeat * FINE / tpq)
    if skip:
        remarks.append(f"{round(skip * FINE / tpq / bar)} silent bars before the first hit")
    if seconds_of(tempo_at, tempo_qpm, tpq, int(time[0]), int(time[-1])) > LONGEST_HOURS * 3600:
        raise Refused(f"lasts more than {LONGEST_HOURS} hours")
    remarks += _flat(velocity)
    opening = int(np.searchsorted(tempo_at, time[0], side="right") - 1)
    common = {
        "steps_per_beat": FINE, "metre": metres[0][1], "tempo_bpm": float(tempo_qpm[max(0, opening)]),
        "timing": "played", "key": "", "chords": [], "metre_changes": [],
    }  # fmt: skip
    shift = bar - lead if lead else 0
    number = (np.rint(start / SIXTEENTH).astype(np.int64) * SIXTEENTH + shift) // bar  # the bar that a hit belongs to
    every = options["bars"] or int(number.max()) + 1
    rows: list[Piece] = []
    for first in range(0, int(number.max()) + 1, every):
        here = (number >= first) & (number < first + every)
        begin = first * bar - shift if first else 0
        early = int((start[here] < begin).sum())
        if early:
            left_out["hit a little before its first bar moved to it (kept)"] += early
        at = np.maximum(start[here] - begin, 0.0)
        notes = settle(at, at + SIXTEENTH / 2, pitch[here], velocity[here], left_out)
        bars = min(every, int(number[here].max(initial=first)) - first + 1)
        length = bars * bar - (shift if not first else 0)
        title = f"{name}, bars {first + 1} to {first + bars}" if every <= int(number.max()) else name
        score = common | {"title": title, "upbeat_steps": lead if not first else 0, "length_steps": length}
        seconds = length / FINE * 60 / common["tempo_bpm"]
        parts = [{"name": "Drums", "program": 0, "role": "drums", "notes": packed_notes(notes)}]
        rows.append(_row(score, parts, notes, seconds, left_out, remarks, options))
        left_out = Counter()
    return rows


def read_piano(data: bytes, name: str, options: dict[str, Any]) -> list[Piece]:
    """The piano of a file in seconds, with its pedal, cut before a note into pieces of about `seconds` (0: one piece);
    silence before the first note is left out.

    Raises:
        Refused: it has no piano, or can't be read.
    """
    return _of_songs(_piano, data, name, options)


def _piano(file: MidiFile, name: str, options: dict[str, Any]) -> list[Piece]:
    left_out, remarks = Counter[str](), list[str]()
    channels = [(track, channel) for track in file.tracks for channel, notes in track.notes.items() if notes]
    drums = sum(len(hits) for track in file.tracks for hits in track.drums.values())
    if not channels:
        raise Refused("has only drums" if drums else "has no notes")
    played = [(t, c) for t, c in channels if t.programs[c].most_common(1)[0][0] in PIANOS]
    if not played:
        raise Refused("has no piano: its notes are of other instruments")
    others = sum(len(track.notes[channel]) for track, channel in channels) - sum(len(t.notes[c]) for t, c in played)
    left_out += kept(list({id(track): track for track, _ in played}.values()))
    on_piano = {channel for _, channel in played}  # channels are shared by all tracks
    switched = sum(count for t, c in played for program, count in t.programs[c].items() if program not in PIANOS)
    for what, count in (
        ("drum", drums),
        ("note of another instrument", others),
        ("note of another instrument in a piano's channel (kept)", switched),
        ("time that the sostenuto or the soft pedal goes down, left out (kept)",
         sum(track.other_pedals for track in file.tracks)),
    ):  # fmt: skip
        if count:
            left_out[what] += count
    rows = sorted(note for track, channel in played for note in track.notes[channel])
    _check(len(rows))
    clock = _Clock(file, remarks)
    time, end, pitch, velocity = np.array(rows).T
    start, stop = clock(time), clock(end)
    moves = [move for track in file.tracks for channel in on_piano for move in track.pedals.get(channel, ())]
    spans = _pedal(moves, int(end.max()))
    pedal = clock(spans.ravel()).reshape(-1, 2)
    if float(stop.max()) - float(start[0]) > LONGEST_HOURS * 3600:
        raise Refused(f"lasts more than {LONGEST_HOURS} hours")
    remarks += _flat(velocity)
    if not len(spans):
        remarks.append("no sustain pedal")
    found: list[Piece] = []
    cuts = _cuts(start, options["seconds"])
    for number, (first, last) in enumerate(zip(cuts, [*cuts[1:], len(start)], strict=True), 1):
        begin = start[first]
        upto = start[last] if last < len(start) else np.inf
        here = slice(first, last)
        on, off = (start[here] - begin) * PER_SECOND, (np.minimum(stop[here], upto) - begin) * PER_SECOND
        notes = settle(on, off, pitch[here], velocity[here], left_out)
        limit = max(float((notes[:, 0] + notes[:, 1]).max()), 1.0)
        held = pedal[(pedal[:, 1] > begin) & (pedal[:, 0] < upto)]
        held = np.rint((np.clip(held, begin, upto) - begin) * PER_SECOND).astype(np.int64)
        held = held[held[:, 0] < held[:, 1]]
        length = int(max(limit, held.max(initial=0) if last == len(start) else limit))
        parts = [{"name": "Piano", "program": 0, "role": "", "notes": packed_notes(notes),
                  "pedal": np.minimum(held, length)[held[:, 0] < length].tolist()}]  # fmt: skip
        score = {
            "steps_per_beat": PER_SECOND, "metre": (1, 4), "tempo_bpm": 60.0, "timing": "seconds", "key": "",
            "chords": [], "metre_changes": [], "upbeat_steps": 0, "length_steps": length,
            "title": f"{name}, part {number}" if len(cuts) > 1 else name,
        }  # fmt: skip
        found.append(_row(score, parts, notes, length / PER_SECOND, left_out, remarks, options))
        left_out = Counter()
    return found


class _Clock:
    """Converts ticks to seconds."""

    def __init__(self, file: MidiFile, remarks: list[str]) -> None:
        at, qpm = tempi_of(file.tracks, [] if file.seconds else remarks)
        self.at = at
        if not file.seconds:
            self.rate = 60.0 / qpm / file.division
            self.sum = np.concatenate([[0.0], np.cumsum(np.diff(at) * self.rate[:-1])])
        else:
            self.at, self.rate, self.sum = np.zeros(1), np.array([1.0 / file.division]), np.zeros(1)

    def __call__(self, ticks: np.ndarray) -> np.ndarray:
        index = np.searchsorted(self.at, ticks, side="right") - 1
        return np.asarray(self.sum[index] + (ticks - self.at[index]) * self.rate[index])


def _of_songs(read: Callable[..., list[Piece]], data: bytes, name: str, options: dict[str, Any]) -> list[Piece]:
    """The pieces of a file; for type 2, where each track is a separate song, those of every song."""
    file, stem = parse_midi(data), clean(PurePath(name).stem)
    if file.kind < 2 or len(file.tracks) < 2:
        return read(file, stem, options)
    rows: list[Piece] = []
    for number, track in enumerate(file.tracks, 1):
        title = f"{stem}, song {number}"
        try:
            rows += read(replace(file, tracks=[track]), title, options)
        except Refused as refused:  # the other songs are still read
            rows.append(({"title": title, "format": "MIDI", "reason": str(refused)}, None))
    return rows


def _check(notes: int) -> None:
    if notes > MOST_NOTES:
        raise Refused(f"has {notes:,} notes, more than {MOST_NOTES:,}")


def _flat(velocity: np.ndarray) -> list[str]:
    """A remark if all notes have the same velocity."""
    return [f"all its velocities are {velocity[0]}"] if len(velocity) > 1 and (velocity == velocity[0]).all() else []


def _pedal(moves: list[tuple[int, int]], end: int) -> np.ndarray:
    """First and last tick of each pedal press, int64 [N, 2]; the pedal is lifted at the `end` of the music."""
    spans, down = [], None
    for tick, value in [*sorted(moves, key=lambda move: move[0]), (end, 0)]:
        if value >= DOWN and down is None:
            down = tick
        elif value < DOWN and down is not None:
            if tick > down:
                spans.append((down, tick))
            down = None
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _cuts(start: np.ndarray, seconds: float) -> list[int]:
    """Indices of the notes that begin pieces; a piece is at least `seconds` from its first note to the next piece's."""
    cuts = [0]
    while seconds and (after := int(np.searchsorted(start, start[cuts[-1]] + seconds))) < len(start):
        if start[-1] - start[after] < seconds / 4:  # too short for a separate piece
            break
        cuts.append(after)
    return cuts


def _row(
    score: dict[str, Any], parts: list[dict[str, Any]], notes: np.ndarray, seconds: float, left_out: Counter[str],
    remarks: list[str], options: dict[str, Any],
) -> Piece:  # fmt: skip
    row = {
        "title": score["title"], "format": "MIDI", "tracks": f"{parts[0]['name']}: {len(notes)} notes",
        "metre": "{}/{}".format(*score["metre"]) if score["timing"] == "played" else "",
        "tempo_bpm": round(score["tempo_bpm"], 2) if score["timing"] == "played" else None,
        "seconds": round(seconds, 1), "left_out": json.dumps(left_out), "reason": "",
        "notes_kept": len(notes), "why": "; ".join(dict.fromkeys(remarks)),
        "notes_left_out": sum(count for what, count in left_out.items() if not what.endswith("(kept)")),
    }  # fmt: skip
    if len(notes) < options["min_notes"]:
        return row | {"reason": f"has {len(notes)} notes, fewer than min_notes={options['min_notes']}"}, None
    return row, score | {"parts": parts}
