"""From files to a packed store: read, split, fit the encoding on train, encode, frame; cached by a digest of the
inputs."""

from __future__ import annotations

import hashlib
import multiprocessing
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from components.datasets.cards import load_card
from components.datasets.files.folders import told
from components.datasets.folds import check_shuffled, fold_fractions, fold_split, parse_fold
from components.datasets.refusals import MOST_WHILE_LEARNING, Refusals, mismatch
from components.datasets.sources import (
    SECTION,
    Readers,
    build,
    by_time,
    card_readers,
    describe,
    on_one_grid,
    path_readers,
)
from components.datasets.splits import (
    DEFAULT_SPLIT,
    Overlap,
    Pieces,
    dropped,
    given_split,
    group_split,
    join_val,
    same_files,
    split_fractions,
    stream_split,
    told_of_families,
    ways_out,
)
from components.datasets.store import SPLITS, DatasetRef, Store, StoreWriter
from components.datasets.targets import Targets
from components.datasets.vectors import give_words
from components.encodings.base import Encoding
from components.encodings.vocabulary import BOS, EOS, UNK
from components.errors import UserError
from components.ink import Ink
from components.provenance import digest_json
from components.registry import resolve
from components.score import Score, note_columns

CODE = Path(__file__).resolve().parents[1]  # components/
TELL_EVERY = 2.0  # seconds
Progress = Callable[[str], None]


