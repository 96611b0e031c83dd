"""Writing generated items to files, each with a record of how it was made."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.bundle import Generation
from components.errors import UserError
from components.generation.region import read_regions
from components.ink import Ink
from components.render.outputs import write_ink, write_score, write_texts
from components.render.piece import Piece, Spans
from components.render.record import printable
from components.render.soundfont import Soundfont
from components.score import Score
from components.use.form import lineage, outside, spans_of, told
from components.use.opening import Opened

SHOWN = ("temperature", "top_k", "top_p", "chords", "rewrite", "constraints")  # settings shown on a piece's page


@dataclass(frozen=True)
class Sketch:
    """Ink with its record."""

    ink: Ink
    title: str
    record: dict[str, Any]


def record_of(opened: Opened, made: Generation) -> dict[str, Any]:
    """The record from which `reprise replay` regenerates a file."""
    return {
        "model": opened.name,
        "version": opened.version,
        "run_id": opened.run_id,
        "weights_sha256": opened.bundle.weights_digest,
        "seed": made.seed,
        "settings": made.settings,
    }


def piece(opened: Opened, made: Generation, number: int, soundfont: Soundfont | None = None) -> Piece:
    """The generated score with this number, from 1."""
    sampled, title = made.sampled[number - 1], _title(opened, number)
    record = record_of(opened, made)
    if soundfont:
        record["soundfont"] = {"name": printable(soundfont.name), "sha256": soundfont.digest}
    drawn = math.isfinite(sampled.nats_per_token)
    facts = {
        "model": f"{opened.name} v{opened.version}" if opened.version else f"run {opened.run_id[:8]}",
        "seed": f"{made.seed}, number {number} of {len(made.items)}",
        **{name.replace("_", " "): shown(made.settings[name]) for name in SHOWN if made.settings.get(name)},
        **({"surprise": f"{sampled.nats_per_token:.3f} nats per {opened.bundle.encoding.unit}"} if drawn else {}),
        "ending": "complete" if sampled.ended else "cut off at max_length",
        "trained on": str(opened.bundle.info.get("data", {}).get("name", "")),
        **({"played by": soundfont.name} if soundfont else {}),
    }
    subtitle = f"written by a recurrent network, seed {made.seed}"
    score = replace(made.items[number - 1], title=title)
    record["number"] = number
    marked = rewritten(opened, made, score)
    spans: Spans = ()
    if made.sections:
        spans, record["sections"] = outside(spans_of(score, made.sections), marked), lineage(score, made.sections)
        facts |= told(score, made.sections)
    return Piece(score, title, subtitle, facts, record, marked, spans)


def sketch(opened: Opened, made: Generation, number: int) -> Sketch:
    """The generated ink with this number, from 1."""
    ink = made.items[number - 1]
    return Sketch(ink, ink.text or _title(opened, number), {**record_of(opened, made), "number": number})


def _title(opened: Opened, number: int) -> str:
    return f"{opened.name.replace('-', ' ').capitalize()} no. {number}"


def rewritten(opened: Opened, made: Generation, score: Score) -> tuple[tuple[int, int], ...]:
    """The rewritten stretches of a piece, in the steps of the score: a band may have a finer grid."""
    if not made.settings.get("rewrite"):
        return ()
    encoding, ids = opened.bundle.encoding, np.asarray(made.settings["given"])
    before = encoding.decode(ids)
    regions = read_regions(made.settings["rewrite"], before, encoding.timeline(ids).voices)
    scale = score.steps_per_beat / before.steps_per_beat
    return tuple((round(region.start * scale), round(region.stop * scale)) for region in regions)


def write(opened: Opened, made: Generation, folder: Path, soundfont: Soundfont | None = None) -> list[Path]:
    """Write all generated items to files. Scores are played by the `soundfont`, or by the built-in synthesiser.

    Raises:
        UserError: a soundfont was given for texts or ink.
    """
    if soundfont and not isinstance(made.items[0], Score):
        of = "text" if isinstance(made.items[0], str) else "strokes"
        raise UserError(f"can't be used, since {opened.name} generates {of}, not music", where="soundfont")
    if isinstance(made.items[0], Ink):
        drawn = [sketch(opened, made, number) for number in range(1, len(made.items) + 1)]
        places = [folder / f"{opened.name}-{number}" for number in range(1, len(drawn) + 1)]
        return [
            path
            for one, place in zip(drawn, places, strict=True)
            for path in write_ink(one.ink, place, title=one.title, record=one.record)
        ]
    if isinstance(made.items[0], str):
        path = folder / f"{opened.name}.txt"
        write_texts(made.items, path, record_of(opened, made))
        return [path]
    paths: list[Path] = []
    for number in range(1, len(made.items) + 1):
        paths += write_score(piece(opened, made, number, soundfont), folder / f"{opened.name}-{number}", soundfont)
    return paths


def shown(value: Any) -> str:
    """A setting as readable text."""
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
