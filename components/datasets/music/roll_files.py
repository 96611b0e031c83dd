"""Piano rolls in MATLAB and NumPy files, as arrays [frames, keys] of 0 and 1: a reading function of the sandbox."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from components.datasets.files.sandbox import Refused

LOWEST_KEY = {88: 21, 128: 0}  # keys per frame → MIDI pitch of the first
NAMES = {"train": ("train",), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
NUMBERED = re.compile(r"([a-z]+?)(?:data|set)?[_-]?(\d*)")  # traindata; train_12
Pieces = dict[str, list[list[list[int]]]]  # by the split's name, "" if the file has none


def read(data: bytes, name: str, options: Mapping[str, Any]) -> Pieces:
    """The pieces of a file: each a list of frames, a frame the list of sounding MIDI pitches.

    `.mat`: the variables traindata, validdata and testdata, cell arrays of pieces. `.npz`: the arrays train_0, train_1
    …, valid_0 …, or one array [pieces, frames, keys] for each split. `.npy`: a piece, or an array of pieces.

    Raises:
        Refused: it isn't such a file.
    """
    pieces: Pieces = {}
    for split, array in _mat(data) if name.lower().endswith(".mat") else _numpy(data, name):
        for piece in _pieces(array):
            pieces.setdefault(split, []).append(_pitches(piece, split))
    return pieces


def warm_up() -> None:
    """Import what the worker needs before its limits are set."""
    import scipy.io  # noqa: F401


def _mat(data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    import scipy.io

    try:
        variables = scipy.io.loadmat(io.BytesIO(data))
    except NotImplementedError as error:
        raise Refused("is in MATLAB's format 7.3: save it with the option -v7") from error
    except MemoryError as error:
        raise Refused("needs more memory than a file may") from error
    except Exception as error:  # a damaged file may raise any exception
        raise Refused(f"isn't a MATLAB file: {error}") from error
    yield from _named({name: value for name, value in variables.items() if not name.startswith("__")})


def _numpy(data: bytes, name: str) -> Iterator[tuple[str, np.ndarray]]:
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            yield "", loaded
            return
        with loaded as file:
            yield from _named({key: file[key] for key in file.files})
    except MemoryError as error:
        raise Refused("needs more memory than a file may") from error
    except Refused:
        raise
    except Exception as error:
        if "pickle" in str(error).lower():
            what = "contains a pickle, which isn't opened: save each piece as an array, train_0, train_1 … valid_0 …"
            raise Refused(what) from error
        raise Refused(f"isn't a NumPy file: {error}") from error


def _named(arrays: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of each split, sorted by number."""
    known = {name for names in NAMES.values() for name in names}
    found = []
    for name, array in arrays.items():
        match = NUMBERED.fullmatch(name.lower())
        if not match or match[1] not in known:
            raise Refused(f"contains {name[:80]!r}, which isn't named train, valid or test (traindata …, train_0 …)")
        found.append((match[1], int(match[2] or 0), array))
    yield from ((split, array) for split, _, array in sorted(found, key=lambda one: one[:2]))


def _pieces(array: Any) -> Iterator[np.ndarray]:
    if not isinstance(array, np.ndarray):
        raise Refused(f"contains a {type(array).__name__} instead of an array of pieces")
    if array.dtype == object:  # a cell array
        yield from array.ravel()
    elif array.ndim == 3:
        yield from array
    else:
        yield array


def _pitches(piece: Any, split: str) -> list[list[int]]:
    if not isinstance(piece, np.ndarray) or piece.ndim != 2 or piece.shape[1] not in LOWEST_KEY:
        shape = " × ".join(map(str, getattr(piece, "shape", ()))) or type(piece).__name__
        raise Refused(
            f"contains a piece of {shape} in {split or 'it'}; pieces must be frames × 88 keys, or × 128 pitches"
        )
    if piece.dtype.kind not in "fiub" or not np.isin(piece, (0, 1)).all():
        raise Refused(f"contains numbers other than 0 and 1 in a piece of {split or 'it'}")
    lowest = LOWEST_KEY[piece.shape[1]]
    return [(np.flatnonzero(frame) + lowest).tolist() for frame in piece]
