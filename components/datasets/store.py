"""The ingested dataset on disk: all steps of a split packed in one memory-mapped file for each field.

A store is a folder: `<split>.<field>.bin` (ids as uint8, uint16 or uint32, or float32 frames, little-endian),
`<split>.<field>.offsets.bin` (int64, the first step of each sequence, and the end), `manifest.json`. The manifest is
written last: a folder without it isn't a store. A token encoding has the one field "tokens", a pair has "input" and
"target".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.encodings.base import Encoding, Field, encoding_from_state
from components.errors import UserError, unknown

FORMAT = 3  # of the files; a reader of another format refuses the store
WITHOUT_BYTES = 2  # the format before: ids take at least two bytes
SPLITS = ("train", "val", "test")
MANIFEST = "manifest.json"
FIELD = re.compile(r"[a-z][a-z_0-9]{0,31}")
BLOCK = 1 << 18  # steps counted at once
LARGEST_MANIFEST = 256 << 20  # bytes; a vocabulary of two million words needs about 40 MB


@dataclass(frozen=True)
class DatasetRef:
    """A reference to an ingested dataset, passed between flows. `digest` is of the content (items, split and
    encoding)."""

    path: str
    digest: str
    reused: bool = False  # from the cache


def field_dtype(field: Field) -> np.dtype:
    """float32 for frames, else the smallest type that holds every id."""
    if field.frames:
        return np.dtype("<f4")
    return np.dtype("u1" if field.size <= 1 << 8 else "<u2" if field.size <= 1 << 16 else "<u4")


class StoreWriter:
    """Writes a store: `add` and `extend` stream to disk, `close` writes the manifest, which completes it."""

    def __init__(self, folder: Path, fields: Mapping[str, Field]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.fields = folder, dict(fields)
        self._steps = {(split, name): 0 for split in SPLITS for name in fields}
        # Offsets are streamed too: a corpus of short lines has nearly as many of them as tokens.
        self._sequences = dict.fromkeys(SPLITS, 0)
        parts = [part for name in fields for part in (name, f"{name}.offsets")]
        with ExitStack() as opened:  # they are closed if one of them can't be opened
            self._files = {
                (split, part): opened.enter_context((folder / f"{split}.{part}.bin").open("wb"))
                for split in SPLITS
                for part in parts
            }
            self._opened = opened.pop_all()

    def add(self, split: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Add a sequence: ids [T] or frames [T, width] of every field."""
        for name in self.fields:
            self._files[split, f"{name}.offsets"].write(np.int64(self._steps[split, name]).tobytes())
        self._sequences[split] += 1
        self.extend(split, arrays)

    def extend(self, split: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Add steps to the last sequence."""
        if not self._sequences[split]:
            raise ValueError(f"{split} has no sequence to extend")
        for name, field in self.fields.items():
            steps, dtype = arrays[name], field_dtype(field)
            if field.width and steps.shape[1:] != (field.width,):
                raise ValueError(f"{name}: steps [T, {field.width}], not {steps.shape}")
            if not field.frames and len(steps) and not 0 <= int(steps.min()) <= int(steps.max()) < field.size:
                raise ValueError(f"{name}: ids {steps.min()} … {steps.max()} outside 0 … {field.size - 1}")
            self._files[split, name].write(np.ascontiguousarray(steps, dtype=dtype).tobytes())
            self._steps[split, name] += len(steps)

    def close(self, manifest: Mapping[str, Any]) -> None:
        """Finish the files and write the manifest (extended by `format`, the `fields` and the `files`' sizes)."""
        for (split, name), steps in self._steps.items():
            self._files[split, f"{name}.offsets"].write(np.int64(steps).tobytes())
        self.abandon()
        sizes = {f"{split}.{part}.bin" for split, part in self._files}
        sizes = {name: (self.folder / name).stat().st_size for name in sorted(sizes)}
        fields = {name: asdict(field) for name, field in self.fields.items()}
        content = {**manifest, "format": FORMAT, "fields": fields, "files": sizes}
        (self.folder / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")

    def abandon(self) -> None:
        """Close the files without making the folder a store."""
        self._opened.close()


class Sequences:
    """One field of a split: `len`, and `[i]` as a read-only view of the mapped steps."""

    def __init__(self, tokens: np.ndarray, offsets: np.ndarray) -> None:
        self.tokens, self.offsets = tokens, offsets  # ids [total] or frames [total, width]; [N + 1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Sequence `index`: ids, of the type in `field_dtype`, [T]; or frames, float32 [T, width]."""
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

    def counts(self, size: int) -> np.ndarray:
        """The number of occurrences of each id below `size`, int64 [size]. Read in blocks, in bounded memory."""
        counts = np.zeros(size, dtype=np.int64)
        for start in range(0, len(self.tokens), BLOCK):
            counts += np.bincount(self.tokens[start : start + BLOCK], minlength=size)
        return counts


class Examples:
    """A split with several fields: `len`, and `[i]` as the field's arrays by name."""

    def __init__(self, fields: Mapping[str, Sequences]) -> None:
        self.fields = dict(fields)

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: field[index] for name, field in self.fields.items()}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return (self[index] for index in range(len(self)))


Split = Sequences | Examples


class Store:
    """An opened store."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open the store in folder `path` and verify its files' sizes.

        Raises:
            UserError: there is no store, or it is damaged.
        """
        path = Path(path)
        try:
            if (path / MANIFEST).stat().st_size > LARGEST_MANIFEST:
                raise _damaged(path, "the manifest is too large")
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            hint = "run the ingestion again"
            raise UserError("contains no ingested dataset", where=str(path), hint=hint) from None
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(path, f"the manifest can't be read ({error})") from error
        if not isinstance(manifest, dict) or manifest.get("format") not in (WITHOUT_BYTES, FORMAT):
            raise _damaged(path, "the manifest was written by another version")
        files, fields = manifest.get("files"), manifest.get("fields")
        if not isinstance(fields, dict) or not all(FIELD.fullmatch(name) for name in fields) or not fields:
            raise _damaged(path, "the manifest lists no fields")
        expected = {f"{s}.{name}{part}.bin" for s in SPLITS for name in fields for part in ("", ".offsets")}
        if not isinstance(files, dict) or set(files) != expected:
            raise _damaged(path, "the manifest doesn't list the files' sizes")
        for name, size in files.items():
            there = (path / name).stat().st_size if (path / name).is_file() else None
            if there != size:
                raise _damaged(path, f"{name} has {'no' if there is None else there} bytes, not {size}")
        return cls(path, manifest)

    def encoding(self) -> Encoding:
        """The encoding that the tokens were made with."""
        return encoding_from_state(self.manifest.get("encoding", {}))

    def split(self, name: str) -> Split:
        """The sequences of train, val or test; examples if the store has more fields than "tokens"."""
        if name not in SPLITS:
            raise unknown("split", name, SPLITS, where=str(self.path))
        fields = {field: self._field(name, field) for field in self.manifest["fields"]}
        if len({len(field) for field in fields.values()}) > 1:
            raise _damaged(self.path, f"the fields of {name} differ in their number of sequences")
        return fields["tokens"] if set(fields) == {"tokens"} else Examples(fields)

    def _field(self, split: str, name: str) -> Sequences:
        try:
            field = Field(**self.manifest["fields"][name])
            steps = self._map(f"{split}.{name}.bin", field)
        except (TypeError, ValueError) as error:
            raise _damaged(self.path, f"the field {name} of {split} can't be read ({error})") from error
        offsets = np.fromfile(self.path / f"{split}.{name}.offsets.bin", dtype="<i8")
        ends_meet = len(offsets) and offsets[0] == 0 and offsets[-1] == len(steps)
        if not ends_meet or (np.diff(offsets) < 0).any():
            raise _damaged(self.path, f"the offsets of {split}.{name} don't fit its steps")
        return Sequences(steps, offsets)

    def _map(self, name: str, field: Field) -> np.ndarray:
        shape = (-1, field.width) if field.width else (-1,)
        dtype = field_dtype(field)
        if self.manifest["format"] == WITHOUT_BYTES and dtype.itemsize == 1:
            dtype = np.dtype("<u2")
        if not self.manifest["files"][name]:
            return np.zeros((0, *shape[1:]), dtype=dtype)  # an empty file can't be mapped
        return np.memmap(self.path / name, dtype=dtype, mode="r").reshape(shape)


def _damaged(path: Path, what: str) -> UserError:
    hint = "delete the folder and run the ingestion again"
    return UserError(f"the ingested dataset is damaged: {what}", where=str(path), hint=hint)