def ingest(
    data: Mapping[str, Any],
    encoding: Mapping[str, Any],
    *,
    root: Path,
    cache_dir: Path,
    seed: int,
    progress: Progress | None = None,
    vectors: str | None = None,
) -> DatasetRef:
    """The store of a recipe's `data` and `encoding` sections, created if it isn't in the cache.

    `data`: `dataset` (a card) or `path` (file or folder, relative to `root`) with `reader`; `split` (fractions of
    train, val, test); `fold` ("3/10": test is the third of ten folds of all); `join_val` (val becomes part of train);
    the reader's options. A stream is cut by characters in the order of the text; sequences are shuffled by `seed` and
    split without dividing groups. The vocabulary is learned from train only; an encoding with `known_words` adds words
    of the file `vectors`.

    Raises:
        UserError: a setting is wrong, the files can't be found or read, or no item is left.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # a script without a __main__ guard runs again in each worker process and would deadlock here
        raise RuntimeError("ingest is called while a worker process starts: guard it by `if __name__ == '__main__'`")
    tell = progress or (lambda line: None)
    own = bool(data.get("reader")) and resolve("reader", str(data["reader"]), where="data.reader").own
    if not own and bool(data.get("dataset")) == bool(data.get("path")):
        raise UserError("give either dataset or path", where="data", hint="dataset: a card's name; path: your own file")
    card = load_card(str(data["dataset"])) if data.get("dataset") else None
    kind = str(data.get("reader") or (card.reader if card else "text"))
    data = on_one_grid(data, encoding, kind)
    fractions = split_fractions(data.get("split") or (card.split if card else DEFAULT_SPLIT))
    if card:
        name, readers = card.name, card_readers(card, data, root, cache_dir, progress is not None)
    elif own:
        name, readers = str(data["reader"]), {None: build("reader", str(data["reader"]), data, SECTION, [])}
    else:
        name, readers = path_readers(data, root, cache_dir)
    fold = parse_fold(str(data["fold"])) if data.get("fold") else None
    if fold:
        check_shuffled(next(iter(readers.values())))
        fractions = fold_fractions(fractions, fold[1])
    check_parted(readers, fractions, data)
    described = {file: describe(file) for reader in readers.values() for file in reader.files}  # each file is read once
    if not (card or fold):
        next(iter(readers.values())).decided += same_files(readers, described)
    readers = by_time(readers, fractions)
    for reader in readers.values():
        reader.progress = tell
    encoder = build("encoding", encoding.get("kind", ""), encoding, ("kind",))
    sources = [described[file] | ({"split": of} if of else {}) for of, r in readers.items() for file in r.files]
    digests = {
        "source": digest_json(
            [[of, r.digest() or [described[file]["sha256"] for file in r.files]] for of, r in readers.items()]
        ),
        "code": _code_digest(),
    }
    if words := give_words(encoder, vectors):
        digests["vectors"] = digest_json(words)
    sections = {"data": dict(data), "encoding": dict(encoding), "split": fractions}
    framing = next(iter(readers.values())).framing
    # a stream is split in the order of its text, independent of the seed
    split_seed = seed if framing == "sequences" else None
    digests["key"] = digest_json([sections, digests, split_seed])
    folder = cache_dir / "stores" / f"{name}-{digests['key'][:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        found = _cached(folder, tell)
        if found:
            return found
        building = folder.with_suffix(".building")
        shutil.rmtree(building, ignore_errors=True)  # left by a killed process
        packages = ["numpy", *([card.package] if card and card.package else [])]
        try:
            manifest = {
                "name": name,
                "digests": digests,
                "framing": framing,
                "sections": sections,
                "seed": split_seed,
                "sources": sources,
                "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
            }
            tell("reading")
            refusals = Refusals(readers)
            own_splits = {} if card or fold else readers
            while not _write(building, manifest, refusals, encoder, fractions, seed, fold, tell, Overlap(own_splits)):
                refusals.check(encoder.kind)  # again, without the refused items: they may have been all of a split
            shutil.rmtree(folder, ignore_errors=True)
            building.replace(folder)
        except OSError as error:
            hint = "check the free disk space and the folder's permissions"
            raise UserError(f"the dataset can't be written: {error}", where=str(folder.parent), hint=hint) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return DatasetRef(str(folder), manifest["digests"]["content"], reused=False)


def _write(
    folder: Path,
    manifest: dict[str, Any],
    refusals: Refusals,
    encoding: Encoding,
    fractions: list[float],
    seed: int,
    fold: tuple[int, int] | None,
    tell: Progress,
    overlap: Overlap,
) -> bool:
    """Build the store; `manifest` gets the counts, the encoding's state and the content's digests. Returns False if the
    encoding refused sequences; the store is discarded then."""
    readers, refused = refusals.readers, len(refusals)
    pieces = _pieces(readers, encoding, fractions, seed, fold)
    joined = manifest["sections"]["data"].get("join_val")
    if joined:
        pieces = join_val(pieces, continued=next(iter(readers.values())).continued)
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
            _feed(content[split], item)
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
        asked = dict(zip(SPLITS, map(bool, fractions), strict=True))
        wanted = asked if fold or None in readers else {split: split in readers for split in SPLITS}
        wanted["val"] = wanted["val"] and not joined
        for split, count in counts.items():
            _finish(count, split, wanted[split], left_out, encoding)
        odd = targets.check(wanted, {split: kept.reader for split, kept in readers.items()})
        content_digests = {split: digest.hexdigest() for split, digest in content.items()}
        state = encoding.state()
        manifest["digests"] |= {"splits": content_digests, "content": digest_json([content_digests, state])}
        notes = [note for r in readers.values() for note in [*told(r.passed_over), *r.decided, *r.notes, *ways_out(r)]]
        notes += told_of_families(readers.values())
        notes += encoding.remarks()
        notes += [*odd, *overlap.notes()]
        if fold:
            given = "" if None in readers else "; the data set's own split isn't used"
            notes.append(f"fold {fold[0]} of {fold[1]} is test, the other folds are train and val{given}")
        if joined:
            notes.append("val is part of train (data.join_val): nothing is evaluated while training")
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


def check_parted(readers: Readers, fractions: list[float], data: Mapping[str, Any]) -> None:
    """Refuse random splits and folds of data that must be split by files, and `join_val` without val.

    Raises:
        UserError: the data can't be split so.
    """
    if data.get("join_val") and "val" not in readers and not fractions[1]:
        hint = "leave data.join_val out, or give a val file or a fraction of data.split"
        raise UserError("there is no val to train on", where="data.join_val", hint=hint)
    dealt = data.get("fold") or None in readers or ("val" not in readers and fractions[1])
    for reader in readers.values():
        if reader.parted and dealt:
            setting, why = reader.parted
            hint = "give each split its own file: data.path: {train: …, val: …, test: …}, without data.fold"
            raise UserError(why, where=setting, hint=hint)


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


def _pieces(
    readers: Readers, encoding: Encoding, fractions: list[float], seed: int, fold: tuple[int, int] | None
) -> Pieces:
    if fold:
        return fold_split(readers, encoding, fractions, seed, fold)
    if None not in readers:
        return given_split(readers, encoding, fractions, seed)
    reader = readers[None]
    if reader.framing == "stream":
        return stream_split(reader, encoding, fractions)
    return group_split(reader, fractions, seed)


def _feed(digest: Any, item: Any) -> None:
    """Add an item's content to a digest: text, arrays, and containers of them."""
    if isinstance(item, str):
        digest.update(item.encode("utf-8", "surrogatepass"))
    elif isinstance(item, Score):
        # notes and chords as plain numbers: their `repr`s are slower than the encoding
        digest.update(repr(replace(item, parts=(), chords=())).encode())
        digest.update(repr([(c.start, c.duration, c.root, c.kind, c.bass) for c in item.chords]).encode())
        for part in item.parts:
            digest.update(f"{part.name!r} {part.program} {part.role!r}".encode())
            _feed(digest, note_columns(part.notes))
    elif isinstance(item, Ink):
        _feed(digest, (item.text, item.strokes))
    elif isinstance(item, np.ndarray):
        digest.update(f"{item.dtype}{item.shape}".encode() + np.ascontiguousarray(item).tobytes())
    elif isinstance(item, tuple | list):
        digest.update(f"{len(item)}(".encode())
        for part in item:
            _feed(digest, part)
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


def _cached(folder: Path, tell: Progress) -> DatasetRef | None:
    if not folder.exists():
        return None
    try:
        return DatasetRef(str(folder), Store.open(folder).manifest["digests"]["content"], reused=True)
    except UserError as error:
        tell(f"{error.what}: ingesting it again")
        return None


def _code_digest() -> str:
    """Digest of the code that determines a store's content: a change makes cached stores stale."""
    digest = hashlib.sha256()
    packages = *sorted(CODE.glob("datasets/**/*.py")), *sorted(CODE.glob("encodings/**/*.py"))
    for file in [CODE / "ink.py", CODE / "score.py", *packages]:
        digest.update(f"{file.relative_to(CODE)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()
