"""Chooses which tracks are melody, chords and bass, with a reason that a user can check."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.grid import DURATION, PITCH, START, Piece, Track, bar_steps, block_chords

HINTS = {
    "melody": r"melod|vocal|\bvox\b|voice|voc\b|\blead|\bsolo|sing|tune|soprano|cantus|gesang|\bm[eé]l|メロディ|旋律",
    "bass": r"\bbass?\b|bass(line|track|gtr|o\b)|contrabas|kontrabas|\btuba\b|\bsub\b",
    "chords": r"chord|akkord|accord|piano|guitar|gtr|comp\b|accomp|harmony|rhythm|strings?\b|\bpad\b|organ|keys?\b",
}
# General MIDI programs (from 0): brass, reeds, pipes, solo strings, voices, synthesiser leads
LEADS = {*range(40, 43), *range(52, 55), *range(56, 58), 60, *range(64, 80), *range(80, 88), 22}
BASSES = {*range(32, 40), 43, 58}
FULL = {*range(8), *range(16, 21), *range(24, 32), *range(48, 52), *range(88, 96), 46}  # usually play chords
EFFECTS = {*range(96, 104), *range(112, 128)}
CUTOFF = 1.5  # minimum score for bass and chords
ONE_AT_A_TIME = 0.7  # share of notes that sound alone; a track with more has no chords
MELODY_ALONE = 0.9  # share of a melody's notes that sound alone; with fewer, its top line is used
FEW_NOTES = 16  # a track with fewer, or with less than a quarter of the busiest one's, isn't the melody
FEW_BARS = 0.125  # nor is one that plays in fewer bars than this share of the largest number of bars
BLOCKS = 0.7  # share of a chord track's blocks that chord symbols must explain


def top_line(notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the melody [M, 4], the rest [N − M, 4]): the highest note at each time, one at a time ("skyline").

    A note of the melody ends where the next one begins. Uitdenbogerd and Zobel, Melodic Matching Techniques for Large
    Music Databases (1999).
    """
    order = np.lexsort((-notes[:, PITCH], notes[:, START]))
    chosen: list[list[int]] = []
    under: list[list[int]] = []
    for row in notes[order].tolist():
        start, duration, pitch, _ = row
        if chosen:
            before = chosen[-1]
            left = before[START] + before[DURATION] - start
            if before[START] == start or (pitch < before[PITCH] and 2 * left > min(duration, before[DURATION])):
                under.append(row)
                continue
            if left > 0:
                before[DURATION] = start - before[START]
        chosen.append(row)
    rest = np.array(under, dtype=np.int64).reshape(-1, 4)
    return np.array(chosen, dtype=np.int64).reshape(-1, 4), rest[np.lexsort((rest[:, PITCH], rest[:, START]))]


def assign(
    piece: Piece, melody_track: int | str | None = None, chords_track: int | str | None = None
) -> dict[str, str]:
    """Assign roles to the piece's tracks, and chord symbols to the piece if a track plays them in blocks.

    The melody is made monophonic: the top line of a track with chords is taken and the rest becomes another part.
    Returns melody, chords, bass (labels of tracks, "" for none) and the reason.

    Raises:
        Refused: the piece has no track with the requested number or name.
    """
    tracks = piece.tracks
    why: list[str] = []
    chords = _asked(tracks, chords_track, "chords_track")
    melody = _asked(tracks, melody_track, "melody_track")
    if melody is not None:
        why.append(f"melody = {_describe(melody)}, as asked for")
    else:
        choices = [track for track in tracks if track is not chords]
        if not choices:
            raise Refused(f"has no track besides {chords_track!r}, the chords")
        few = len(choices)
        choices = _carrying(choices, piece)
        busiest = max(len(track.notes) for track in choices)
        melody = max(choices, key=lambda track: (_melody_score(track, busiest), -track.number))
        reason = "the only track" if few == 1 else "the only one that plays more than a few notes"
        reason = reason if len(choices) == 1 else _melody_reason(melody)
        why.append(f"melody = {_describe(melody)}, {reason}")
    rest = [track for track in tracks if track is not melody and track is not chords]
    lowest = min(tracks, key=lambda track: track.mean_pitch)
    bass = max(rest, key=lambda track: _bass_score(track, lowest), default=None)
    if bass is not None and _bass_score(bass, lowest) < CUTOFF:
        bass = None
    if bass is not None:
        why.append(f"bass = {_describe(bass)}")
        rest.remove(bass)
    if chords is not None:
        why.append(f"chords = {_describe(chords)}, as asked for")
    else:
        chords = max(rest, key=_chords_score, default=None)
        if chords is not None and _chords_score(chords) < CUTOFF:
            chords = None
        if chords is not None:
            why.append(f"chords = {_describe(chords)}")
    for track in tracks:
        track.role = "other"
    for role, track in (("bass", bass), ("chords", chords), ("melody", melody)):
        if track is not None:
            track.role = role
    found = {role: track.label if track else "" for role, track in zip(ROLES, (melody, chords, bass), strict=True)}
    if chords is not None and not piece.chords:
        symbols, explained = block_chords(chords)
        if explained >= BLOCKS:
            piece.chords = symbols
            why.append(f"{len(symbols)} chord symbols from it")
        else:
            why.append(f"no chord symbols from it: they would explain {explained:.0%} of its blocks")
    _single_line(piece, melody, why)
    return found | {"why": "; ".join(why)}


