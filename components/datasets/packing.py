"""A packed store written from items: the encoding is fitted on train, items are encoded, framed and counted."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from components.datasets.files.folders import told
from components.datasets.refusals import MOST_WHILE_LEARNING, Refusals, mismatch
from components.datasets.splits import Overlap, Pieces, dropped, told_of_families, ways_out
from components.datasets.store import SPLITS, StoreWriter
from components.datasets.targets import Targets
from components.encodings.base import Encoding
from components.encodings.vocabulary import BOS, EOS, UNK
from components.errors import UserError
from components.ink import Ink
from components.provenance import digest_json
from components.score import Score, note_columns

TELL_EVERY = 2.0  # seconds
Progress = Callable[[str], None]


def write_store(
    folder: Path,
    manifest: dict[str, Any],
    refusals: Refusals,
    encoding: Encoding,
    pieces: Pieces,
    wanted: Mapping[str, bool],
    overlap: Overlap,
    tell: Progress,
) -> bool:
    """Build the store; `manifest` gets the counts, the encoding's state and the content's digests. `wanted`: the splits
    that must not be empty. Returns False if the encoding refused sequences; the store is discarded then."""
    readers, refused = refusals.readers, len(refusals)
    stream = manifest["framing"] == "stream"
    tell("learning the vocabulary")
    try:
        encoding.fit(_Train(pieces, tell))
    except UserError as error:
        if refused >= MOST_WHILE_LEARNING:
            raise
        refusals.refuse(error)
        return False
    except (TypeError, AttributeError) as error:  # a method for texts was called on an item of another type
        raise mismatch(encoding.kind, next(item for _, item in pieces()), error) from error
    writer = StoreWriter(folder, encoding.fields)
    counts = {split: {"sequences": 0, "tokens": 0, "units": Counter(), "unk": 0, "longest": 0} for split in SPLITS}
    targets = Targets(encoding, stream)
    content = {split: hashlib.sha256() for split in SPLITS}
    tell("encoding")
    pace = _Pace(tell, f"{encoding.unit}s encoded")
    try:
        for split, item in pieces():
            try:
                encoded = encoding.encode(item)
            except UserError as error:
                refusals.refuse(error)
                continue
            except (TypeError, AttributeError) as error:
                raise mismatch(encoding.kind, item, error) from error
            arrays = encoded if isinstance(encoded, dict) else {next(iter(encoding.fields)): encoded}
            steps = next(iter(arrays.values()))
            framed = encoding.form == "tokens" and not stream
            _count(counts[split], encoding, item, arrays, new=not stream, framed=framed)
            targets.add(split, item, arrays)
            overlap.add(split, item)
            feed(content[split], item)
            if framed:
                arrays = {name: np.concatenate([[BOS], ids, [EOS]]) for name, ids in arrays.items()}
            if stream and counts[split]["sequences"]:
                writer.extend(split, arrays)
            else:
                writer.add(split, arrays)
                counts[split]["sequences"] += stream
            if not stream:
                content[split].update(b"\0")  # so that ["ab"] differs from ["a", "b"]
            pace.add(len(steps))
        if len(refusals) > refused:
            return False
        left_out = sum((reader.dropped for reader in readers.values()), Counter())
        for split, count in counts.items():
            _finish(count, split, wanted[split], left_out, encoding)
        odd = targets.check(wanted, {split: kept.reader for split, kept in readers.items()})
        content_digests = {split: digest.hexdigest() for split, digest in content.items()}
        state = encoding.state()
        manifest["digests"] |= {"splits": content_digests, "content": digest_json([content_digests, state])}
        notes = [note for r in readers.values() for note in [*told(r.passed_over), *r.decided, *r.notes, *ways_out(r)]]
        notes += told_of_families(readers.values())
        notes += encoding.remarks()
        notes += [*odd, *overlap.notes(), *manifest["notes"]]
        manifest["labels"] = targets.facts()
        manifest["columns"] = {role: list(columns) for role, (_, columns) in next(iter(readers.values())).found.items()}
        manifest["continues"] = list(next(iter(readers.values())).continues)
        manifest["report"] = [row for reader in readers.values() for row in reader.report]
        manifest |= {"encoding": state, "counts": counts, "dropped": dict(left_out), "notes": notes}
        manifest["longest"] = max(count["longest"] for count in counts.values())
        writer.close(manifest)
    finally:
        writer.abandon()
    return True


class _Train:
    """The training items, read again by each iteration."""

    def __init__(self, pieces: Pieces, tell: Progress) -> None:
        self.pieces, self.tell = pieces, tell

    def __iter__(self) -> Iterator[Any]:
        pace: _Pace | None = None
        for split, item in self.pieces():
            if split == "train":
                yield item
                of_text = isinstance(item, str)
                pace = pace or _Pace(self.tell, f"{'characters' if of_text else 'items'} learned from")
                pace.add(len(item) if of_text else 1)


class _Pace:
    """Reports progress and speed every few seconds."""

    def __init__(self, tell: Progress, what: str) -> None:
        self.tell, self.what, self.done = tell, what, 0
        self.started = self.told = time.perf_counter()

    def add(self, count: int) -> None:
        self.done += count
        now = time.perf_counter()
        if now - self.told >= TELL_EVERY:
            self.told = now
            self.tell(f"{self.done:,} {self.what}, {self.done / (now - self.started):,.0f} a second")


def feed(digest: Any, item: Any) -> None:
    """Add an item's content to a digest: text, arrays, and containers of them."""
    if isinstance(item, str):
        digest.update(item.encode("utf-8", "surrogatepass"))
    elif isinstance(item, Score):
        # notes and chords as plain numbers: their `repr`s are slower than the encoding
        digest.update(repr(replace(item, parts=(), chords=())).encode())
        digest.update(repr([(c.start, c.duration, c.root, c.kind, c.bass) for c in item.chords]).encode())
        for part in item.parts:
            digest.update(f"{part.name!r} {part.program} {part.role!r}".encode())
            feed(digest, note_columns(part.notes))
    elif isinstance(item, Ink):
        feed(digest, (item.text, item.strokes))
    elif isinstance(item, np.ndarray):
        digest.update(f"{item.dtype}{item.shape}".encode() + np.ascontiguousarray(item).tobytes())
    elif isinstance(item, tuple | list):
        digest.update(f"{len(item)}(".encode())
        for part in item:
            feed(digest, part)
            digest.update(b"\0")
    else:
        digest.update(repr(item).encode())


