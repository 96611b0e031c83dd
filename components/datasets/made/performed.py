"""Piano pieces performed by rules, in the manner of the KTH rule system (Friberg, Bresin and Sundberg, Overview of the
KTH rule system for musical performance, Advances in Cognitive Psychology 2(2-3), 2006).

The kinds of rules are theirs; the amounts are ours, drawn for each performance. The lead of the melody is from Goebl
(2001), about 20 ms; the final ritard from Friberg and Sundberg (1999).
"""

from __future__ import annotations

import numpy as np

from components.datasets.made.composed import UNIT, Piece, Written
from components.encodings.notes import settled
from components.score import Note, Part, Score

PER_SECOND = 1000
UNSTEADY_MS = 6.0  # standard deviation of a key's time


def perform(piece: Piece, title: str, rng: np.random.Generator) -> Score:
    """The piece in seconds, with velocities and pedal."""
    clock = _clock(piece, rng)
    arch = float(rng.uniform(8, 18))  # difference in velocity between a phrase's edges and its middle
    lead, accent = float(rng.normal(0.020, 0.006)), float(rng.uniform(3, 8))
    level, melody_louder = float(rng.normal(58, 7)), float(rng.uniform(10, 20))
    legato = float(rng.uniform(0.92, 1.04))
    tops = {note.start: note for note in piece.notes if note.hand == 0}
    notes: list[Note] = []
    for note in piece.notes:
        inside = (note.start % piece.phrase) / piece.phrase
        loud = level + arch * (1 - (2 * inside - 1) ** 2) + accent * _weight(note, piece.bar)
        loud += {0: melody_louder, 1: -6.0, 2: 0.0}[note.hand]
        loud += 0.35 * (note.pitch - 66)  # higher notes are louder
        loud -= 3.0 * (note.duration <= UNIT // 2) * (note.hand == 0)  # duration contrast: short notes are softer
        loud -= 8.0 * max(0.0, (note.start - piece.length + piece.bar) / piece.bar)  # final diminuendo
        start = clock(note.start) - (lead if note.hand == 0 else 0.0) + float(rng.normal(0, UNSTEADY_MS / 1000))
        length = (clock(note.start + note.duration) - clock(note.start)) * _held(note, tops, legato, rng)
        begin = max(0, round(start * PER_SECOND))
        struck = int(np.clip(round(loud + float(rng.normal(0, 3))), 12, 122))
        notes.append(Note(begin, max(20, round(length * PER_SECOND)), note.pitch, struck))
    pedal = _pedal(piece, clock, rng)
    first = min(note.start for note in notes)
    played = settled(Note(n.start - first, n.duration, n.pitch, n.velocity) for n in notes)
    pedal = tuple((max(0, down - first), up - first) for down, up in pedal)
    end = max(max(n.start + n.duration for n in played), pedal[-1][1] if pedal else 0)
    part = Part("Piano", played, pedal=pedal)
    return Score((part,), PER_SECOND, (1, 4), 0, end, 60.0, title, timing="seconds")


class _Curve:
    """Steps to seconds, by the lengths of the steps."""

    def __init__(self, seconds: np.ndarray) -> None:
        self.at = np.concatenate([[0.3], 0.3 + np.cumsum(seconds)])  # notes ahead of the beat begin after 0

    def __call__(self, step: int) -> float:
        return float(self.at[min(step, len(self.at) - 1)])


def _clock(piece: Piece, rng: np.random.Generator) -> _Curve:
    """Phrase arch: slow at the edges of phrases, faster within; the last bar slows down."""
    bpm = float(np.exp(rng.uniform(np.log(66), np.log(126))))
    if piece.style == "waltz":
        bpm *= 1.35
    depth, q, final = float(rng.uniform(0.05, 0.16)), 3.0, float(rng.uniform(0.5, 0.7))
    step = np.arange(piece.length)
    inside = (step % piece.phrase) / piece.phrase
    speed = 1 - depth * (2 * inside - 1) ** 2
    drift = np.interp(step, np.arange(0, piece.length + UNIT, UNIT), rng.normal(0, 0.012, piece.length // UNIT + 1))
    left = np.clip((step - (piece.length - 1.5 * piece.bar)) / (1.5 * piece.bar), 0, 1)
    speed = speed * (1 + drift) * (1 + (final**q - 1) * left) ** (1 / q)
    return _Curve(60.0 / bpm / UNIT / speed)


def _weight(note: Written, bar: int) -> float:
    """1 where a bar begins, 0 on other beats, less between them."""
    if note.start % bar == 0:
        return 1.0
    return 0.0 if note.start % UNIT == 0 else -0.5


def _held(note: Written, tops: dict[int, Written], legato: float, rng: np.random.Generator) -> float:
    """The share of its length that a key is held: shorter for a repeated note, legato for others of the melody."""
    if note.hand == 0:
        following = tops.get(note.start + note.duration)
        if following and following.pitch == note.pitch:
            return 0.75
        return legato * (1.0 + float(rng.normal(0, 0.03)))
    return (0.9 if note.hand == 2 else 0.8) + float(rng.normal(0, 0.05))


def _pedal(piece: Piece, clock: _Curve, rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """Legato pedalling: lifted when a harmony begins and pressed soon after; some performances have no pedal."""
    if rng.random() < 0.15 or (piece.style == "alberti" and rng.random() < 0.6):
        return ()
    ends = [*piece.harmonies[1:], piece.length]
    found = []
    for begin, end in zip(piece.harmonies, ends, strict=True):
        down = clock(begin) + float(rng.normal(0.14, 0.03)) * (begin > 0)
        up = clock(end) + float(rng.normal(0.02, 0.01))
        down, up = round(max(0.0, down) * PER_SECOND), round(up * PER_SECOND)
        if found and down <= found[-1][1]:
            down = found[-1][1] + 10
        if up > down:
            found.append((down, up))
    return tuple(found)
