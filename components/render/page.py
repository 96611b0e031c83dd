"""The listening page: one self-contained HTML file with the audio, the notes and the provenance. It loads nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path

from components.errors import UserError
from components.harmony import format_chord
from components.render.layout import PALETTE, Rows, bars, beat_steps, lanes, loudness, pictured, score_end
from components.render.piece import Piece
from components.render.record import embed_marker, printable
from components.score import Score

AUDIO_LIMIT_BYTES = 64 * 1024 * 1024
_HERE = Path(__file__).parent


def write_page(piece: Piece, path: Path, audio: bytes) -> None:
    """Write a self-contained page that plays `audio` (a wav of the score, see `page_audio`) along a piano roll.

    It works from a file, in a sandboxed frame, and without scripts (as a picture with the browser's own player).
    `facts` are shown in order as name and value; all text is escaped. The `marked` stretches (first step, end step) are
    highlighted, and each of the `sections` (letter, first step, end step) has a background colour by its letter. The
    record is the page's last script block, as data.

    Raises:
        UserError: the score has no steps or can't be drawn, `audio` isn't a wav or exceeds 64 MB, or the
            record isn't JSON-ready.
    """
    score, title, record = piece.score, piece.title, piece.record
    steps, where = score_end(score), f"score {title[:60]!r}"
    if not steps:
        raise UserError("contains nothing to play", where=where, hint="generate at least one bar")
    for wrong, what in (
        (audio[:4] != b"RIFF", "isn't a wav file"),
        (len(audio) > AUDIO_LIMIT_BYTES, f"has {len(audio):,} bytes; at most {AUDIO_LIMIT_BYTES:,} are allowed"),
    ):
        if wrong:
            raise UserError(f"the page's audio {what}", where=where, hint="make it with page_audio(score)")
    score, rows = pictured(score)
    low, high = rows.low, rows.high
    script = "".join((_HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("page", "select"))
    timing = {
        "seconds": steps / score.steps_per_beat * 60.0 / score.tempo_bpm,
        "steps": steps,
        "upbeat": score.upbeat_steps % score.bar_steps,
        "bar": score.bar_steps,
        "bars": [(bar.number, bar.start, bar.end, bar.beat) for bar in bars(score)],
        "beat": beat_steps(score),
        "unit": "second" if score.timing == "seconds" else "bar",
    }
    count = sum(len(part.notes) for part in score.parts)
    description = (
        f"Piano roll: {count} notes in {len(score.parts)} voices from {rows.name(low + 1)} to {rows.name(high - 1)}"
    )
    if rows.names:
        description = f"Drum grid: {count} hits on a kit of {len(rows.names)} pieces"
    values = {
        "title": _text(title) or "Untitled",
        "subtitle": _text(piece.subtitle),
        "audio": base64.b64encode(audio).decode(),
        "legend": "".join(
            f'<button type="button" class="{_class(voice)}" data-voice="{voice}" aria-pressed="false">'
            f"<i></i>{_text(part.name, 40) or f'Part {voice + 1}'}</button>"
            for voice, part in enumerate(score.parts)
        ),
        "beat": "second" if score.timing == "seconds" else "beat",
        "bar": "second" if score.timing == "seconds" else "bar",
        "names": " named" if rows.names else "",
        "keys": "".join(
            f'<span style="top:{100 * (high - pitch + 0.5) / (high - low + 1):.2f}%">{rows.name(pitch)}</span>'
            for pitch in range(low, high + 1)
            if rows.names or pitch % 12 in (0, 7)
        ),
        "numbers": _numbers(score, steps),
        "form": _form(piece.sections, steps),
        "chords": _chords(score, steps),
        "beats": str(-(-steps // timing["beat"])),
        "rows": str(high - low + 1),
        "steps": str(steps),
        "description": _text(description),
        "grid": _grid(score, rows) + _bands(piece, high - low + 1),
        "notes": _notes(score, high),
        "facts": "".join(
            f"<div><dt>{_text(name)}</dt><dd>{_text(value, 1000)}</dd></div>" for name, value in piece.facts.items()
        ),
        "score": json.dumps(timing),
        "script": script,
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "record": "" if record is None else embed_marker(record),
    }
    template = (_HERE / "page.html").read_text(encoding="utf-8")
    # in one pass, so that a value that looks like a placeholder isn't replaced
    page = re.sub("@@([a-z_]+)@@", lambda place: values[place.group(1)], template)
    Path(path).write_text(page, encoding="utf-8", newline="\n")


def _text(value: str, limit: int = 300) -> str:
    return html.escape(printable(str(value), limit))


def _class(voice: int) -> str:
    return f"v{voice % len(PALETTE)}"


def _numbers(score: Score, steps: int) -> str:
    """Bar numbers above the roll, fewer where they would overlap."""
    every = max(1, 4 * beat_steps(score) // (2 * score.bar_steps))  # very short bars: every second or fourth
    less = int(score.timing == "seconds")  # seconds are counted from 0
    return "".join(
        f'<span style="left:{100 * bar.start / steps:.3f}%">{bar.number - less}</span>'
        for bar in bars(score)
        if bar.number and ((bar.number == 1 and not less) or (bar.number - less) % every == 0)
    )


def _chords(score: Score, steps: int) -> str:
    """A row of chord symbols, each as wide as its duration; empty without chords."""
    shown = [chord for chord in sorted(score.chords) if 0 <= chord.start < steps]
    symbols = "".join(
        f'<span data-start="{chord.start}" data-end="{chord.start + chord.duration}" style="left:'
        f"{100 * chord.start / steps:.3f}%;max-width:{100 * min(chord.duration, steps - chord.start) / steps:.3f}%"
        f'">{_text(format_chord(chord))}</span>'
        for chord in shown
    )
    return f'<div class="chords" aria-hidden="true">{symbols}</div>' if shown else ""


def _form(sections: Sequence[tuple[str, int, int]], steps: int) -> str:
    """A row with the letter of each section above its bars; empty without sections."""
    spans = "".join(
        f'<span class="{colour}" style="left:{100 * start / steps:.3f}%;width:{100 * (stop - start) / steps:.3f}%">'
        f"{_text(letter, 3)}</span>"
        for (letter, start, stop), colour in zip(sections, _colours(sections), strict=True)
    )
    return f'<div class="form" aria-label="form">{spans}</div>' if sections else ""


def _bands(piece: Piece, height: int) -> str:
    """The background colours of the sections, and the marked stretches."""
    colours = zip(piece.sections, _colours(piece.sections), strict=True)
    bands = [(f"section {colour}", start, stop) for (_, start, stop), colour in colours]
    return "".join(
        f'<rect class="{kind}" x="{start}" y="0" width="{stop - start}" height="{height}"/>'
        for kind, start, stop in [*bands, *(("marked", *span) for span in piece.marked)]
    )


def _colours(sections: Sequence[tuple[str, int, int]]) -> list[str]:
    """A CSS class for each section, equal for equal letters; not the classes of the first voices."""
    letters = list(dict.fromkeys(letter for letter, _, _ in sections))
    return [_class(len(PALETTE) // 2 + letters.index(letter)) for letter, _, _ in sections]


def _grid(score: Score, drawn: Rows) -> str:
    low, high = drawn.low, drawn.high
    steps, rows = score_end(score), high - low + 1
    stripes = "".join(f"M0 {high - row}h{steps}v1H0z" for row in range(low, high + 1) if drawn.is_shaded(row))
    octaves = "".join(f"M0 {high - row + 1}h{steps}" for row in range(low, high + 1) if row % 12 == 0 and row)
    beats, lines = [], []
    for bar in bars(score):
        beats += [f"M{step} 0v{rows}" for step in bar.beats[1:]]
        lines += [f"M{bar.start} 0v{rows}"] if bar.start else []
    return (
        f'<path class="stripe" d="{stripes}"/><path class="line" d="{octaves}"/>'
        f'<path class="line beats" d="{"".join(beats)}"/><path class="line bars" d="{"".join(lines)}"/>'
        + "".join(
            f'<rect class="pedal" x="{down}" y="{rows - 0.35:g}" width="{up - down}" height="0.3"/>'
            for part in score.parts
            for down, up in part.pedal
        )
    )


def _notes(score: Score, high: int) -> str:
    """One group per voice; voices in unison share a row."""
    groups = []
    for voice, notes in enumerate(lanes(score)):
        boxes = []
        for note, lane, count in notes:
            top, height = high - note.pitch + lane / count, 1 / count
            solid = "" if score.timing == "written" else f' fill-opacity="{loudness(note):.2f}"'
            boxes.append(f'<rect x="{note.start}" y="{top:g}" width="{note.duration}" height="{height:g}"{solid}/>')
        groups.append(f'<g class="voice {_class(voice)}" data-voice="{voice}">{"".join(boxes)}</g>')
    return "".join(groups)
