"""Generated items in responses: as text, as notes while they are sampled, and as files until they expire."""

from __future__ import annotations

import base64
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from components.bundle import Generation
from components.encodings.base import Encoding
from components.errors import UserError
from components.harmony import format_chord
from components.ink import Ink
from components.provenance import digest_json
from components.render.ink import svg
from components.render.piece import Piece
from components.score import Score, spoken
from components.serving.problems import Limits, NotFound
from components.serving.requests import Generated, Item
from components.use.opening import Opened
from components.use.writing import Sketch, piece, record_of, sketch

OF_SCORES = {"mid": "audio/midi", "wav": "audio/wav", "html": "text/html; charset=utf-8"}
OF_INK = {"svg": "image/svg+xml"}
FILES = {**OF_SCORES, **OF_INK}


class PieceCache:
    """Cache of the pieces of the last requests. Their files are rendered on demand."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.rendering = threading.Lock()  # one file at a time: a long piece's sound takes seconds
        self._lock = threading.Lock()
        self._pieces: OrderedDict[str, list[Piece] | list[Sketch]] = OrderedDict()

    def keep(self, key: str, pieces: list[Piece] | list[Sketch]) -> None:
        with self._lock:
            self._pieces[key] = pieces
            self._pieces.move_to_end(key)
            while len(self._pieces) > self.limits.kept:
                self._pieces.popitem(last=False)

    def file(self, key: str, number: int, kind: str) -> bytes:
        """A file of a piece, the same bytes every time.

        Raises:
            NotFound: there is no such piece, or it has expired; UserError: it is too long for audio.
        """
        with self._lock:
            pieces = self._pieces.get(key, [])
        if not 1 <= number <= len(pieces) or (kind in OF_INK) != isinstance(pieces[number - 1], Sketch):
            raise NotFound("there is no such piece, or it has expired", where="generated", hint="generate it again")
        one = pieces[number - 1]
        if isinstance(one, Sketch):
            return svg(one.ink, one.title, one.record).encode()
        if kind != "mid" and one.score.length_seconds > self.limits.audio_seconds:
            what = f"the piece is too long to play: {one.score.length_seconds / 60:.0f} minutes"
            raise UserError(what, where="generated", hint="download the .mid file instead")
        return rendered(one, kind)


def rendered(piece: Piece, kind: str) -> bytes:
    """A score's file. `kind`: a key of OF_SCORES."""
    from components.render.audio import page_audio, write_wav
    from components.render.midi import write_midi
    from components.render.page import write_page

    score, record = piece.score, piece.record
    with tempfile.TemporaryDirectory(prefix="reprise-") as folder:
        path = Path(folder) / f"piece.{kind}"
        if kind == "mid":
            write_midi(score, path, record)
        elif kind == "wav":
            write_wav(score, path, record)
        else:
            write_page(piece, path, page_audio(score))
        return path.read_bytes()


def answer(opened: Opened, made: Generation, cache: PieceCache) -> Generated:
    """The response to a request to generate."""
    settings = {name: list(v) if isinstance(v, tuple) else v for name, v in made.settings.items()}
    key = digest_json({**record_of(opened, made), "settings": settings})[:24]
    items: list[Item] = []
    pieces: list[Any] = []
    for number, (item, sampled) in enumerate(zip(made.items, made.sampled, strict=True), 1):
        nats = float(sampled.nats_per_token)
        about = {"number": number, "nats_per_token": nats if np.isfinite(nats) else None, "ended": sampled.ended}
        if isinstance(item, Score):
            pieces.append(piece(opened, made, number))
            files = {kind: f"/generated/{key}/{number}.{kind}" for kind in OF_SCORES} if item.length_steps else {}
            midi = base64.b64encode(rendered(pieces[-1], "mid")).decode() if files else None
            given = list(opened.bundle.kept(sampled).get("given", ())) if files else []
            shown = {"score": as_json(item), "midi_base64": midi, "files": files, "given": given or None}
            items.append(Item(**about, text=spoken(item), **shown))
        elif isinstance(item, Ink):
            pieces.append(sketch(opened, made, number))
            files = {kind: f"/generated/{key}/{number}.{kind}" for kind in OF_INK}
            items.append(Item(**about, text=str(item), score=None, midi_base64=None, files=files, given=None))
        else:
            text = item if isinstance(item, str) else " ".join(map(str, item))
            items.append(Item(**about, text=text, score=None, midi_base64=None, files={}, given=None))
    if pieces:
        cache.keep(key, pieces)
    return Generated(
        model=opened.name,
        version=opened.version,
        seed=made.seed,
        settings=settings,
        warnings=made.warnings,
        items=items,
    )


def as_json(score: Score) -> dict[str, Any]:
    """A score as JSON, for the playground."""
    return {
        "steps_per_beat": score.steps_per_beat,
        "metre": list(score.metre),
        "upbeat_steps": score.upbeat_steps,
        "length_steps": score.length_steps,
        "tempo_bpm": score.tempo_bpm,
        "parts": [
            {"name": part.name, "notes": [[n.start, n.duration, n.pitch] for n in part.notes]} for part in score.parts
        ],
        "chords": [[chord.start, chord.duration, format_chord(chord)] for chord in score.chords],
    }


class Shown:
    """The state of a stream: what was sent of each item, so that only changes are sent.

    A text's event holds the new text, {number, text}, or the whole text if an earlier part has changed, {number, all}.
    A score's event holds the notes that are new or longer: {number, length_steps, notes: [[part, start, duration,
    pitch], …]}.
    """

    def __init__(self, encoding: Encoding, tell: Callable[[dict[str, Any]], None]) -> None:
        self.encoding, self.tell = encoding, tell
        self._texts: dict[int, str] = {}
        self._notes: dict[int, dict[tuple[int, int, int], int]] = {}
        self._lengths: dict[int, int] = {}

    def __call__(self, sequences: list[np.ndarray]) -> None:
        for number, ids in enumerate(sequences, 1):
            if len(ids) == self._lengths.get(number):
                continue
            self._lengths[number] = len(ids)
            item = self.encoding.decode(ids)
            if isinstance(item, Score):
                self._score(number, item)
            else:
                self._text(number, item if isinstance(item, str) else " ".join(map(str, item)))

    def _text(self, number: int, text: str) -> None:
        before = self._texts.get(number, "")
        self._texts[number] = text
        if not text.startswith(before):
            self.tell({"number": number, "all": text})
        elif text != before:
            self.tell({"number": number, "text": text[len(before) :]})

    def _score(self, number: int, score: Score) -> None:
        known, new = self._notes.setdefault(number, {}), []
        for voice, part in enumerate(score.parts):
            for note in part.notes:
                place = (voice, note.start, note.pitch)
                if known.get(place) != note.duration:
                    known[place] = note.duration
                    new.append([voice, note.start, note.duration, note.pitch])
        if new:
            self.tell({"number": number, "length_steps": score.length_steps, "notes": new})
