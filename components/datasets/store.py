"""The ingested dataset on disk: all tokens of a split packed in one memory-mapped file.

A store is a folder: `<split>.tokens.bin` (uint16 or uint32, little-endian), `<split>.offsets.bin` (int64, where each
sequence begins, and the end), `manifest.json`. The manifest is written last: a folder without it is no store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from components.encodings.base import Encoding, encoding_from_state
from components.errors import UserError, unknown

FORMAT = 1  # of the files; a reader of another format refuses the store
SPLITS = ("train", "val", "test")
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 256 << 20  # bytes; a vocabulary of two million words needs about 40 MB


@dataclass(frozen=True)
class DatasetRef:
    """An ingested dataset: what flows pass on. `digest` is of the content (items, split and encoding)."""

    path: str
    digest: str
    reused: bool = False  # found in the cache, not made now


def token_dtype(vocabulary_size: int) -> np.dtype:
    """The smallest type that holds every id."""
    return np.dtype("<u2" if vocabulary_size <= 1 << 16 else "<u4")


class StoreWriter:
    """Writes a store: `add` and `extend` stream to disk, `close` writes the manifest and thereby makes it a store."""

    def __init__(self, folder: Path, dtype: np.dtype) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.dtype = folder, np.dtype(dtype)
        self._files: dict[str, BinaryIO] = {}
        self._tokens = dict.fromkeys(SPLITS, 0)
        # Offsets are streamed too: a corpus of short lines has nearly as many of them as tokens.
        self._sequences = dict.fromkeys(SPLITS, 0)
        try:
            for split in SPLITS:
                for kind in ("tokens", "offsets"):
                    self._files[f"{split}.{kind}"] = (folder / f"{split}.{kind}.bin").open("wb")
        except OSError:
            self.abandon()
            raise

    def add(self, split: str, ids: np.ndarray) -> None:
        """One sequence, int [T]."""
        self._files[f"{split}.offsets"].write(np.int64(self._tokens[split]).tobytes())
        self._sequences[split] += 1
        self.extend(split, ids)

    def extend(self, split: str, ids: np.ndarray) -> None:
        """More tokens, int [T], of the sequence added last."""
        if not self._sequences[split]:
            raise ValueError(f"{split} has no sequence to extend")
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) <= np.iinfo(self.dtype).max:
            raise ValueError(f"ids {ids.min()} … {ids.max()} don't fit {self.dtype}")
        self._files[f"{split}.tokens"].write(np.ascontiguousarray(ids, dtype=self.dtype).tobytes())
        self._tokens[split] += len(ids)

    def close(self, manifest: Mapping[str, Any]) -> None:
        """Finish the files and write the manifest (extended by `format`, `dtype` and the `files`' sizes)."""
        for split in SPLITS:
            self._files[f"{split}.offsets"].write(np.int64(self._tokens[split]).tobytes())
        self.abandon()
        sizes = {f"{name}.bin": (self.folder / f"{name}.bin").stat().st_size for name in self._files}
        content = {**manifest, "format": FORMAT, "dtype": self.dtype.str, "files": sizes}
        (self.folder / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")

    def abandon(self) -> None:
        """Close the files without making the folder a store."""
        for file in self._files.values():
            file.close()


class Sequences:
    """The sequences of one split: `len`, and `[i]` as a read-only view of the mapped tokens."""

    def __init__(self, tokens: np.ndarray, offsets: np.ndarray) -> None:
        self.tokens, self.offsets = tokens, offsets  # [total], [N + 1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Ids of sequence `index`, uint16 or uint32 [T]."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        index %= len(self)
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    @property
    def total_tokens(self) -> int:
        """Tokens of all sequences together, BOS and EOS included."""
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N]."""
        return np.diff(self.offsets)


class Store:
    """An opened store."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """The store in folder `path`, its files' sizes verified.

        Raises:
            UserError: there is no store, or it is damaged.
        """
        path = Path(path)
        try:
            if (path / MANIFEST).stat().st_size > LARGEST_MANIFEST:
                raise _damaged(path, "the manifest is too large")
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            hint = "run the ingestion again; it makes the dataset anew when it is not there"
            raise UserError("no ingested dataset here", where=str(path), hint=hint) from None
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(path, f"the manifest can't be read ({error})") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise _damaged(path, "the manifest is of another version")
        files, dtype = manifest.get("files"), manifest.get("dtype")
        expected = {f"{split}.{kind}.bin" for split in SPLITS for kind in ("tokens", "offsets")}
        if not isinstance(files, dict) or set(files) != expected or dtype not in ("<u2", "<u4"):
            raise _damaged(path, "the manifest lacks the files' sizes")
        for name, size in files.items():
            there = (path / name).stat().st_size if (path / name).is_file() else None
            if there != size:
                raise _damaged(path, f"{name} has {'no' if there is None else there} bytes, not {size}")
        return cls(path, manifest)

    def encoding(self) -> Encoding:
        """The encoding that the tokens were made with."""
        return encoding_from_state(self.manifest.get("encoding", {}))

    def split(self, name: str) -> Sequences:
        """The sequences of train, val or test."""
        if name not in SPLITS:
            raise unknown("split", name, SPLITS, where=str(self.path))
        tokens = self._map(f"{name}.tokens.bin", np.dtype(self.manifest["dtype"]))
        offsets = np.fromfile(self.path / f"{name}.offsets.bin", dtype="<i8")
        ends_meet = len(offsets) and offsets[0] == 0 and offsets[-1] == len(tokens)
        if not ends_meet or (np.diff(offsets) < 0).any():
            raise _damaged(self.path, f"the offsets of {name} don't fit its tokens")
        return Sequences(tokens, offsets)

    def _map(self, name: str, dtype: np.dtype) -> np.ndarray:
        if not self.manifest["files"][name]:
            return np.zeros(0, dtype=dtype)  # nothing can't be mapped
        return np.memmap(self.path / name, dtype=dtype, mode="r")


def _damaged(path: Path, what: str) -> UserError:
    hint = "delete the folder and run the ingestion again: everything in it can be made anew"
    return UserError(f"the ingested dataset is damaged: {what}", where=str(path), hint=hint)
