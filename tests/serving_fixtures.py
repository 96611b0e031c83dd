"""A store of small real models that nobody trained, the API over it, and a way to make drawing slow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_models import SOLD, WRITERS, save, serving

if TYPE_CHECKING:
    import httpx
    from fastapi.testclient import TestClient

    from components.bundle import Bundle
    from components.tracking.mlflow_store import MlflowStore


@contextmanager
def shop(root: Path, names: Sequence[str], database: Path) -> Iterator[MlflowStore]:
    """A store of these models, each its own champion; `tales` has a second version, which starts otherwise."""
    from components.tracking import spool
    from components.tracking.mlflow_backend import MlflowTracker
    from components.tracking.mlflow_store import MlflowStore
    from components.tracking.settings import load_settings

    with pytest.MonkeyPatch.context() as patch:
        for name in ("REPRISE_HOME", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.setattr(spool, "INTERVAL_SECONDS", 0.02)
        (root / "mlflow.yaml").write_text("system_metrics: {every_seconds: 0}\n")
        (root / "runs").mkdir()
        shutil.copy(database, root / "runs" / "mlflow.db")
        settings = load_settings(root)
        run = MlflowTracker(settings).start("served", "small", tags={})
        store = MlflowStore(settings)
        for name in names:
            save(root / "bundles" / name, name)
            store.set_alias(store.register(run.ref, root / "bundles" / name, name, tags={}), "champion")
        second = shutil.copytree(root / "bundles" / "tales", root / "bundles" / "tales2")
        (second / "recipe.json").write_text((second / "recipe.json").read_text().replace('"the "', '"a "'))
        store.register(run.ref, second, "tales", tags={})
        run.finish()
        yield store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[MlflowStore]:
    with shop(tmp_path_factory.mktemp("shop"), SOLD, database) as made:
        yield made


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """The models that write, as a person opens them: each draws alone."""
    from components.bundle import load_bundle

    root = tmp_path_factory.mktemp("bundles")
    for name in WRITERS:
        save(root / name, name)
    return {name: load_bundle(root / name) for name in WRITERS}


@pytest.fixture(scope="module")
def address(store: MlflowStore) -> Iterator[str]:
    from components.serving.app import build

    with serving(build(store, hosts=["127.0.0.1"])) as found:
        yield found


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    import httpx

    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def here(store: MlflowStore, monkeypatch: pytest.MonkeyPatch) -> MlflowStore:
    """The store of the tests in the place of this machine's."""
    from components.runs import generate, predict
    from components.runs.places import Places

    for module in (generate, predict):
        monkeypatch.setattr(module, "places", lambda: Places(store.settings))
    return store


@pytest.fixture(scope="module")
def http(store: MlflowStore) -> Iterator[TestClient]:
    from fastapi.testclient import TestClient

    from components.serving.app import build

    with TestClient(build(store, hosts=None)) as client:
        yield client


@pytest.fixture
def slowly(compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One token a call of the engine, so that drawing takes a while, and frequent looks at it."""
    from components.serving import batching

    monkeypatch.setattr(batching, "STEPS", 1)
    monkeypatch.setattr(batching, "SHOW_SECONDS", 0.02)
    monkeypatch.setattr(batching, "CHECK_SECONDS", 0.02)
