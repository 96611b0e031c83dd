"""The interface of tracking for the other packages: runs and model versions, without MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
