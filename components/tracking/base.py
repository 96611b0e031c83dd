"""The interface of tracking for the other packages: runs and model versions, without MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunRef:
    """A tracked run."""

    run_id: str
    experiment: str
    url: str = ""  # deep link into the UI


@dataclass(frozen=True)
class ModelRef:
    """A registered model version. `alias`: champion, challenger, another alias or ''."""

    name: str
    version: str
    run_id: str
    alias: str = ""

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


@dataclass(frozen=True)
class VersionFacts:
    """A version's entry in the registry: all its aliases (roles first), its tags, and when it was registered (UTC, ISO
    8601)."""

    ref: ModelRef
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created: str


class Run(Protocol):
    """An open run, always written to by its explicit id.

    `params`, `nest` and `dataset` wait for the store and raise UserError if it refuses: they belong to the start of a
    run. Everything else is written to a local spool and sent to the store in batches, so that it never blocks training,
    never fails because of the store, and is never lost.
    """

    ref: RunRef

    @property
    def taken_over(self) -> str:
        """The machine that has taken over this run; "" while it runs here."""

    def params(self, values: Mapping[str, Any]) -> None: ...
    def nest(self, parent: str, name: str) -> None:
        """Make the run a child of the run `parent` (its id) and name it `name`."""

    def tags(self, values: Mapping[str, str]) -> None: ...
    def describe(self, markdown: str) -> None: ...
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None: ...
    def dataset(self, name: str, digest: str, source: str, profile: Mapping[str, Any], context: str) -> None: ...
    def file(self, path: Path, folder: str = "") -> None: ...
    def text(self, content: str, path: str) -> None: ...
    def table(self, columns: Mapping[str, list[Any]], path: str) -> None:
        """Log a table, replacing an earlier one with the same path."""

    def image(self, path: Path, key: str, step: int) -> None: ...
    def flush(self, wait_seconds: float = 10.0) -> int:
        """Send the spooled entries; returns how many are still unsent."""

    def finish(self, status: str = "FINISHED") -> None:
        """End the run. `status`: FINISHED, FAILED or KILLED. Waits for the spool, up to a timeout; a second call does
        nothing."""
