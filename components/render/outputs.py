"""Files for generated items: a text as .txt; ink as .svg and .png; a score as .mid, .musicxml, .wav, .png and a
listening page, and engraved as .svg if Verovio is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.ink import Ink
from components.render.layout import bars
from components.render.piece import Piece
from components.render.record import Record, with_record
from components.render.soundfont import Soundfont
from components.score import Score, names


def write_texts(texts: Sequence[str], path: Path, record: Record) -> None:
    """Write all texts to one file: one per line, or each under a numbered heading if any has several lines."""
    if any("\n" in text for text in texts):
        content = "\n".join(f"=== {number} ===\n{text.rstrip()}\n" for number, text in enumerate(texts, 1))
    else:
        content = "".join(f"{text}\n" for text in texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(with_record(content, record), encoding="utf-8", newline="\n")


def playable(items: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The generated items, scores cut to the limit of audio, and warnings about cut scores and scores without notes."""
    from components.render.audio import LIMIT_SECONDS

    kept, warnings = [], []
    for number, item in enumerate(items, 1):
        if isinstance(item, Score):
            minutes = item.length_seconds / 60
            if item.length_seconds > LIMIT_SECONDS:
                longest = int(item.length_steps * LIMIT_SECONDS / item.length_seconds)
                item = item.until(max((bar.start for bar in bars(item) if bar.start <= longest), default=0))
                warnings.append(f"piece {number} would last {minutes:.0f} minutes: cut off after {LIMIT_SECONDS // 60}")
            if not any(part.notes for part in item.parts):
                warnings.append(f"piece {number} has no notes")
        kept.append(item)
    return kept, warnings


def write_score(piece: Piece, base: Path, soundfont: Soundfont | None = None) -> list[Path]:
    """Write the score's files, `base` plus an extension each. Returns their paths.

    Every file carries the record; equal arguments give equal bytes. A score without steps gives no files. Drums and
    performances give no notation, since they aren't timed as notation.
    """
    item, record = piece.score, piece.record
    if not item.length_steps:
        return []
    from components.render.audio import page_audio, write_wav
    from components.render.engrave import can_engrave, write_svg
    from components.render.midi import write_midi
    from components.render.musicxml import write_musicxml
    from components.render.page import write_page
    from components.render.pianoroll import write_pianoroll

    base.parent.mkdir(parents=True, exist_ok=True)
    midi, sheet, wav, picture, page = (base.with_suffix(s) for s in (".mid", ".musicxml", ".wav", ".png", ".html"))
    write_midi(item, midi, record)
    write_wav(item, wav, record, soundfont=soundfont)
    write_pianoroll(item, picture, record)
    write_page(piece, page, page_audio(item, soundfont))
    if item.timing != "written" or item.only_drums:
        return [midi, wav, picture, page]
    write_musicxml(item, sheet, record)
    paths = [midi, sheet, wav, picture, page]
    if can_engrave():
        paths.append(base.with_suffix(".svg"))
        write_svg(sheet, paths[-1], record)
    return paths


def write_ink(item: Ink, base: Path, *, title: str, record: Record) -> list[Path]:
    """Write `base` with the extensions .svg and .png. Returns their paths. Both carry `record`; equal arguments give
    equal bytes."""
    from components.render.ink import write_png, write_svg

    base.parent.mkdir(parents=True, exist_ok=True)
    drawing, picture = base.with_suffix(".svg"), base.with_suffix(".png")
    write_svg(item, drawing, title, record)
    write_png(item, picture, record)
    return [drawing, picture]


def described(item: Any) -> str:
    """A short text about an item: a text itself, the label of ink, the notes of a score's voices."""
    if isinstance(item, str | Ink):
        return str(item)
    voices = (f"{part.name}: {' '.join(names(part, 24))}" for part in item.parts)
    if item.timing == "seconds":
        return "\n".join([f"{item.length_seconds:.1f} seconds", *voices])
    count = sum((bar.end - bar.start) / bar.full for bar in bars(item))
    return "\n".join([f"{item.metre[0]}/{item.metre[1]}, {count:.1f} bars", *voices])
