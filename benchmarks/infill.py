"""Two bars of held-out chorales taken out and written anew: does it help to know what comes after them?

    python -m benchmarks.infill [--model chorales] [--pieces 20] [--particles 64] [--voices "alto tenor"]

For each piece, two bars in its middle. Printed are, as means over the pieces:

- nats per token of what Bach wrote there, given what comes before (left to right), and given both sides. The second is
  −log P(gap, after | before) + log P(after | before) per token of the gap; the particles estimate P(after | before).
  They find too small a value rather than too large a one, so that the figure is rather too low with few of them.
- nats per token of the 64 tokens after the gap, with Bach's bars before them, with new ones, and with new ones that
  were written left to right (one particle).
- faults of voice leading per bar, in these bars and a beat on either side: Bach's, and new ones with the settings that
  the recipe has (temperature, rules), written with both sides in mind and left to right.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import torch

from components.bundle import Bundle
from components.datasets.store import Store
from components.encodings.meaning import meaning_of
from components.encodings.timeline import gaps
from components.encodings.vocabulary import BOS, EOS
from components.evaluation.voice_leading import faults
from components.generation.constraint_texts import parse_constraints
from components.generation.constraints import Constrained
from components.generation.infill import AHEAD, Particles
from components.generation.region import Piece, units
from components.generation.settings import Sampled, Settings
from components.runs.generate import open_model
from components.runs.places import places
from components.runs.record import find_run
from components.score import Note, Score
from components.tasks.surprise import surprise

AFTER = 64  # tokens after the gap whose likelihood is shown
BARS = 2


def held_out(run_id: str) -> list[np.ndarray]:
    """The ids [T] of the test pieces of the model's run, without BOS and EOS."""
    dataset = find_run(run_id, places()).dataset
    return [np.asarray(ids[1:-1], dtype=np.int64) for ids in Store.open(dataset.path).split("test")]


def fill(bundle: Bundle, piece: Piece, settings: Settings, seed: int) -> tuple[Sampled, float]:
    """The piece with the gap filled, and the estimated log-likelihood of what comes after it."""
    encoding = bundle.encoding
    if settings.constraints:
        encoding = Constrained(encoding, parse_constraints(settings.constraints, meaning_of(encoding)))
    particles = Particles(bundle.model, encoding, piece, settings, np.random.default_rng(seed))
    particles.run(lambda done: None)
    evidence = particles.evidence()
    return particles.chosen(), evidence


def faults_near(score: Score, start: int, stop: int) -> int:
    """Faults in the steps from a beat before `start` to a beat after `stop`."""
    start, stop = start - score.steps_per_beat, stop + score.steps_per_beat

    def cut(note: Note) -> Note:
        first, last = max(note.start, start), min(note.start + note.duration, stop)
        return Note(first, last - first, note.pitch)

    parts = [
        replace(p, notes=tuple(cut(n) for n in p.notes if n.start < stop and n.start + n.duration > start))
        for p in score.parts
    ]
    return sum(faults(replace(score, parts=tuple(parts))).values())


def measure(bundle: Bundle, ids: np.ndarray, text: str, particles: int, seed: int) -> dict[str, float]:
    encoding, piece = bundle.encoding, Piece.read(text, bundle.encoding, ids)
    free = piece.free
    last = gaps(piece.timeline, free)[-1].last
    read = slice(int(np.flatnonzero(free)[0]), last + AHEAD if last + AHEAD < len(ids) else len(ids) + 1)
    whole = surprise(bundle.model, encoding, np.array([BOS, *ids, EOS]))

    def after(made: np.ndarray) -> float:
        return float(surprise(bundle.model, encoding, np.array([BOS, *made, EOS]))[last : last + AFTER].mean())

    start, stop = int(piece.timeline.start[free].min()), int(piece.timeline.stop[free].max())
    own = {name: v for name, v in bundle.recipe["generation"].items() if name not in ("count", "particles")}
    found = {
        "gap, left to right": float(whole[: len(ids)][free].mean()),
        "after, Bach's bars": after(ids),
        "faults per bar, Bach": faults_near(encoding.decode(ids), start, stop) / BARS,
    }
    for name, count in (("both sides", particles), ("left to right", 1)):
        made, evidence = fill(bundle, piece, Settings(particles=count), seed)
        found[f"after, {name}"] = after(made.ids)
        if count > 1:
            found["gap, both sides"] = (float(whole[read].sum()) + evidence) / int(free.sum())
        made, _ = fill(bundle, piece, Settings(**own, particles=count), seed)
        found[f"faults per bar, {name}"] = faults_near(encoding.decode(made.ids), start, stop) / BARS
        if not (made.ids[~free] == ids[~free]).all():
            raise AssertionError("what was to stay has changed")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="chorales")
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--particles", type=int, default=64)
    parser.add_argument("--voices", default="")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    opened = open_model(asked.model)
    rows: dict[str, list[float]] = defaultdict(list)
    for number, ids in enumerate(held_out(opened.run_id)[: asked.pieces]):
        bars, _ = units(opened.bundle.encoding.decode(ids))
        first = max(bars) // 2
        text = f"bars {first}-{first + BARS - 1}" + (f", {asked.voices}" if asked.voices else "")
        found: dict[str, Any] = measure(opened.bundle, ids, text, asked.particles, number)
        for name, value in found.items():
            rows[name].append(value)
        print(f"piece {number + 1}, {text}: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()), flush=True)
    for name in sorted(rows):
        print(f"{name:32} {fmean(rows[name]):.3f}  ({len(rows[name])} pieces)")


if __name__ == "__main__":
    main()