def _count(
    count: dict[str, Any], encoding: Encoding, item: Any, arrays: Mapping[str, np.ndarray], *, new: bool, framed: bool
) -> None:
    """Add an encoded piece to its split's counts; `new`: the piece begins a sequence, `framed` by BOS and EOS."""
    steps = next(iter(arrays.values()))
    length = len(steps) + 2 * framed
    count["sequences"] += new
    count["tokens"] += length
    ids = steps if steps.ndim == 1 else steps[:, 0]  # the word, without its characters
    count["unk"] += int((ids == UNK).sum()) if ids.dtype.kind in "iu" else 0
    count["longest"] = max(count["longest"], length) if new else count["tokens"]
    units = count["units"]
    units[encoding.unit] += len(steps)
    if isinstance(item, str) and encoding.unit != "char":
        units["char"] += len(item)  # to compare words in bits per character
    if encoding.form == "tokens":
        units.update(encoding.counts(steps))


def _finish(count: dict[str, Any], split: str, wanted: bool, left_out: Counter[str], encoding: Encoding) -> None:
    """Turn the count of unknown tokens into a rate, and refuse a requested split that is empty."""
    total = count["units"][encoding.unit]
    if wanted and not total:
        raise UserError(
            f"the split {split} is empty ({dropped(left_out)})",
            where="data",
            hint="give more data, relax the settings that drop items, or set this split's fraction to 0 in data.split",
        )
    count["unk_rate"] = count.pop("unk") / total if total else 0.0
    count["units"] = dict(count["units"])
