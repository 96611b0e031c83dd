"""Selecting and loading a model: a registered version, or the model of a run on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.tracking.base import ModelRef
from components.tracking.mlflow_store import MlflowStore

if TYPE_CHECKING:
    from components.bundle import Bundle  # imports torch, which isn't needed for listing models

RUN = "run:"
# selectors of registered models in an HTTP request
PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9_. -]{0,199}(@[A-Za-z0-9_.-]{1,64})?$"


@dataclass(frozen=True)
class Selector:
    """Which model: NAME (its champion), NAME@champion, NAME@3 or NAME@latest; or run:ID, the model of a run on this
    machine. `version` is "" if none was given."""

    name: str
    version: str
    run: str

    @classmethod
    def parse(cls, text: str) -> Selector:
        if text.startswith(RUN):
            return cls("", "", text.removeprefix(RUN))
        name, _, version = text.partition("@")
        return cls(name, version, "")


@dataclass(frozen=True)
class OwnRun:
    """A run on this machine: its name, its id, and the path of its bundle."""

    name: str
    run_id: str
    folder: Path


@dataclass(frozen=True)
class Opened:
    """A bundle and its origin. `version` is "" for the model of a run that isn't registered."""

    bundle: Bundle
    name: str
    version: str
    run_id: str

    @property
    def label(self) -> str:
        """Name of the model in file names."""
        return f"{self.name}-v{self.version}" if self.version else f"{self.name}-run-{self.run_id[:8]}"

    @property
    def selector(self) -> str:
        """The selector that opens it again."""
        return selector_of(self.name, self.version, self.run_id)


def selector_of(name: str, version: str, run_id: str) -> str:
    """The selector of a registered version or, if `version` is "", of the model of a run."""
    return f"{name}@{version}" if version else f"{RUN}{run_id}"


def find(selector: str, store: MlflowStore) -> ModelRef:
    """The registered version for a selector.

    Raises:
        UserError: there is no such model or version; the message lists those that exist.
    """
    asked = Selector.parse(selector)
    return store.find(asked.name or selector, asked.version or "champion")


def open_model(selector: str, store: MlflowStore, run_of: Callable[[str], OwnRun], device: str = "cpu") -> Opened:
    """Load the model for a selector on a device (cpu, cuda or cuda:N). `run_of` finds the runs of this machine.

    Raises:
        UserError: there is no such model, version or run, or its files have changed since they were saved.
    """
    from components.bundle import load_bundle

    asked = Selector.parse(selector)
    if asked.run:
        run = run_of(asked.run)
        return Opened(load_bundle(run.folder, device), run.name, "", run.run_id)
    ref = find(selector, store)
    return Opened(load_bundle(store.fetch(ref), device), ref.name, ref.version, ref.run_id)
