"""From files to a packed store: read, split, fit the encoding on train, encode, frame; cached by what went in."""

from __future__ import annotations

import hashlib
import inspect
import multiprocessing
import platform
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from components.datasets.base import Reader
from components.datasets.cards import Card, load_card
from components.datasets.download import fetch, mirror_folder
from components.datasets.splits import DEFAULT_SPLIT, dropped, group_split, split_fractions, stream_split
from components.datasets.store import SPLITS, DatasetRef, Store, StoreWriter, token_dtype
from components.encodings.base import Encoding
from components.encodings.vocabulary import BOS, EOS, UNK
from components.errors import UserError, unknown
from components.provenance import digest_file, digest_json
from components.registry import resolve

SECTION = ("dataset", "path", "reader", "split")  # keys of the data section that aren't the reader's own
CODE = Path(__file__).resolve().parents[1]  # components/
TELL_EVERY = 2_000_000  # tokens
Progress = Callable[[str], None]


def ingest(
    data: Mapping[str, Any],
    encoding: Mapping[str, Any],
    *,
    root: Path,
    cache_dir: Path,
    seed: int,
    progress: Progress | None = None,
) -> DatasetRef:
    """The store of a recipe's `data` and `encoding` sections, made when the cache doesn't have it.

    `data`: `dataset` (a card) or `path` (file or folder, relative to `root`) with `reader`; `split` (fractions of
    train, val, test); the reader's own options. A stream is cut by characters in the order of the text; sequences
    are shuffled by `seed` and split with all of one group on one side. The vocabulary is learned from train only.

    Raises:
        UserError: a setting is wrong, the files can't be had or read, or nothing is left of them.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # a script without a __main__ guard runs again in each worker process and would wait for itself here
        raise RuntimeError("ingest is called while a worker process starts: guard it by `if __name__ == '__main__'`")
    tell = progress or (lambda line: None)
    if bool(data.get("dataset")) == bool(data.get("path")):
        raise UserError("give either dataset or path", where="data", hint="dataset: a card's name; path: your own file")
    card = load_card(str(data["dataset"])) if data.get("dataset") else None
    fractions = split_fractions(data.get("split") or (card.split if card else DEFAULT_SPLIT))
    if card:
        name, reader = card.name, _card_reader(card, data, root, cache_dir, progress)
    else:
        name, reader = _path_reader(data, root)
    reader.progress = tell
    encoder = _build("encoding", encoding.get("kind", ""), encoding, ("kind",))
    sources = [_source(file) for file in reader.files]
    digests = {
        "source": reader.digest() or digest_json([source["sha256"] for source in sources]),
        "code": _code_digest(),
    }
    sections = {"data": dict(data), "encoding": dict(encoding), "split": fractions}
    # The order of a stream is the text's own: its split doesn't depend on the seed.
    split_seed = seed if reader.framing == "sequences" else None
    digests["key"] = digest_json([sections, digests, split_seed])
    folder = cache_dir / "stores" / f"{name}-{digests['key'][:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        found = _cached(folder, tell)
        if found:
            return found
        building = folder.with_suffix(".building")
        shutil.rmtree(building, ignore_errors=True)  # what a killed process left
        packages = ["numpy", *([card.package] if card and card.package else [])]
        try:
            manifest = {
                "name": name,
                "digests": digests,
                "framing": reader.framing,
                "sections": sections,
                "seed": split_seed,
                "sources": sources,
                "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
            }
            _write(building, manifest, reader, encoder, fractions, seed, tell)
            shutil.rmtree(folder, ignore_errors=True)
            building.replace(folder)
        except OSError as error:
            hint = "check the free space of the disk and who may write there"
            raise UserError(f"the dataset can't be written: {error}", where=str(folder.parent), hint=hint) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return DatasetRef(str(folder), manifest["digests"]["content"], reused=False)


def _write(
    folder: Path,
    manifest: dict[str, Any],
    reader: Reader,
    encoding: Encoding,
    fractions: list[float],
    seed: int,
    tell: Progress,
) -> None:
    """Build the store; `manifest` gets the counts, the encoding's state and the content's digests."""
    tell("reading")
    if reader.framing == "stream":
        pieces = stream_split(reader, encoding, fractions)
    else:
        pieces = group_split(reader, fractions, seed)
    tell("learning the vocabulary")
    encoding.fit(item for split, item in pieces() if split == "train")
    writer = StoreWriter(folder, token_dtype(len(encoding.vocabulary)))
    counts = {split: {"sequences": 0, "tokens": 0, "units": Counter(), "unk": 0, "longest": 0} for split in SPLITS}
    content = {split: hashlib.sha256() for split in SPLITS}
    done = 0
    tell("encoding")
    try:
        for split, item in pieces():
            ids = encoding.encode(item)
            _count(counts[split], encoding, item, ids, new=reader.framing == "sequences")
            content[split].update(
                item.encode("utf-8", "surrogatepass") if isinstance(item, str) else repr(item).encode()
            )
            if reader.framing == "sequences":
                content[split].update(b"\0")  # ["ab"] isn't ["a", "b"]
                writer.add(split, np.concatenate([[BOS], ids, [EOS]]))
            elif counts[split]["sequences"] == 1:
                writer.extend(split, ids)
            else:
                counts[split]["sequences"] = 1
                writer.add(split, ids)
            done += len(ids)
            if done // TELL_EVERY > (done - len(ids)) // TELL_EVERY:
                tell(f"encoded {done:,} tokens")
        for split, count in counts.items():
            _finish(count, split, fractions[SPLITS.index(split)], reader, encoding)
        content_digests = {split: digest.hexdigest() for split, digest in content.items()}
        state = encoding.state()
        manifest["digests"] |= {"splits": content_digests, "content": digest_json([content_digests, state])}
        manifest |= {"encoding": state, "counts": counts, "dropped": dict(reader.dropped), "notes": reader.notes}
        manifest["longest"] = max(count["longest"] for count in counts.values())
        writer.close(manifest)
    finally:
        writer.abandon()


def _count(count: dict[str, Any], encoding: Encoding, item: Any, ids: np.ndarray, *, new: bool) -> None:
    """Add one encoded piece to its split's counts; `new`: the piece is a sequence, framed by BOS and EOS."""
    framed = len(ids) + 2 if new else len(ids)
    count["sequences"] += new
    count["tokens"] += framed
    count["unk"] += int((ids == UNK).sum())
    count["longest"] = max(count["longest"], framed) if new else count["tokens"]
    units = count["units"]
    units[encoding.unit] += len(ids)
    if isinstance(item, str) and encoding.unit != "char":
        units["char"] += len(item)  # so that words can be compared in bits a character
    units.update(encoding.counts(ids))


