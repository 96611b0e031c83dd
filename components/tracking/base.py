"""What the rest of the house knows of tracking: a run to write to, a store of models. No MLflow here."""

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
    """A registered model version. `alias` is what registration made of it: champion, challenger or ''."""

    name: str
    version: str
    run_id: str
    alias: str = ""

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


@dataclass(frozen=True)
class VersionFacts:
    """What the registry knows of a version: all its aliases (roles first), its tags, when it was registered (UTC,
    ISO 8601)."""

    ref: ModelRef
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created: str


class Run(Protocol):
    """An open run, always written to by its explicit id.

    `params`, `nest` and `dataset` reach the store before they return and raise UserError when it refuses: they belong
    to the start of a run. All the rest goes to a local spool first and from there in batches to the store, so it never
    blocks training, never fails because of the store, and never gets lost.
    """

    ref: RunRef

    @property
    def taken_over(self) -> str:
        """The machine that goes on with this run in our place; "" while it is ours."""

    def params(self, values: Mapping[str, Any]) -> None: ...
    def nest(self, parent: str, name: str) -> None:
        """Show the run beneath the run `parent` (its id) and call it `name`."""

    def tags(self, values: Mapping[str, str]) -> None: ...
    def describe(self, markdown: str) -> None: ...
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None: ...
    def dataset(self, name: str, digest: str, source: str, profile: Mapping[str, Any], context: str) -> None: ...
    def file(self, path: Path, folder: str = "") -> None: ...
    def text(self, content: str, path: str) -> None: ...
    def table(self, columns: Mapping[str, list[Any]], path: str) -> None:
        """The whole table: the same path again replaces it."""

    def image(self, path: Path, key: str, step: int) -> None: ...
    def flush(self, wait_seconds: float = 10.0) -> int:
        """Send what is spooled; returns how many entries could not be sent and stay spooled."""

    def finish(self, status: str = "FINISHED") -> None:
        """`status`: FINISHED, FAILED or KILLED. Waits for the spool, within bounds; a second call does nothing."""