ROLES = ("melody", "chords", "bass")


def _single_line(piece: Piece, melody: Track, why: list[str]) -> None:
    """Keep the top line in the melody; the other notes become another part."""
    before = len(melody.notes)
    if (melody.notes[:-1, :2].sum(axis=1) <= melody.notes[1:, START]).all():
        return
    share = melody.monophonic
    line, under = top_line(melody.notes)
    melody.notes = line
    if not len(under):
        return
    if share >= MELODY_ALONE:
        piece.left_out["note under the melody in its own track"] += len(under)
        return
    why.append(f"its top line: {len(line)} of {before} notes, the others are a part of their own")
    role = "other" if any(track.role == "chords" for track in piece.tracks) else "chords"
    at = piece.tracks.index(melody) + 1
    piece.tracks.insert(at, replace(melody, name=f"{melody.name} under the melody".strip(), notes=under, role=role))


def _asked(tracks: list[Track], wanted: int | str | None, option: str) -> Track | None:
    if wanted is None:
        return None
    if isinstance(wanted, int):
        found = [track for track in tracks if track.number == wanted]
    else:
        text = wanted.casefold()
        found = [track for track in tracks if track.name.casefold() == text]
        found = found or [track for track in tracks if text in track.name.casefold()]
    if not found:
        listed = ", ".join(track.label for track in tracks[:12])
        raise Refused(f"has no track {wanted!r} with notes ({option}); tracks: {listed}")
    return found[0]


def _hinted(track: Track, role: str) -> bool:
    return re.search(HINTS[role], track.name.casefold()) is not None


def _carrying(tracks: list[Track], piece: Piece) -> list[Track]:
    """The tracks that can be the melody; one that hardly plays is excluded whatever its name."""
    bar = bar_steps(piece.metre, piece.steps_per_beat)
    bars = {track.number: len(np.unique(track.notes[:, START] // bar)) for track in tracks}
    few = min(FEW_NOTES, max(len(track.notes) for track in tracks) / 4)
    found = [t for t in tracks if len(t.notes) >= few and bars[t.number] >= FEW_BARS * max(bars.values())]
    return found or tracks


def _melody_score(track: Track, busiest: int) -> float:
    named = 3.0 * (_hinted(track, "melody") or track.lyrics)
    if not named:
        named = -1.5 * _hinted(track, "bass") - 1.0 * _hinted(track, "chords")
    sound = (track.program in LEADS) - 3.0 * (track.program in BASSES) - 2.0 * (track.program in EFFECTS)
    height = min(max((track.mean_pitch - 60) / 10, -2.0), 1.2)
    return named + sound + height + 2.0 * track.monophonic + len(track.notes) / busiest


def _melody_reason(track: Track) -> str:
    if track.lyrics:
        return "it carries the words"
    if _hinted(track, "melody"):
        return "named like one"
    return "the best mix of high, monophonic and busy"


def _bass_score(track: Track, lowest: Track) -> float:
    named = 3.0 * _hinted(track, "bass") - 1.0 * (_hinted(track, "chords") or _hinted(track, "melody"))
    depth = min(max((54 - track.mean_pitch) / 6, -3.0), 1.5)
    under_all = 0.7 * (track is lowest and track.monophonic > MELODY_ALONE)
    return named + 2.0 * (track.program in BASSES) + depth + track.monophonic - 0.5 + under_all


def _chords_score(track: Track) -> float:
    if track.monophonic > ONE_AT_A_TIME and "chord" not in track.name.casefold():
        return 0.0
    named = 1.5 * _hinted(track, "chords") - 1.0 * _hinted(track, "bass")
    together = 1.0 - track.monophonic
    return named + 2.0 * together + 0.5 * (track.program in FULL) - 2.0 * (track.program in EFFECTS)


def _describe(track: Track) -> str:
    return f"track {track.label} (mean pitch {track.mean_pitch:.0f}, monophonic {track.monophonic:.0%})"
