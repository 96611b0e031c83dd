"""The format of a run's latest state in its artifacts, with which another machine can resume the run.

Each writer alternates between two folders, and the run's tag `travel` names the complete one, with the size and sha256
of each file, so that a kill during an upload leaves the previous set. Artifacts: `travel/WRITER-0/`,
`travel/WRITER-1/`, and `travel/data/` with the ingested data if they are small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from components.provenance import digest_bytes
from components.tracking.process import machine_name

TAG = "travel"
STATE_FOLDER = "travel.place"  # tag: the state folder where a run runs or ran last
FOLDER = "travel"
DATA = f"{FOLDER}/data"
LARGEST_FILE = 64 << 30  # bytes
MOST_FILES = 500

Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]
Size = Annotated[int, Field(strict=True, ge=0, le=LARGEST_FILE)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^\w[\w.-]{0,99}$")]  # not a path
Files = Annotated[dict[Name, tuple[Size, Sha256]], Field(max_length=MOST_FILES)]


@dataclass(frozen=True)
class StateSet:
    """A complete set of files. `update`: that of the checkpoint; `seen`: the writer's last heartbeat (seconds since
    1970); `every`: the interval of heartbeats (seconds)."""

    folder: Annotated[str, Field(pattern=f"^{FOLDER}/[0-9a-f]{{12}}-[01]$")]
    update: Count
    seen: Annotated[float, Field(ge=0, lt=1 << 53, allow_inf_nan=False)]
    every: Count
    files: Files

    def as_tag(self) -> str:
        return json.dumps(asdict(self) | {"seen": round(self.seen)})

    @classmethod
    def from_tag(cls, text: str) -> StateSet | None:
        """The set in a tag; None if the tag isn't valid: it is untrusted input."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValueError:
            return None


def checked_files(values: Any) -> Files:
    """{name: (bytes, sha256)} from JSON. Raises ValueError for anything else, e.g. a name that is a path."""
    try:
        return TypeAdapter(Files).validate_python(values)
    except ValidationError as error:
        place, what = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise ValueError(f"{str(place)[:120]} isn't a file that can be fetched: {what}") from None


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
