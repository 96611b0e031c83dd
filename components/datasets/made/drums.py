"""Generated drum patterns with human timing: velocities, swing, and hits before and after the beat, by rules. See
`drum_styles`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from components.datasets.made.base import MadeReader
from components.datasets.made.drum_styles import STYLES, Hit, Style, fill, groove
from components.drums import KEYS, KIT
from components.encodings.notes import settled
from components.provenance import digest_json
from components.score import Note, Part, Score, note_columns

FINE = 96  # steps in a quarter note
JITTER_MS = 5.0  # standard deviation of a hit's time; half of it is a slow drift, as found by Hennig et al. 2011
FLAM = 0.05  # share of backbeats


@dataclass(kw_only=True, eq=False)
class MadeDrums(MadeReader):
    """`count` patterns of `bars` bars in several styles (rock, funk, shuffle, jazz, bossa, …), each with a groove that
    varies from bar to bar, a fill before every fourth or eighth bar line, and a crash after it.

    Patterns with the same hits are in the same split, whatever their velocities and times.
    """

    gives_way, files_by = True, "drums"

    count: Annotated[int, Field(gt=0, le=100_000)] = 1200
    bars: Annotated[int, Field(ge=4, le=64)] = 8

    def made(self, number: int, rng: np.random.Generator) -> Score:
        name = list(STYLES)[number % len(STYLES)]
        style = STYLES[name]
        bpm = round(float(np.exp(rng.uniform(*np.log(style.tempo)))))
        hits = [(bar, hit) for bar, row in enumerate(_written(style, self.bars, rng)) for hit in row]
        metre = style.metre
        bar = metre[0] * 4 * FINE // metre[1]
        part = Part("Drums", _played(hits, style, bar, bpm, rng), role="drums")
        title = f"{name.replace('_', ' ')} {number + 1}"
        return Score((part,), FINE, metre, 0, self.bars * bar, float(bpm), title, timing="played")

    def group(self, item: Score) -> str:
        start, _, pitch, _ = note_columns(item.parts[0].notes)
        step = np.rint(start / (FINE // 4))
        return digest_json([list(item.metre), sorted(zip(step.tolist(), pitch.tolist(), strict=True))])


def _written(style: Style, bars: int, rng: np.random.Generator) -> list[list[Hit]]:
    """The hits of each bar on the grid: a groove, slightly varied, with fills and crashes."""
    base, every = groove(style, rng), int(rng.choice([4, 8]))
    found: list[list[Hit]] = []
    crash = bool(rng.random() < 0.5)
    for bar in range(bars):
        row = base if rng.random() < 0.6 else groove(style, rng, base)
        if (bar + 1) % every == 0:
            row = fill(style, row, rng)
        if crash and style.crash:
            row = [hit for hit in row if hit.place or hit.piece not in ("closed hi-hat", "ride")]
            row = [*row, Hit(0, "crash", 1.0)]
        crash = (bar + 1) % every == 0 and bool(rng.random() < 0.8)
        found.append(sorted(row))
    return found


def _played(
    hits: list[tuple[int, Hit]], style: Style, bar: int, bpm: int, rng: np.random.Generator
) -> tuple[Note, ...]:
    """Hits with the times and forces of a drummer: swung off-beats, pieces slightly before or after the beat by an
    amount drawn per pattern, a slow drift and random jitter."""
    ms = FINE * bpm / 60_000.0  # steps in a millisecond
    swing = style.swing * float(rng.uniform(0.8, 1.1))  # share of half the pair; 1/3 is triplet swing
    swing *= float(np.clip(1.25 - bpm / 480, 0.6, 1.1))  # less swing at a higher tempo (Friberg and Sundström 2002)
    lag = {piece: float(rng.normal(style.lag.get(piece, 0.0), 3.0)) for piece in KIT}
    touch = {piece: float(rng.normal(0, 4)) for piece in KIT}
    drift, energy, level = 0.0, 0.0, float(rng.normal(0, 5))
    unit = FINE // style.unit  # steps of the swung unit: eighths or sixteenths
    notes: list[Note] = []
    for number, hit in sorted(hits, key=lambda one: (one[0], one[1])):
        drift = 0.9 * drift + float(rng.normal(0, JITTER_MS * 0.3))
        energy = 0.9 * energy + float(rng.normal(0, 1.5))
        late = swing * unit if style.swing and (hit.place * FINE // 4) % (2 * unit) == unit else 0.0
        wanders = drift + lag[hit.piece] + float(rng.normal(0, JITTER_MS * 0.8))
        start = number * bar + hit.place * FINE // 4 + late + wanders * ms
        velocity = 12 + 105 * hit.force + level + touch[hit.piece] + energy + float(rng.normal(0, 5))
        key = KEYS[KIT.index(hit.piece)]
        start_step, loud = max(0, round(start)), int(np.clip(round(velocity), 6, 127))
        notes.append(Note(start_step, FINE // 8, key, loud))
        if hit.piece == "snare" and hit.force > 0.75 and start_step > 4 and rng.random() < FLAM:
            notes.append(Note(start_step - max(2, round(25 * ms)), FINE // 8, key, max(6, loud // 3)))
    return tuple(settled(notes))
