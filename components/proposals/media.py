"""Proposals for music, recordings and videos."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from components.datasets.files.folders import ending
from components.datasets.media.audio import WavReader, read_wav
from components.datasets.media.strokes import StrokesReader
from components.datasets.media.transcripts import Transcripts
from components.datasets.media.video import VIDEOS
from components.datasets.music.performances import KINDS as PLAYED
from components.datasets.music.reader import KINDS as SCORES
from components.datasets.music.rolls import ARRAYS, PICKLES
from components.datasets.series.labelled import npy_shape
from components.errors import UserError
from components.proposals.base import Look, Proposal, Unlike, pair

TABLES = (".csv", ".tsv", ".txt", ".tab")
MOST_SOUNDS = 20_000  # recordings to look up in a table of transcripts
KEYS = (88, 128)
MOST_LOOKED_AT = 64 << 20  # bytes to read of a file of strokes to find its first drawing


def rolls(look: Look) -> Proposal:
    wanted = (".json", ".mat", ".npz", ".npy", *PICKLES)
    found = look.most(wanted, "no .json, .mat, .npz or .npy file of piano rolls")
    first = found[0]
    if ending(first) == ".json" and not _json_rolls(look):
        raise Unlike("JSON, but not piano rolls: lists of pieces, each a list of frames, each a list of MIDI pitches")
    if ending(first) == ".npy" and (npy_shape(first) or (0,))[-1] not in KEYS:
        raise Unlike(f"an array of shape {npy_shape(first)}, whose frames don't have 88 or 128 keys")
    form = {".mat": "a MATLAB file", ".json": "JSON"}.get(ending(first), f"{ending(first)} arrays")
    pieces = 200 if ending(first) in ARRAYS else max(1, look.characters() // 3000)
    return Proposal(
        "piano rolls: the sounding keys of each frame",
        f"{form} with pieces of frames",
        "jsb-frames",
        {"reader": "rolls"},
        {"kind": "pianoroll", "steps_per_beat": 1},
        {"kind": "frame_model"},
        pieces,
    )


def melody(look: Look) -> Proposal:
    return _music(
        look,
        "its melody over chords",
        "lead-sheets",
        {"parts": "melody"},
        {"kind": "lead_sheet", "planned": True, "relative": True},
        {"kind": "music"},
    )


def events(look: Look) -> Proposal:
    """All parts. Uses the model and training settings of chorales, whose pieces have a similar length."""
    how = {"kind": "events"}, {"kind": "language_model"}
    return _music(look, "all its instruments", "chorales", {}, *how, generation={"constraints": None})


def chorales(look: Look) -> Proposal:
    return _music(look, "four voices", "chorales", {}, {"kind": "chorale"}, {"kind": "language_model"})


def drums(look: Look) -> Proposal:
    return _played(look, "drums")


def piano(look: Look) -> Proposal:
    return _played(look, "piano")


def _played(look: Look, recipe: str) -> Proposal:
    """Drums or piano from MIDI files; only chosen with `--as`, as the files aren't opened."""
    found = look.most(PLAYED)
    encoding = {"drums": {"kind": "drums"}, "piano": {"kind": "performance", "planned": True}}[recipe]
    return Proposal(
        f"MIDI ({len(found):,} files): {recipe} as played",
        "the files' endings",
        recipe,
        {"reader": recipe},
        encoding,
        {"kind": "language_model"},
        len(found),
        likely=False,
    )


def _music(look: Look, of: str, like: str, data: dict, encoding: dict, task: dict, **changes: dict) -> Proposal:
    found = look.most(SCORES)
    counted = Counter(map(ending, found))
    listed = ", ".join(f"{count:,} × {one}" for one, count in counted.most_common(4))
    tunes = sum(sample.text.count("\nX:") + 1 for path, sample in look.texts if ending(path) == ".abc")
    return Proposal(
        f"music ({listed}): {of}",
        "the files' endings",
        like,
        {"reader": "music", **data},
        encoding,
        task,
        max(len(found), tunes),
        notes=("`reprise ingest` with --report shows what is read from each file",),
        **changes,
    )


def strokes(look: Look) -> Proposal:
    found = look.most(StrokesReader.endings)
    try:
        first = next(StrokesReader(found[:1], max_bytes=MOST_LOOKED_AT).items())
    except (UserError, StopIteration) as error:
        raise Unlike(error.what if isinstance(error, UserError) else "no drawing in it") from None
    texts = bool(first.text) and ending(found[0]) == ".xml"
    return Proposal(
        "pen strokes, one piece per file" if ending(found[0]) == ".xml" else "pen strokes, one piece per line",
        f"{found[0].name} begins with {first}",
        "handwriting",
        {"reader": "strokes"},
        {"kind": "strokes", "texts": texts},
        {"kind": "stroke_model"},
        len(found) if ending(found[0]) == ".xml" else look.lines(),
        generation={"prompt": first.text if texts else None},
    )


