"""The history of a model's aliases, kept as tags of the registered model: who, when, from which version, to which, why.

The registry only stores where an alias is now; a rollback needs to know where it was.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

KEPT = 100  # changes of a model; older ones are deleted
MAX_WHY_CHARACTERS = 400
_KEY = re.compile(r"alias\.(\d{16})")


@dataclass(frozen=True)
class AliasChange:
    """`alias` moved from version `before` to version `after` ("" = none). `back` marks a rollback."""

    alias: str
    before: str
    after: str
    by: str
    at: str  # UTC, ISO 8601
    why: str = ""
    back: bool = False


def as_tag(change: AliasChange, at_us: int) -> tuple[str, str]:
    """The tag's key, which sorts by time (microseconds since 1970), and its value."""
    cut = asdict(change) | {"why": change.why[:MAX_WHY_CHARACTERS]}
    return f"alias.{at_us:016d}", json.dumps(cut, ensure_ascii=False)


def from_tags(tags: Mapping[str, str]) -> list[AliasChange]:
    """The changes in a registered model's tags, oldest first. Invalid tags are skipped."""
    changes = []
    for key in keys(tags):
        with contextlib.suppress(ValueError):
            changes.append(TypeAdapter(AliasChange).validate_json(tags[key]))
    return changes


def keys(tags: Iterable[str]) -> list[str]:
    """The keys among a registered model's tags that hold changes, oldest first."""
    return sorted(key for key in tags if _KEY.fullmatch(key))


def earlier(changes: Iterable[AliasChange], alias: str, now: str, known: Iterable[str]) -> str | None:
    """The version among `known` that had `alias` before `now`, the version that has it; None: there is none.

    A rollback undoes the last step and isn't a step itself, so that a second rollback goes one version further back.
    """
    path: list[str] = []
    for change in changes:
        if change.alias != alias:
            continue
        if not path and change.before:
            path.append(change.before)
        if change.back:
            while path and path[-1] != change.after:
                path.pop()
        if path[-1:] != [change.after]:
            path.append(change.after)
    if now and path[-1:] != [now]:  # it was moved in MLflow's UI
        path.append(now)
    there = set(known)
    return next((version for version in reversed(path[:-1]) if version in there and version != now), None)


def shown_time(ms: int) -> str:
    """Milliseconds since 1970 as UTC in ISO 8601, to the second."""
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
