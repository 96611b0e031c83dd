"""The data section of a recipe: its files, from a card or a path, and their readers."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from components.datasets.base import Reader
from components.datasets.cards import Card
from components.datasets.download import fetch, mirror_folder
from components.datasets.files.archives import LINK, is_archive, stem, unpacked
from components.datasets.files.folders import given_splits, like_splits
from components.datasets.store import SPLITS
from components.errors import UserError
from components.options import checked_options, options_of
from components.paths import existing, user_path
from components.provenance import digest_file
from components.registry import resolve

# keys of the data section that aren't options of the reader
SECTION = ("dataset", "path", "reader", "split", "fold", "join_val")
RELATIVE = "relative paths start at the folder where the command is run"
Readers = dict[str | None, Reader]  # by split; None = all files, split by fractions


def card_readers(card: Card, data: Mapping[str, Any], root: Path, cache_dir: Path, progress: bool) -> Readers:
    """The card's files by split, downloaded if missing, archives unpacked; `progress`: show a progress bar while
    downloading."""
    if data.get("reader", card.reader) != card.reader:
        hint = "leave data.reader out, or read your own file with data.path"
        raise UserError(f"the data set {card.name} needs the reader {card.reader}", where="data.reader", hint=hint)
    build("reader", card.reader, data, SECTION, [])  # check settings before downloading
    files = fetch(card, cache_dir, mirror_folder(root), progress)
    files = [unpacked(file, cache_dir)[0] if is_archive(file) else file for file in files]
    by_split: dict[str | None, list[Path]] = {} if card.files else {None: []}
    for file, of in zip(files, card.files, strict=True):
        by_split.setdefault(of.split, []).append(file)
    return _parts({split: build("reader", card.reader, data, SECTION, paths) for split, paths in by_split.items()})


def path_readers(data: Mapping[str, Any], root: Path, cache_dir: Path) -> tuple[str, Readers]:
    """(a name derived from the file's, the reader of all files, or one for each split). An archive is unpacked into the
    cache and read as a folder."""
    given = data["path"] if isinstance(data["path"], Mapping) else {None: data["path"]}
    places: dict[str | None, list[Path]] = {}
    passed_over: dict[str, list[str]] = {}
    decided: list[str] = []
    for split, one in given.items():
        path = user_path(str(one), where="data.path", base=root)
        existing(path, where=f"data.path: {path}", hint=RELATIVE)
        if path.is_file() and is_archive(path):
            path, links = unpacked(path, cache_dir)
            passed_over |= {LINK: links} if links else {}
        places[split] = [path]
    if None in places and places[None][0].is_dir():
        splits, loose = given_splits(places[None][0])
        if splits:
            places = splits
            names = ", ".join(f"{split} from {', '.join(p.name for p in places[split][:3])}" for split in places)
            decided.append(f"splits by the files' names: {names}")
            passed_over |= {"belongs to no split": [path.name for path in loose]} if loose else {}
    kind = str(data.get("reader", "text"))
    readers: Readers = {split: build("reader", kind, data, SECTION, paths) for split, paths in places.items()}
    first = next(iter(readers.values()))
    first.decided += decided
    first.passed_over |= passed_over
    if None in places and places[None][0].is_dir() and not first.holds_splits:
        first.decided += filter(None, [like_splits(first.files, places[None][0])])
    name = stem(Path(str(next(iter(given.values())))))
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "data", _parts(readers)


def _parts(readers: Readers) -> Readers:
    """A reader for each split if the files define them; the readers share `found`."""
    first = next(iter(readers.values()))
    for split, reader in readers.items():
        reader.found, reader.split = first.found, split
    for before, after in pairwise(readers[split] for split in SPLITS if split in readers):
        after.before = before
    if set(readers) != {None} or not readers[None].holds_splits:
        return readers
    parts: Readers = {}
    for split in SPLITS:
        reader = parts[split] = copy.copy(readers[None])
        reader.part, reader.dropped, reader.notes = split, Counter(), []
        if split != SPLITS[0]:
            reader.passed_over, reader.decided = {}, []
    return parts


def by_time(readers: Readers, fractions: Sequence[float]) -> Readers:
    """A reader for each split if the readers split their series by time; val is the end of train if only train and test
    are given."""
    of = None if None in readers else "train"
    if not readers[of].by_time or (of and ("val" in readers or not fractions[1])):
        return readers
    train, val, _ = fractions
    shares = [train / (train + val), val / (train + val), 0.0] if of else fractions
    parts = {}
    for split, share in zip(SPLITS, shares, strict=True):
        if share:
            reader = parts[split] = copy.copy(readers[of]) if parts else readers[of]
            reader.part, reader.fractions = split, shares
            if len(parts) > 1:  # files are reported once
                reader.dropped, reader.notes, reader.passed_over, reader.decided = Counter(), [], {}, []
    return parts | {split: reader for split, reader in readers.items() if split not in (None, "train")}


def on_one_grid(data: Mapping[str, Any], encoding: Mapping[str, Any], reader: str) -> dict[str, Any]:
    """The data section with the reader's grid: if it isn't set and the files don't define it, the encoding's.

    Raises:
        UserError: steps of the encoding would be between those of the reader.
    """
    inner = encoding.get("encoding", encoding)
    own = options_of(resolve("reader", reader))
    other = options_of(resolve("encoding", inner.get("kind", ""), where="encoding.kind"))
    name = next((name for name in ("frames_per_beat", "steps_per_beat") if name in own), "")
    if not name or "steps_per_beat" not in other:
        return dict(data)
    wanted = inner.get("steps_per_beat", other["steps_per_beat"][1])
    given = data.get(name, own[name][1])
    if given is None:
        return {**data, name: wanted}
    if given % wanted:
        what = f"{given} steps per beat aren't a multiple of encoding.steps_per_beat, {wanted}"
        hint = f"set data.{name}={wanted}, or a multiple; or set encoding.steps_per_beat to {given}"
        raise UserError(what, where=f"data.{name}", hint=hint)
    return dict(data)


def build(kind: str, name: str, section: Mapping[str, Any], reserved: tuple[str, ...], *positional: Any) -> Any:
    """An instance of the registered class with the section's options. Raises UserError if one is wrong."""
    where = "data" if kind == "reader" else kind
    factory = resolve(kind, name, where=f"{where}.{'reader' if kind == 'reader' else 'kind'}")
    options = {key: value for key, value in section.items() if key not in reserved}
    made = factory(*positional, **checked_options(where, options, [factory]))
    if kind == "reader" and any(positional) and not made.files:
        raise made.nothing_here(*positional)
    return made


def describe(file: Path) -> dict[str, Any]:
    try:
        return {"name": file.name, "bytes": file.stat().st_size, "sha256": digest_file(file)}
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror or error}", where=str(file)) from error
