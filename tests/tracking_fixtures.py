"""Fixtures of the tests that need MLflow: a store of the test's own, and a run in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from components.tracking.settings import Settings, load_settings

if TYPE_CHECKING:  # most test files need none of MLflow
    from components.tracking.mlflow_backend import MlflowRun, MlflowTracker


@pytest.fixture
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPRISE_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, one for all workers; making one takes seconds, copying it doesn't."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # the run's, in which each worker has a folder
    root = shared / "store"
    with FileLock(shared / "store.lock"), pytest.MonkeyPatch.context() as patch:
        if not root.exists():
            from components.tracking.mlflow_client import open_client

            making = tmp_path_factory.mktemp("store")
            patch.setenv("REPRISE_HOME", str(making))
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            open_client(load_settings(making))
            making.rename(root)  # whole, or not there
    return root / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, database: Path, no_settings_from_outside: None) -> Settings:
    (tmp_path / "mlflow.yaml").write_text("system_metrics: {every_seconds: 0}\nexperiments: {tags: {project: p}}\n")
    (tmp_path / "runs").mkdir()
    shutil.copy(database, tmp_path / "runs" / "mlflow.db")
    return load_settings(tmp_path)


@pytest.fixture
def home_settings(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the commands find them: those of a state folder with an empty store in it."""
    from components.runs.places import places

    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(database, home / "mlflow.db")
    monkeypatch.setenv("REPRISE_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return places().settings


@pytest.fixture
def tracker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> MlflowTracker:
    from components.tracking import spool
    from components.tracking.mlflow_backend import MlflowTracker

    monkeypatch.setattr(spool, "INTERVAL_SECONDS", 0.02)
    return MlflowTracker(settings)


@pytest.fixture
def run(tracker: MlflowTracker) -> Iterator[MlflowRun]:
    run = tracker.start("chorales", "lstm-s0", tags={"recipe": "chorales"})
    yield run
    run.finish()
