"""Notes on a grid of steps: the common form of all music formats."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np

from components.datasets.files.codings import marked, unmarked
from components.encodings.form import joined
from components.errors import UserError, one_line
from components.harmony import Symbol, find_key, match_chord, parse_chord
from components.score import Chord

QUARTER_TONE = "quarter tone read as the semitone beside it (kept)"
UNEVEN = "bar lines aren't where bars of the metre end"
ONLY_DRUMS = "has only drums"  # reason of a refusal
LONGEST_STEPS = 1_000_000
THIRD = 0.04  # of a third of a beat: onsets this close count as being on it
GATHERED = 0.2  # mean resultant length of the phases of onsets that follow the beat
START, DURATION, PITCH, VELOCITY = range(4)  # columns of a track's notes
GERMAN = re.compile(r"(?:^|(?<=/))(?:[A-H]is|[CDFGB]es|[AE]s|H)")  # Cis is C sharp, As is A flat, H is B


@dataclass
class Track:
    """One instrument. `notes` int64 [N, 4]: start and duration in steps, pitch, velocity; sorted by start, then
    pitch."""

    number: int  # in the file, from 0
    name: str
    notes: np.ndarray
    program: int = 0
    lyrics: bool = False
    role: str = ""

    @cached_property
    def mean_pitch(self) -> float:
        return float(self.notes[:, PITCH].mean())

    @cached_property
    def monophonic(self) -> float:
        """The share of notes that sound alone."""
        return float(alone(self.notes).mean())

    @property
    def label(self) -> str:
        """The track's name in messages: "2 'Sax'"."""
        return f"{self.number} {self.name!r}" if self.name else str(self.number)


@dataclass
class Piece:
    """A piece on the grid, before its tracks have roles. `left_out`: reason → number of notes."""

    format: str
    title: str
    tracks: list[Track]
    steps_per_beat: int
    metre: tuple[int, int] = (4, 4)
    metre_changes: list[tuple[int, tuple[int, int]]] = field(default_factory=list)
    upbeat_steps: int = 0
    tempo_bpm: float = 120.0
    tempo_changes: int = 0
    seconds: float = 0.0
    chords: list[Chord] = field(default_factory=list)
    key: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    timing_error_ms: float = 0.0
    refused: str = ""  # reason to skip the piece

    @property
    def length_steps(self) -> int:
        """Where the last note or chord ends."""
        ends = [int(track.notes[:, :2].sum(axis=1).max()) for track in self.tracks if len(track.notes)]
        return max([*ends, *(chord.start + chord.duration for chord in self.chords)], default=0)


def settle(
    start: np.ndarray, end: np.ndarray, pitch: np.ndarray, velocity: np.ndarray, left_out: Counter[str]
) -> np.ndarray:
    """Notes int64 [N, 4] of one track from starts and ends in steps (floats [N]): see `settle_tracks`."""
    return settle_tracks(start, end, pitch, velocity, np.zeros(len(start), dtype=np.int64), 1, left_out)[0]


def settle_tracks(
    start: np.ndarray,
    end: np.ndarray,
    pitch: np.ndarray,
    velocity: np.ndarray,
    track: np.ndarray,
    tracks: int,
    left_out: Counter[str],
) -> list[np.ndarray]:
    """Notes int64 [N, 4] of each of `tracks` from starts and ends in steps: the nearest step, a duration of 1 at least.

    Of one pitch in one track (int [N], from 0), nothing overlaps: a note ends where the next begins, and of two that
    begin together the longer stays.
    """
    first = np.rint(start).astype(np.int64)
    duration = np.maximum(np.rint(end).astype(np.int64) - first, 1)
    string = track.astype(np.int64) * 128 + pitch.astype(np.int64)  # notes of one key and track: monophonic
    order = np.lexsort((-duration, first, string))
    first, duration, string, velocity = first[order], duration[order], string[order], velocity[order]
    alike = string[1:] == string[:-1]
    same = alike & (first[1:] == first[:-1])
    if same.any():
        left_out["note on the same step and pitch as another"] += int(same.sum())
        kept = np.concatenate([[True], ~same])
        first, duration, string, velocity = first[kept], duration[kept], string[kept], velocity[kept]
        alike = string[1:] == string[:-1]
    room = first[1:] - first[:-1]
    over = alike & (duration[:-1] > room)
    if over.any():
        left_out["note cut where its pitch begins again (kept)"] += int(over.sum())
        duration[:-1][over] = room[over]
    track, pitch = np.divmod(string, 128)
    order = np.lexsort((pitch, first, track))
    notes = np.stack([first, duration, pitch, velocity.astype(np.int64)], axis=1)[order]
    return np.split(notes, np.searchsorted(track[order], np.arange(1, tracks)))


