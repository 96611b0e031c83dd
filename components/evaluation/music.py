"""Metrics of pieces of music, compared with the same for real pieces: similarity, harmony, repetition, copying.

A metric alone says little: Bach repeats bars and writes phrases that other chorales have. So every metric is given for
the generated pieces and for real held-out ones, both compared with the training pieces.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import fmean

import numpy as np

from components.errors import UserError
from components.evaluation.music_lines import bar_steps, lines, pitch_class_times, place
from components.evaluation.music_structure import STRUCTURE_UNITS, structure
from components.evaluation.voice_leading import FAULTS, faults, is_four_part
from components.harmony import SCALES, chord_tones, find_key, strong_steps
from components.render.layout import bars
from components.score import Note, Score

GRAM = 8  # (interval, duration) pairs, i.e. nine notes, that count as a copy
_FINE = 12  # resolution of durations and positions: parts of a quarter note
_LONGEST = 4 * _FINE  # longer notes are clipped
_WIDEST = 13  # wider intervals are clipped

# metric → its unit. Distances and shares are from 0 to 1.
UNITS = {
    "pitch_class_distance": "share",
    "interval_distance": "share",
    "duration_distance": "share",
    "metric_position_distance": "share",
    "notes_in_best_key": "share",
    "strong_beats_on_chord_tones": "share",
    **STRUCTURE_UNITS,
    "copied_8_grams": "share",
    "longest_copy_notes": "notes",
    **{f"{fault}_per_bar": "per bar" for fault in FAULTS},
}


def judge(scores: Sequence[Score], training: Sequence[Score], held_out: Sequence[Score]) -> dict[str, dict[str, float]]:
    """{metric: {"generated": x, "held_out": y}}, metrics as in UNITS; those that neither side has are left out.

    - `…_distance`: Jensen-Shannon distance of the distribution from that of `training`: the square root of the
      divergence in bits, 0 (equal) to 1 (disjoint). Pitch classes count from the tonic of the best key, positions from
      the bar line.
    - `notes_in_best_key`: share of sounding time in the best of the twelve diatonic scales.
    - `strong_beats_on_chord_tones`: of the notes that begin on strong beats, the share that are chord tones; only for
      scores with chords.
    - repetition of bars, and endings: `components.evaluation.music_structure`.
    - `copied_8_grams`, `longest_copy_notes`: runs of (interval to the note before, duration) that also occur in a
      training piece; transposed copies count too.
    - voice-leading faults: only for four parts (`components.evaluation.voice_leading`).

    Small samples are farther from any distribution than large ones, so `held_out` is compared in groups as large as
    `scores`; distances and longest copies are means over the groups.

    Raises:
        UserError: one of the three has no piece with notes.
    """
    for pieces, name in ((scores, "generated"), (training, "training"), (held_out, "held-out")):
        if not any(part.notes for piece in pieces for part in piece.parts):
            raise UserError(f"the {name} pieces have no notes, so they can't be compared", where="judge")
    known = _Known(training)
    size = min(len(scores), len(held_out))
    groups = [held_out[start : start + size] for start in range(0, len(held_out) - size + 1, size)]
    by_group = [known.compare(group) for group in groups if any(part.notes for piece in group for part in piece.parts)]
    columns = {
        "generated": known.compare(scores) | shares(scores, known),
        "held_out": {name: fmean(group[name] for group in by_group) for name in by_group[0]} | shares(held_out, known),
    }
    return {
        figure: {column: values[figure] for column, values in columns.items() if figure in values}
        for figure in UNITS
        if any(figure in values for values in columns.values())
    }


class _Known:
    """Statistics of the training pieces: distributions, and their lines as strings of one character per note."""

    def __init__(self, training: Sequence[Score]) -> None:
        self.codes: dict[Hashable, str] = {}
        self.distributions = {name: Counter(count(training)) for name, count in _COUNTED.items()}
        self.text = "\n".join(line for score in training for line in self.lines(score))
        self.grams = {gram for line in self.text.split("\n") for gram in _grams(line)}

    def lines(self, score: Score) -> list[str]:
        """A string for each judged part, with a character for each (interval, duration)."""
        found = []
        for notes in lines(score):
            pairs = ((b.pitch - a.pitch, _length(score, b)) for a, b in pairwise(notes))
            found.append("".join(self.codes.setdefault(pair, chr(len(self.codes) + 32)) for pair in pairs))
        return found

    def compare(self, scores: Sequence[Score]) -> dict[str, float]:
        """The metrics that depend on the number of pieces."""
        distances = {
            f"{name}_distance": jensen_shannon(Counter(count(scores)), self.distributions[name])
            for name, count in _COUNTED.items()
        }
        longest = max((self.longest(line) for score in scores for line in self.lines(score)), default=0)
        return distances | {"longest_copy_notes": float(longest + 1 if longest else 0)}

    def longest(self, line: str) -> int:
        """Length of the longest substring of a line that also occurs in a training line."""
        best = 0
        for start in range(len(line)):
            while start + best < len(line) and line[start : start + best + 1] in self.text:
                best += 1
        return best


def shares(scores: Sequence[Score], known: _Known) -> dict[str, float]:
    """The metrics that are ratios of sums over all pieces."""
    found = [gram in known.grams for score in scores for line in known.lines(score) for gram in _grams(line)]
    times = [pitch_class_times(score) for score in scores]
    diatonic = [[(tonic + tone) % 12 for tone in SCALES["major"]] for tonic in range(12)]
    in_key = sum(max(sum(time[c] for c in scale) for scale in diatonic) for time in times)
    strong = [on_chord for score in scores for on_chord in _strong_notes(score)]
    figures = {
        "notes_in_best_key": _ratio(in_key, sum(map(sum, times))),
        "strong_beats_on_chord_tones": _ratio(sum(strong), len(strong)),
        "copied_8_grams": _ratio(sum(found), len(found)),
    }
    four = [score for score in scores if is_four_part(score) and score.bar_steps > 0]
    count = sum((bar.end - bar.start) / bar.full for score in four for bar in bars(score))
    counted = sum((faults(score) for score in four), Counter())
    figures |= {f"{fault}_per_bar": _ratio(counted[fault], count) for fault in FAULTS}
    return {name: value for name, value in figures.items() if value is not None} | structure(scores)


def jensen_shannon(one: Counter, other: Counter) -> float:
    """The Jensen-Shannon distance of two histograms: 0 if they are proportional, 1 if they are disjoint or one is
    empty.

    The square root of the divergence with logarithms to base 2, a metric (Endres and Schindelin 2003).
    """
    if not one or not other:
        return 1.0
    keys = list(one.keys() | other.keys())
    p, q = (np.array([histogram[key] for key in keys], dtype=float) for histogram in (one, other))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    kl = sum(float((d[d > 0] * np.log2(d[d > 0] / middle[d > 0])).sum()) for d in (p, q)) / 2
    return float(np.sqrt(min(1.0, max(0.0, kl))))


def _length(score: Score, note: Note) -> int:
    return min(_LONGEST, max(1, round(Fraction(note.duration * _FINE, score.steps_per_beat))))


def _degrees(scores: Sequence[Score]) -> Iterable[int]:
    for score in scores:
        tonic = find_key(pitch_class_times(score)).tonic
        yield from ((note.pitch - tonic) % 12 for line in lines(score) for note in line)


def _intervals(scores: Sequence[Score]) -> Iterable[int]:
    pairs = ((a, b) for score in scores for line in lines(score) for a, b in pairwise(line))
    return (max(-_WIDEST, min(_WIDEST, b.pitch - a.pitch)) for a, b in pairs)


def _durations(scores: Sequence[Score]) -> Iterable[int]:
    return (_length(score, note) for score in scores for line in lines(score) for note in line)


def _places(scores: Sequence[Score]) -> Iterable[int]:
    for score in scores:
        for line in lines(score):
            yield from (round(Fraction(place(score, n.start)[1] * _FINE, score.steps_per_beat)) for n in line)


_COUNTED: dict[str, Callable[[Sequence[Score]], Iterable[int]]] = {
    "pitch_class": _degrees,
    "interval": _intervals,
    "duration": _durations,
    "metric_position": _places,
}


def _strong_notes(score: Score) -> Iterable[bool]:
    """For each note that begins on a strong beat with a chord, whether it is a chord tone."""
    chords = sorted(score.chords)
    starts = [chord.start for chord in chords]
    for line in lines(score) if chords else ():
        for note in line:
            _, at, metre = place(score, note.start)
            index = bisect_right(starts, note.start) - 1
            strong = strong_steps(metre, bar_steps(score, metre))
            if index >= 0 and note.start < starts[index] + chords[index].duration and at in strong:
                yield note.pitch % 12 in chord_tones(chords[index])


def _grams(line: str) -> list[str]:
    return [line[i : i + GRAM] for i in range(len(line) - GRAM + 1)]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
