"""Check the user's own files before anything starts: whether they exist and fit the reader, the encoding and the task.

Only the first items of each file set are read, for at most a few seconds. `reprise ingest` reports problems further on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.bundle import make_task
from components.datasets.base import Reader
from components.datasets.ingest import check_parted
from components.datasets.refusals import mismatch
from components.datasets.sources import build, path_readers
from components.datasets.splits import DEFAULT_SPLIT, dropped, split_fractions
from components.datasets.vectors import first_words, give_words
from components.encodings.base import Encoding
from components.errors import UserError
from components.recipe import Recipe
from components.runs.places import STATE, places

ITEMS, SECONDS = 50, 5.0
CHARACTERS = 200_000  # characters to read of a continuous text


def preview(recipe: Recipe) -> str:
    """A description of what was checked; "" if the data aren't the user's own files.

    Raises:
        UserError: a file is missing or can't be read, or its items don't fit the encoding or the task.
    """
    if recipe.model.get("vectors"):
        first_words(Path(recipe.model["vectors"]), 1)
    if not recipe.data["path"]:
        return ""
    _, readers = path_readers(recipe.data, STATE, places().datasets)
    fractions = split_fractions(recipe.data.get("split") or DEFAULT_SPLIT)
    check_parted(readers, fractions, recipe.data)
    looked: dict[str | None, list[Any]] = {}
    whole = True
    for split, reader in readers.items():
        looked[split] = list(_first(reader))
        whole &= len(looked[split]) < ITEMS
        if not looked[split]:
            names = ", ".join(file.name for file in reader.files[:3])
            what = f"the reader {recipe.data['reader']} can't read anything from {names} ({dropped(reader.dropped)})"
            raise UserError(what, where="data.path", hint="choose another data.reader, or change its settings")
    encoding = build("encoding", recipe.encoding["kind"], recipe.encoding, ("kind",))
    give_words(encoding, recipe.model.get("vectors"))
    items = looked.get("train") or looked[None]
    unlearnt = _learn(encoding, items, whole)
    _encode(encoding, [item for each in looked.values() for item in each], unlearnt)
    make_task(recipe.task, encoding, next(iter(readers.values())).framing)
    files = sum(len(reader.files) for reader in readers.values())
    return f"{files} file{'s' * (files > 1)} of your own: the first items can be read and encoded"


def _first(reader: Reader) -> Iterator[Any]:
    began = time.monotonic()
    for count, item in enumerate(reader.items(), 1):
        yield item[:CHARACTERS] if reader.framing == "stream" else item
        if count == ITEMS or time.monotonic() - began > SECONDS:
            return


def _learn(encoding: Encoding, items: list[Any], whole: bool) -> UserError | None:
    """Fit the encoding; returns an error that more items may resolve."""
    try:
        encoding.fit(items)
    except UserError as error:
        if whole:  # else a part of the data may be too small
            raise
        return error
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        raise mismatch(encoding.kind, items[0], error) from None
    return None


def _encode(encoding: Encoding, items: list[Any], unlearnt: UserError | None) -> None:
    """Raises UserError if none of the items can be encoded; single ones are left out by ingestion."""
    refused: UserError | None = None
    for item in items:
        try:
            encoding.encode(item)
        except UserError as error:
            refused = refused or error
        except (AttributeError, TypeError, ValueError, LookupError) as error:
            raise unlearnt or mismatch(encoding.kind, item, error) from None
        else:
            return
    if refused:
        raise refused
