"""Provenance inside generated files: a record of what made a file, in a marker that any format can carry.

The marker is plain ASCII. It fits into a MIDI text event, a PNG text chunk or a comment, and is found by searching the
bytes, without a parser for each format.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import deque
from pathlib import Path
from typing import Any

from components.errors import UserError

Record = dict[str, Any]  # JSON-ready: model, version, run_id, weights_digest, seed, count, index, settings …

_START, _END = "reprise-record:", ":end"
_MARKER = re.compile(rb"reprise-record:([A-Za-z0-9_=-]+):end")
RECORD_LIMIT_BYTES = 64 * 1024
FILE_LIMIT_BYTES = 256 * 1024 * 1024


def embed_marker(record: Record) -> str:
    """The record as one line of ASCII: equal records give equal markers.

    Raises:
        UserError: the record isn't JSON-ready (NaN and infinities aren't) or is longer than 64 KB.
    """
    try:
        data = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"the record of a generated file can't be written as JSON: {error}",
            where="record",
            hint="use only text, finite numbers, true/false, lists and tables with text keys",
        ) from None
    if len(data) > RECORD_LIMIT_BYTES:
        raise UserError(
            f"the record of a generated file has {len(data):,} bytes; at most {RECORD_LIMIT_BYTES:,} are allowed",
            where="record",
            hint="keep digests and settings in the record, not the data itself",
        )
    return f"{_START}{base64.urlsafe_b64encode(data).decode()}{_END}"


def with_record(text: str, record: Record | None) -> str:
    """`text` with the marker as its last line."""
    if record is None:
        return text
    gap = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{gap}{embed_marker(record)}\n"


def without_record(text: str) -> str:
    """The text without the marker's line: the inverse of `with_record`."""
    return re.sub(r"reprise-record:[A-Za-z0-9_=-]+:end\n?$", "", text)


def read_record(path: Path) -> Record:
    """The record inside a generated file of any format.

    If a file holds several markers the last one counts: renderers write theirs after any untrusted text.

    Raises:
        UserError: no such file, larger than 256 MB, without a record, or with a damaged one.
    """
    path = Path(path)
    again = "give an unchanged file from `reprise generate`: converting or re-saving it can remove the record"
    try:
        if not path.is_file():
            raise UserError("is not a file", where=str(path), hint=again)
        size = path.stat().st_size
        if size > FILE_LIMIT_BYTES:
            raise UserError(
                f"is too large: {size:,} bytes, at most {FILE_LIMIT_BYTES:,} are read",
                where=str(path),
                hint=again,
            )
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES)  # bounded even if the file grows meanwhile
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror or error}", where=str(path), hint=again) from None
    found = deque(_MARKER.finditer(data), maxlen=1)
    if not found:
        damaged = _START.encode() in data
        what = "its record was cut off or altered" if damaged else "contains no record of how it was made"
        raise UserError(what, where=str(path), hint=again)
    return _decode(found[0].group(1), str(path), again)


def _decode(payload: bytes, where: str, hint: str) -> Record:
    if len(payload) > RECORD_LIMIT_BYTES * 4 // 3 + 4:
        raise UserError(f"its record is larger than {RECORD_LIMIT_BYTES:,} bytes", where=where, hint=hint)
    try:
        record = json.loads(base64.b64decode(payload, altchars=b"-_", validate=True), parse_constant=_refuse)
    except (binascii.Error, ValueError, RecursionError):
        raise UserError("its record was cut off or altered", where=where, hint=hint) from None
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise UserError(f"its record is a {kind}, not a table of settings", where=where, hint=hint)
    return record


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def printable(text: str, limit: int = 200) -> str:
    """An untrusted title or name, made safe to print in any of the formats.

    One line, no control or private characters (XML forbids some), no marker, at most `limit` characters.
    """
    clean = "".join(c if c.isprintable() else " " for c in text[: 4 * limit]).replace(_START, "reprise record:")
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