def recordings(look: Look) -> Proposal:
    found = look.having(WavReader.endings) or [path for path in look.files if ending(path) in WavReader.endings]
    if not found:
        raise Unlike("no .wav files")
    unread: list[str] = []
    try:
        said, why = _transcripts(look, found, unread) or _names(found)
    except Unlike as unlike:
        raise Unlike(f"{unlike}{f' ({unread[0]})' if unread else ''}") from None
    try:
        rate = min(16_000, max(1000, read_wav(found[0]).rate_hz))
    except UserError as error:
        raise Unlike(f"{found[0].name}: {error.what}") from None
    return Proposal(
        f"{len(found):,} recordings with their texts",
        why,
        "speech",
        {"reader": "wav", **said},
        pair({"kind": "mel", "rate_hz": rate, "stack": 2}, "characters"),
        {"kind": "transcription"},
        len(found),
    )


def videos(look: Look) -> Proposal:
    found = look.most(VIDEOS, f"no videos ({', '.join(VIDEOS)})")
    labels = sorted({path.parent.name for path in found})
    if len(labels) < 2:
        raise Unlike("videos without labels: put them into one folder per label")
    return Proposal(
        f"{len(found):,} videos, {len(labels)} labels",
        f"the labels are the folders' names: {', '.join(labels[:6])}",
        "moving-shapes",
        {"reader": "video"},
        pair({"kind": "pictures"}, "labels"),
        {"kind": "classification"},
        len(found),
    )


def _transcripts(look: Look, sounds: list[Path], unread: list[str]) -> tuple[dict, str] | None:
    """The settings for the table of transcripts, and the reason; None if there is no table. `unread` gets why tables
    beside the recordings can't be read."""
    root = look.path if look.path.is_dir() else look.path.parent
    found: dict[str, tuple[int, dict]] = {}
    for folder in dict.fromkeys((root, root.parent, sounds[0].parent)):
        there = sorted(folder.iterdir()) if os.access(folder, os.R_OK) else []
        tables = [path for path in there if path.suffix.lower() in TABLES and path.is_file()]
        for path in tables[:20]:
            for settings in ({}, {"text_column": "2"}):
                try:
                    count = len(Transcripts(path, sounds[:MOST_SOUNDS], **settings).texts)
                except UserError as error:
                    if path.parent in (root, sounds[0].parent):
                        unread.append(f"{Path(error.where or path).name}: {error.what}")
                    continue
                if count:  # the reader looks for the name in the given folder and in its parent
                    name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
                    found.setdefault(name, (count, settings))
    if not found:
        return None
    name, (count, settings) = max(found.items(), key=lambda one: one[1][0])
    others = [other for other in found if other != name]
    more = f"; so have {', '.join(others[:3])} (data.transcripts)" if others else ""
    return {"transcripts": name, **settings}, f"{name} has a text for {count:,} of them{more}"


def _names(sounds: list[Path]) -> tuple[dict, str]:
    """The pattern of file names that begin with the transcript, and the reason."""
    parts = [path.stem.split("_") for path in sounds]
    width = len(parts[0])
    said = Counter(part[0] for part in parts)
    if width < 2 or any(len(part) != width for part in parts) or len(said) < 2 or 2 * len(said) > len(sounds):
        raise Unlike(
            "recordings without texts: add a table of files and texts, such as "
            "metadata.csv with the columns file and text"
        )
    names = ("{speaker}", "{number}", "{part}", "{rest}")[: width - 1]
    if len(names) < width - 1:
        raise Unlike("the recordings' names have more than five parts: set data.file_name by hand")
    pattern = "_".join(["{text}", *names])
    return {"file_name": pattern}, f"names such as {sounds[0].name}: what is said is their first part"


def _json_rolls(look: Look) -> bool:
    _, sample = look.first()
    if sample.share < 1:
        return sample.text.lstrip()[:400].replace(" ", "").startswith(("[[[", '{"')) and "[[[" in sample.text[:2000]
    try:
        found = json.loads(sample.text)
    except (ValueError, RecursionError):
        return False
    splits = found.values() if isinstance(found, dict) else [found]
    pieces = [piece for split in splits if isinstance(split, list) for piece in split]
    return bool(pieces) and all(isinstance(p, list) and all(isinstance(f, list) for f in p) for p in pieces)
