"""The format of a run's latest state in its artifacts, with which another machine can resume the run.

Each writer alternates between two folders, and the run's tag `travel` names the complete one, with the size and sha256
of each file, so that a kill during an upload leaves the previous set. Artifacts: `travel/WRITER-0/`,
`travel/WRITER-1/`, and `travel/data/` with the ingested data if they are small.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.provenance import digest_bytes
from components.tracking.process import machine_name

TAG = "travel"
STATE_FOLDER = "travel.place"  # tag: the state folder where a run runs or ran last
FOLDER = "travel"
DATA = f"{FOLDER}/data"
LARGEST_FILE = 64 << 30  # bytes
MOST_FILES = 500
_NAME = re.compile(r"[\w][\w.-]{0,99}")
_SLOT = re.compile(rf"{FOLDER}/[0-9a-f]{{12}}-[01]")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Files = Mapping[str, tuple[int, str]]  # name → bytes, sha256


@dataclass(frozen=True)
class StateSet:
    """A complete set of files. `update`: that of the checkpoint; `seen`: the writer's last heartbeat (seconds since
    1970); `every`: the interval of heartbeats (seconds)."""

    folder: str
    update: int
    seen: float
    every: int
    files: Files

    def as_tag(self) -> str:
        values = {"folder": self.folder, "update": self.update, "seen": round(self.seen), "every": self.every}
        return json.dumps(values | {"files": {name: list(facts) for name, facts in self.files.items()}})

    @classmethod
    def from_tag(cls, text: str) -> StateSet | None:
        """The set in a tag; None if the tag isn't valid: it is untrusted input."""
        try:
            values = json.loads(text)
            files = checked_files(values["files"])
            folder, update, seen, every = (values[name] for name in ("folder", "update", "seen", "every"))
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        whole = all(isinstance(each, int) and 0 <= each < 1 << 53 for each in (update, seen, every))
        if not whole or not isinstance(folder, str) or not _SLOT.fullmatch(folder):
            return None
        return cls(folder, update, float(seen), every, files)


def checked_files(values: Any) -> dict[str, tuple[int, str]]:
    """{name: (bytes, sha256)} from JSON. Raises ValueError for anything else, e.g. a name that is a path."""
    if not isinstance(values, dict) or len(values) > MOST_FILES:
        raise ValueError("not a list of files")
    files = {}
    for name, facts in values.items():
        size, digest = facts if isinstance(facts, list) and len(facts) == 2 else (None, None)
        good = isinstance(size, int) and 0 <= size <= LARGEST_FILE
        if not good or not isinstance(digest, str) or not _SHA256.fullmatch(digest) or not _NAME.fullmatch(name):
            raise ValueError(f"{str(name)[:80]!r} isn't a file that can be fetched")
        files[name] = (size, digest)
    return files


def state_folder_id(home: Path) -> str:
    """An id of a machine's state folder."""
    return f"{machine_name()}/{digest_bytes(str(home).encode())[:8]}"


def went_elsewhere(tags: Mapping[str, str], status: str, home: Path) -> bool:
    """Whether a run of this state folder was continued from its complete set in another one. Its spool and checkpoint
    here are then obsolete: everything before a complete set had reached the store, the rest was computed again."""
    at_work = tags.get(STATE_FOLDER, "")
    return bool(at_work) and at_work != state_folder_id(home) and (bool(tags.get(TAG)) or status == "FINISHED")


def writer_name(identity: str, journal: str) -> str:
    """12 hex digits that are unique to a writer, so that it never overwrites another writer's set."""
    return digest_bytes(f"{identity} {journal}".encode())[:12]
