"""From files to a packed store: read, split, fit the encoding on train, encode, frame; cached by a digest of the
inputs."""

from __future__ import annotations

import multiprocessing
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from components.datasets.cards import load_card
from components.datasets.folds import check_shuffled, fold_fractions, fold_split, parse_fold
from components.datasets.packing import Progress, write_store
from components.datasets.refusals import Refusals
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
    given_split,
    group_split,
    join_val,
    same_files,
    split_fractions,
    stream_split,
)
from components.datasets.store import SPLITS, DatasetRef, Store
from components.datasets.vectors import give_words
from components.encodings.base import Encoding
from components.errors import UserError
from components.provenance import digest_json, digest_tree
from components.registry import resolve

CODE = Path(__file__).resolve().parents[1]  # components/


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
    usual = split_fractions(card.split if card else DEFAULT_SPLIT)
    fractions = split_fractions(data["split"]) if data.get("split") else usual
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
    unused = not fold and "val" in readers and fractions != usual
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
    framing, joined = next(iter(readers.values())).framing, bool(data.get("join_val"))
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
                "notes": _notes(readers, fold, joined, unused),
            }
            tell("reading")
            wanted = dict(zip(SPLITS, map(bool, fractions), strict=True))
            if not (fold or None in readers):
                wanted = {split: split in readers for split in SPLITS}
            wanted["val"] &= not joined
            refusals = Refusals(readers)
            while True:
                pieces = _pieces(refusals.readers, encoder, fractions, seed, fold)
                if joined:
                    pieces = join_val(pieces, continued=next(iter(readers.values())).continued)
                overlap = Overlap({} if card or fold else readers)
                if write_store(building, manifest, refusals, encoder, pieces, wanted, overlap, tell):
                    break
                refusals.check(encoder.kind)  # again, without the refused items: they may have been all of a split
            shutil.rmtree(folder, ignore_errors=True)
            building.replace(folder)
        except OSError as error:
            hint = "check the free disk space and the folder's permissions"
            raise UserError(f"the dataset can't be written: {error}", where=str(folder.parent), hint=hint) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return DatasetRef(str(folder), manifest["digests"]["content"], reused=False)


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


def _notes(readers: Readers, fold: tuple[int, int] | None, joined: bool, unused: bool) -> list[str]:
    notes = ["data.split has no effect, since the files define the splits"] * unused
    if fold:
        given = "" if None in readers else "; the data set's own split isn't used"
        notes.append(f"fold {fold[0]} of {fold[1]} is test, the other folds are train and val{given}")
    if joined:
        notes.append("val is part of train (data.join_val): nothing is evaluated while training")
    return notes


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
    return digest_tree(CODE / part for part in ("ink.py", "score.py", "datasets", "encodings"))