def _finish(count: dict[str, Any], split: str, fraction: float, reader: Reader, encoding: Encoding) -> None:
    """Turn the number of unknown tokens into a rate, and refuse a split that was asked for and got nothing."""
    total = count["units"][encoding.unit]
    if fraction and not total:
        raise UserError(
            f"nothing is left for {split} ({dropped(reader)})",
            where="data",
            hint="give more data, loosen what drops it, or set the fraction of that split to 0 in data.split",
        )
    count["unk_rate"] = count.pop("unk") / total if total else 0.0
    count["units"] = dict(count["units"])


def _card_reader(card: Card, data: Mapping[str, Any], root: Path, cache_dir: Path, progress: Progress | None) -> Reader:
    if data.get("reader", card.reader) != card.reader:
        hint = "leave data.reader out, or read your own file with data.path"
        raise UserError(f"{card.name} is read by {card.reader}", where="data.reader", hint=hint)
    _build("reader", card.reader, data, SECTION, [])  # a wrong setting is said before anything is fetched
    files = fetch(card, cache_dir, mirror_folder(root), progress is not None)
    return _build("reader", card.reader, data, SECTION, files)


def _path_reader(data: Mapping[str, Any], root: Path) -> tuple[str, Reader]:
    """(a name made from the file's, its reader)"""
    path = root / Path(str(data["path"])).expanduser()
    files = [path] if path.is_file() else sorted(file for file in path.glob("[!.]*") if file.is_file())
    if not files:
        what = "the folder has no files" if path.is_dir() else "no such file or folder"
        raise UserError(what, where=f"data.path: {path}", hint="a relative path counts from the project's root")
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:40] or "data"
    return name, _build("reader", str(data.get("reader", "text")), data, SECTION, files)


def _build(kind: str, name: str, section: Mapping[str, Any], reserved: tuple[str, ...], *positional: Any) -> Any:
    """The registered class with the section's options; an option that it doesn't have is refused by name."""
    where = "data" if kind == "reader" else kind
    factory = resolve(kind, name, where=f"{where}.{'reader' if kind == 'reader' else 'kind'}")
    parameters = inspect.signature(factory).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    options = {key: value for key, value in section.items() if key not in reserved}
    for key in options:
        if key not in known:
            raise unknown(f"setting of the {kind} {name}", key, [*known, *reserved], where=where)
    return factory(*positional, **options)


def _source(file: Path) -> dict[str, Any]:
    try:
        return {"name": file.name, "bytes": file.stat().st_size, "sha256": digest_file(file)}
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror or error}", where=str(file)) from error


def _cached(folder: Path, tell: Progress) -> DatasetRef | None:
    if not folder.exists():
        return None
    try:
        return DatasetRef(str(folder), Store.open(folder).manifest["digests"]["content"], reused=True)
    except UserError as error:
        tell(f"{error.what}: making it anew")
        return None


def _code_digest() -> str:
    """Of the code that decides what a store holds: an edit of it makes the cached stores stale."""
    digest = hashlib.sha256()
    for file in [CODE / "score.py", *sorted(CODE.glob("datasets/*.py")), *sorted(CODE.glob("encodings/*.py"))]:
        digest.update(f"{file.relative_to(CODE)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()
