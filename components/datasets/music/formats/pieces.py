"""Reads one music file in a subprocess: parse by format, assign roles, pack the score and its report row."""

from __future__ import annotations

import base64
import json
from pathlib import PurePath
from typing import Any

import numpy as np

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.grid import Piece, Track, key_name
from components.datasets.music.formats.roles import assign

MIDI = (".mid", ".midi", ".kar", ".rmi")
MOST_REMARKS = 32
MOST_ROWS = 20_000  # tunes in one file


def read(data: bytes, name: str, options: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """(report row, packed score or None if the piece is skipped) of each piece in the file.

    Raises:
        Refused: the file has none.
    """
    ending = PurePath(name).suffix.lower()
    if ending in MIDI or data.startswith(b"MThd"):
        from components.datasets.music.formats.midi import read_midi

        pieces = read_midi(data, name, options)
    elif ending == ".abc":
        from components.datasets.music.formats.abc_notation import read_abc

        pieces = read_abc(data, name, options)
    else:
        from components.datasets.music.formats.notation import read_notation

        pieces = read_notation(data, name, options)
    return [_finish(piece, options) for piece in pieces[:MOST_ROWS]]


def _finish(piece: Piece, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    listed = ", ".join(f"{track.label}: {len(track.notes)} notes" for track in piece.tracks[:32])
    row = {
        "title": piece.title,
        "format": piece.format,
        "tracks": listed,
        "metre": " ".join(f"{beats}/{unit}" for beats, unit in [piece.metre, *(m for _, m in piece.metre_changes)][:8]),
        "upbeat_steps": piece.upbeat_steps,
        "tempo_bpm": round(piece.tempo_bpm, 2),
        "tempo_changes": piece.tempo_changes,
        "seconds": round(piece.seconds, 1),
        "timing_error_ms": round(piece.timing_error_ms, 2),
        "left_out": json.dumps(piece.left_out),
        "reason": "",
    }
    try:
        if piece.refused:
            raise Refused(piece.refused)
        if not any(len(track.notes) for track in piece.tracks):
            raise Refused("has no notes")
        piece.key = piece.key or key_name(piece.tracks)
        row["key"] = piece.key
        row |= assign(piece, options["melody_track"], options["chords_track"])
        parts = [track for track in piece.tracks if track.role == "melody" or options["parts"] == "all"]
        kept = sum(len(track.notes) for track in parts)
        if kept < options["min_notes"]:
            raise Refused(f"has {kept} notes, fewer than min_notes={options['min_notes']}")
    except Refused as refused:
        return row | {"reason": str(refused)}, None
    others = sum(len(track.notes) for track in piece.tracks) - kept
    if others:
        piece.left_out["note of a part that isn't the melody"] += others
    lost = {reason: count for reason, count in piece.left_out.items() if not reason.endswith("(kept)")}
    row |= {
        "notes_kept": kept,
        "notes_left_out": sum(lost.values()),
        "left_out": json.dumps(piece.left_out),
        "why": "; ".join([row["why"], *dict.fromkeys(piece.remarks[:MOST_REMARKS])]),
    }
    return row, _packed(piece, parts)


def _packed(piece: Piece, parts: list[Track]) -> dict[str, Any]:
    return {
        "parts": [
            {"name": track.name, "program": track.program, "role": track.role, "notes": packed_notes(track.notes)}
            for track in parts
        ],
        "steps_per_beat": piece.steps_per_beat,
        "metre": piece.metre,
        "metre_changes": piece.metre_changes,
        "upbeat_steps": piece.upbeat_steps,
        "length_steps": piece.length_steps,
        "tempo_bpm": piece.tempo_bpm,
        "title": piece.title,
        "chords": [[c.start, c.duration, c.root, c.kind, c.bass] for c in piece.chords],
        "key": piece.key,
    }


def packed_notes(notes: np.ndarray) -> str:
    """Notes [N, 4] as base64 of little-endian int32: unpacked five times as fast as numbers in JSON."""
    return base64.b64encode(np.ascontiguousarray(notes.T, dtype="<i4").tobytes()).decode()


def warm_up() -> None:
    """Import what every file needs before the memory limit is set."""
    import components.datasets.music.formats.midi  # noqa: F401