def alone(notes: np.ndarray) -> np.ndarray:
    """bool [N]: the notes [N, 4] that neither begin with another note nor under a sustained one.

    Two legato notes overlap a little: up to half of the shorter one.
    """
    if not len(notes):
        return np.zeros(0, dtype=bool)
    start, duration = notes[:, START], notes[:, DURATION]
    together = np.zeros(len(notes), dtype=bool)
    same = start[1:] == start[:-1]
    together[1:] |= same
    together[:-1] |= same
    ends = np.maximum.accumulate(start + duration)
    under = np.zeros(len(notes), dtype=bool)
    under[1:] = 2 * (ends[:-1] - start[1:]) > np.minimum(duration[1:], duration[:-1])
    return ~together & ~under


def follows_beat(beats: np.ndarray) -> bool:
    """Whether onsets, in beats [N], gather on one of the first four divisions of the beat.

    Music played without a click, with an average tempo in the file, has onsets everywhere. Measured by the mean
    resultant length of the phase (Mardia and Jupp, Directional Statistics, 2000).
    """
    if len(beats) < 32:
        return True
    phase = np.exp(2j * np.pi * (beats[:: len(beats) // 2000 + 1] % 1.0))
    square = phase * phase
    return any(abs(power.mean()) > GATHERED for power in (phase, square, square * phase, square * square))


def moved(start: np.ndarray, steps_per_beat: int, left_out: Counter[str]) -> np.ndarray:
    """The distance in steps of written onsets (steps [N]) from the grid; those off it are counted."""
    off = np.abs(start - np.rint(start))
    count = int((off > 1e-6).sum())
    if count:
        left_out[f"note moved to a grid of {steps_per_beat} steps in a beat (kept)"] += count
    return off


def triplets_moved(beats: np.ndarray, steps_per_beat: int) -> int:
    """The number of onsets, in beats, on thirds of a beat that aren't grid steps."""
    if steps_per_beat % 3 == 0:
        return 0
    third = np.rint(beats * 3)
    return int(((np.abs(beats * 3 - third) < THIRD) & (third % 3 != 0)).sum())


def clean(text: str) -> str:
    """Untrusted text as one printable line."""
    return one_line(text[:400])[:80]


def decoded(data: bytes) -> str:
    """Untrusted text, decoded as its byte order mark or its NUL bytes say (UTF-16), as UTF-8, else Shift-JIS if that
    gives Japanese words, else Windows-1252."""
    mark, wide = marked(data)
    if wide := wide or unmarked(data[:4096]):
        return data[len(mark) :].decode(wide, "replace")
    for coding in ("utf-8", "cp932"):
        try:
            text = data.decode(coding)
        except UnicodeDecodeError:
            continue
        if coding == "utf-8" or _japanese(text):
            return text
    return data.decode("cp1252", "replace")


def _japanese(text: str) -> bool:
    """Whether all characters that aren't ASCII are kana or kanji and in words. An accented letter of French stands
    alone."""
    words = re.findall(r"[^\x00-\x7f]+", text)
    return all(re.fullmatch(r"[\u3000-\u30ff\u4e00-\u9fff\uff01-\uff5e]{2,}", word) for word in words)


def usable_metre(beats: int, unit: int, steps_per_beat: int) -> bool:
    """Whether a metre is musically valid and its bar is a whole number of steps."""
    sane = 1 <= beats <= 64 and 1 <= unit <= 64 and unit & (unit - 1) == 0
    return sane and beats * 4 * steps_per_beat % unit == 0


def bar_steps(metre: tuple[int, int], steps_per_beat: int) -> int:
    """Steps of a full bar."""
    return metre[0] * 4 * steps_per_beat // metre[1]


def key_name(tracks: list[Track], sharps: int | None = None) -> str:
    """The key estimated from all notes, by how long each pitch class sounds; "" without notes. With `sharps` of the key
    signature (negative for flats), one of its two keys."""
    notes = np.concatenate([track.notes for track in tracks]) if tracks else np.zeros((0, 4), dtype=np.int64)
    if not len(notes):
        return ""
    weights = np.bincount(notes[:, PITCH] % 12, weights=notes[:, DURATION], minlength=12)
    return str(find_key(weights.tolist(), sharps))


def block_chords(track: Track) -> tuple[list[Chord], float]:
    """Chord symbols of a track with block chords, and the share of its blocks that a symbol explains.

    A block is the set of notes that begin together; a block with the same symbol as the one before lengthens it.
    """
    if not len(track.notes):
        return [], 0.0
    onsets = track.notes[:, START]
    first = np.flatnonzero(np.concatenate([[True], onsets[1:] != onsets[:-1]]))  # first note of each block
    starts, pitches = onsets[first].tolist(), track.notes[:, PITCH].tolist()
    stops = np.maximum.reduceat(onsets + track.notes[:, DURATION], first).tolist()
    edges = [*first.tolist(), len(pitches)]
    chords: list[Chord] = []
    explained = 0
    open_: tuple[int, int, Symbol] | None = None  # start, end, symbol of the current chord
    for index, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        symbol = _symbol(tuple(pitches[edges[index] : edges[index + 1]]))
        if symbol is None:
            continue
        explained += 1
        if open_ and open_[2] == symbol and open_[1] >= start:
            open_ = (open_[0], max(stop, open_[1]), symbol)
            continue
        if open_:
            chords.append(Chord(open_[0], min(open_[1], start) - open_[0], *open_[2]))
        open_ = (start, stop, symbol)
    if open_:
        chords.append(Chord(open_[0], open_[1] - open_[0], *open_[2]))
    return chords, explained / len(starts)


@lru_cache(maxsize=1 << 16)
def _symbol(pitches: tuple[int, ...]) -> Symbol | None:
    low = min(pitches) % 12
    found = _over_bass(frozenset((pitch - low) % 12 for pitch in pitches))
    return found and Symbol((found.root + low) % 12, found.kind, None if found.bass is None else low)


@lru_cache(maxsize=1 << 12)
def _over_bass(intervals: frozenset[int]) -> Symbol | None:
    """The chord over a bass of C. Cached: there are few of them, and matching one takes a millisecond."""
    return match_chord(intervals, 0)


def _parsed(text: str) -> Symbol | None:
    try:
        return parse_chord(text)
    except UserError:
        return None


def chord_symbol(text: str, left_out: Counter[str]) -> Symbol | None:
    """The chord of a symbol; None for "N.C." and for an unreadable one, which ends the chord before."""
    try:
        return parse_chord(text)
    except UserError:
        plain = re.sub(r"\([^()]*\)", "", text)
    german = GERMAN.sub(lambda root: root[0][0].replace("H", "B") + {"": "", "i": "#"}.get(root[0][1:2], "b"), text)
    if german != text and (symbol := _parsed(german)):
        left_out["chord symbol in German: H read as B, Fis as F# (kept)"] += 1
        return symbol
    symbol = _parsed(plain) if plain != text else None
    what = "chord symbol that can't be read: no chord there" if symbol is None else "addition in brackets to a chord"
    left_out[f"{what} (kept)"] += 1
    return symbol


def chord_spans(symbols: list[tuple[int, Symbol | None]], end: int) -> list[Chord]:
    """Spans of chords: each symbol (None: no chord) lasts until the next one or the end; equal ones are merged."""
    symbols = sorted(symbols, key=lambda pair: pair[0])
    ends = [*(at for at, _ in symbols), end][1:]
    spans = ((start, stop - start, symbol) for (start, symbol), stop in zip(symbols, ends, strict=True))
    return list(joined(Chord(start, length, *symbol) for start, length, symbol in spans if symbol and length > 0))


def uneven_bars(bars: list[Fraction], first: Fraction, length: Fraction) -> list[str]:
    """A remark if many bar lines, in quarter notes, aren't where bars of this length after the first one end: beats are
    missing or too many. Upbeats of sections move one bar line each."""
    begin = first if first < length else Fraction(0)
    off = sum((time - begin) % length != 0 for time in bars)
    told = f"{UNEVEN} ({off} of {len(bars)}): beats are missing or too many"
    return [told] if len(bars) >= 4 and 3 * off > len(bars) else []
