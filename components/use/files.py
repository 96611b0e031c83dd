"""Reading a file to predict for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.datasets.files.folders import ending, inside
from components.datasets.labelled import LabelledReader
from components.datasets.sources import SECTION, build
from components.datasets.tables.reader import refuse_other
from components.errors import UserError
from components.paths import existing
from components.registry import resolve
from components.yaml_text import parse_yaml

TABLES = {".csv", ".tsv", ".tab", ".parquet", ".pq"}


def reader_for(
    path: Path, data: Mapping[str, Any], column: str | None = None, overrides: Sequence[str] = ()
) -> LabelledReader:
    """The reader of a file or folder for a model: that of the training data, or one chosen by the files' endings.
    `overrides` are "data.KEY=VALUE", settings of the reader for this file.

    Raises:
        UserError: the file doesn't exist, no reader can read it without labels, or a setting is wrong.
    """
    existing(path, where=str(path))
    asked = _asked(overrides)
    files = inside(path)[0] if path.is_dir() else [path]
    endings, own = {ending(file) for file in files}, str(data["reader"])
    if "reader" not in asked and path.is_file():
        refuse_other(path)
    kind = resolve("reader", own).files_by or own
    if ".npy" in endings:
        kind = "frame-files"
    elif own == "conll" and (endings & {".csv", ".parquet", ".pq"} or column is not None):
        kind = "table"  # of texts; files of tags in columns may also end in .tsv
    elif endings & TABLES and own == "labelled-lines":
        kind = "table"  # other files of a folder are skipped, with a note
    elif (endings <= {".txt"} and own == "conll") or (
        not endings & TABLES and own == "table" and not data.get("separator")
    ):
        kind = "labelled-lines"
        for file in files if "reader" not in asked else ():
            refuse_other(file)
    kind = str(asked.pop("reader", kind))
    if not issubclass(resolve("reader", kind, where="data.reader"), LabelledReader):
        raise UserError(
            f"this model's data come from the reader {own}, which can't read files for prediction", where=str(path)
        )
    shared = data if kind == own else ("coding", "errors")
    options = {key: data[key] for key in shared if data.get(key) is not None}
    if column is not None:
        if kind != "table":
            raise UserError(f"{column!r}: only tables have columns", where="--column")
        options |= {"input": column, "header": True}
    options = {key: value for key, value in (options | asked).items() if value is not None and key not in SECTION}
    reader: LabelledReader = build("reader", kind, options, SECTION, [path])
    return reader


def _asked(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of "data.KEY=VALUE"; None removes a setting."""
    asked: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        section, _, name = key.strip().partition(".")
        if not equals or section != "data" or not name or name in ("path", "dataset", "split"):
            hint = "settings of the reader, for example: --set data.coding=latin-1"
            raise UserError(f"{override!r} isn't a setting for reading files", where="--set", hint=hint)
        asked[name] = parse_yaml(text, where=f"--set {key}")
    return asked
