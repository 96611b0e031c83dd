"""Metrics of the form of pieces: repeated bars, the distance of repeats, and endings.

A metric that isn't defined for any piece, such as the last chord if none has chords, is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from statistics import fmean

import numpy as np

from components.evaluation.music_lines import bar_steps, lines, pitch_class_times, place
from components.harmony import find_key
from components.score import Chord, Note, Score

LAGS = (1, 2, 4, 8, 16)  # bars
QUANTILES = (5, 50, 95)  # percentiles over the pieces
PATTERN = 5  # intervals
_NEW = 0  # the lag of a bar without an earlier copy

# metric → its unit, as in `components.evaluation.music.UNITS`
STRUCTURE_UNITS = {
    "bars_repeated": "share",
    **{f"bars_repeated_{q}_percent": "share" for q in QUANTILES},
    **{f"repeats_from_{lag}_bars": "share" for lag in LAGS},
    "patterns_returned": "share",
    "compression_ratio": "times",
    "ends_on_root": "share",
    "ends_on_first_chord": "share",
    "ends_on_tonic": "share",
    "ends_on_triad": "share",
    "last_note_quarters": "quarters",
    "bars": "bars",
}


def structure(scores: Sequence[Score]) -> dict[str, float]:
    """{metric: value}, metrics as in STRUCTURE_UNITS.

    - `bars_repeated`: share of bars with notes that equal an earlier bar of their piece note for note; and the 5th,
      50th and 95th percentiles of that share over pieces.
    - `repeats_from_…_bars`: share of the repeated bars whose nearest earlier copy is so many bars before.
    - `patterns_returned`: share of runs of PATTERN intervals, in any rhythm, that occurred earlier in the same part.
    - `compression_ratio`: how many times smaller `zlib` makes the sequence of pitches, lengths and rests; mean over
      pieces.
    - `ends_on_root`: share of pieces whose last note is the root of the last chord; `ends_on_first_chord`: whose last
      chord is the first.
    - `ends_on_tonic`, `ends_on_triad`: of pieces in three or more parts, the share whose lowest part ends on the tonic
      of the best key, and whose last notes are a major or minor triad, with or without its fifth.
    - `last_note_quarters`, `bars`: mean length of the last note in quarter notes; mean number of bars.
    """
    by_piece = [bar_lags(score) for score in scores]
    shares = [1 - lags.count(_NEW) / len(lags) for lags in by_piece if lags]
    repeats = [lag for lags in by_piece for lag in lags if lag != _NEW]
    bars = sum(map(len, by_piece))
    figures: dict[str, float] = {}
    if bars:
        figures["bars_repeated"] = len(repeats) / bars
        figures |= {f"bars_repeated_{q}_percent": float(np.percentile(shares, q)) for q in QUANTILES}
    if repeats:
        figures |= {f"repeats_from_{lag}_bars": repeats.count(lag) / len(repeats) for lag in LAGS}
    if returned := [again for score in scores for line in lines(score) for again in _returned(line)]:
        figures["patterns_returned"] = fmean(returned)
    for name, of in _OF_PIECES.items():
        if values := [value for score in scores if (value := of(score)) is not None]:
            figures[name] = fmean(values)
    return figures


def bar_lags(score: Score) -> list[int]:
    """For each bar with a note, in order: the distance in bars to its nearest earlier copy, 0 if there is none.

    Bars are compared by the notes that begin in them: position, pitch and length."""
    bars: dict[int, set[Hashable]] = {}
    lengths: dict[int, int] = {}
    for voice, line in enumerate(lines(score)):
        for note in line:
            bar, at, metre = place(score, note.start)
            bars.setdefault(bar, set()).add((voice, at, note.duration, note.pitch))
            lengths[bar] = bar_steps(score, metre)
    latest: dict[frozenset[Hashable], int] = {}
    lags = []
    for start, content in sorted(bars.items()):
        key = frozenset(content)
        lags.append(max(1, round((start - latest[key]) / lengths[start])) if key in latest else _NEW)
        latest[key] = start
    return lags


def _returned(line: Sequence[Note]) -> list[bool]:
    """For each run of PATTERN intervals, whether it occurred before."""
    steps = tuple(after.pitch - note.pitch for note, after in pairwise(line))
    stretches = [steps[n : n + PATTERN] for n in range(len(steps) - PATTERN + 1)]
    first = {stretch: n for n, stretch in reversed(list(enumerate(stretches)))}
    return [first[stretch] < n for n, stretch in enumerate(stretches)]


def _compression(score: Score) -> float | None:
    """Each different (pitch, length, steps to the next note) is a letter; a text of them is compressed."""
    letters: dict[tuple[int, int, int], str] = {}
    text = ""
    for line in lines(score):
        for note, after in pairwise([*line, line[-1]]):
            text += letters.setdefault((note.pitch, note.duration, after.start - note.start), chr(len(letters)))
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, 9)) if raw else None


def _last_note(score: Score) -> Note | None:
    return max((note for line in lines(score) for note in line), key=lambda note: note.start, default=None)


def _last_chord(score: Score) -> Chord | None:
    return max(score.chords, key=lambda chord: chord.start, default=None)


def _on_root(score: Score) -> bool | None:
    note, chord = _last_note(score), _last_chord(score)
    return None if note is None or chord is None else note.pitch % 12 == chord.root


def _on_first_chord(score: Score) -> bool | None:
    last = _last_chord(score)
    first = min(score.chords, key=lambda chord: chord.start, default=None)
    return None if last is None or first is None else (last.root, last.kind) == (first.root, first.kind)


def _last_notes(score: Score) -> list[Note]:
    """The last note of each part; empty for fewer than three parts, which don't form a chord."""
    parts = lines(score)
    return [line[-1] for line in parts] if len(parts) >= 3 else []


def _on_tonic(score: Score) -> bool | None:
    notes = _last_notes(score)
    return min(note.pitch for note in notes) % 12 == find_key(pitch_class_times(score)).tonic if notes else None


def _on_triad(score: Score) -> bool | None:
    notes = {note.pitch % 12 for note in _last_notes(score)}
    over = [{(note - root) % 12 for note in notes} for root in notes]
    return any({0, third} <= tones <= {0, third, 7} for tones in over for third in (3, 4)) if notes else None


def _last_quarters(score: Score) -> float | None:
    note = _last_note(score)
    return None if note is None else note.duration / score.steps_per_beat


def _bars(score: Score) -> float | None:
    """The number of bars, without an upbeat."""
    changes = [(score.upbeat_steps, score.metre), *score.metre_changes]
    ends = [*(start for start, _ in changes[1:]), score.length_steps]
    spans = ((end - start) / bar_steps(score, metre) for (start, metre), end in zip(changes, ends, strict=True))
    return float(sum(np.ceil(max(0.0, bars)) for bars in spans)) or None


_OF_PIECES: dict[str, Callable[[Score], float | None]] = {
    "compression_ratio": _compression,
    "ends_on_root": _on_root,
    "ends_on_first_chord": _on_first_chord,
    "ends_on_tonic": _on_tonic,
    "ends_on_triad": _on_triad,
    "last_note_quarters": _last_quarters,
    "bars": _bars,
}
