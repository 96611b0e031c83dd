"""The file through which a study and the process of a trial communicate."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.whole_files import written_whole


@dataclass
class TrialFile:
    """A trial as a file. `run_id` is set when the run is opened; `metrics`, "val/…" and "test/…", when it has finished;
    `failed` is the reason if it hasn't. A trial of a search also has its `search`, and `pruned`, the number of updates
    after which it was pruned."""

    name: str
    label: str
    settings: dict[str, Any]
    recipe: dict[str, Any]  # including its name
    dataset: dict[str, Any]
    device: str
    threads: int
    parameters: int
    parent: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    run_id: str = ""
    metrics: dict[str, float] | None = None
    failed: str = ""
    search: dict[str, Any] = field(default_factory=dict)
    pruned: int = 0
    progress: dict[str, Any] = field(default_factory=dict)  # of its last checkpoint
    away: bool = False  # it runs on a worker of a cluster, see `components.runs.away`
    data: dict[str, Any] = field(default_factory=dict)  # files of the data in the parent run's artifacts
    files: dict[str, str] = field(default_factory=dict)  # contents of files returned by a worker

    @classmethod
    def load(cls, path: Path) -> TrialFile:
        """Read a trial from its file. Raises UserError if the file isn't one."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"isn't a valid trial file: {error}", where=str(path)) from None

    def save(self, path: Path) -> None:
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
