"""A store of small real models that nobody trained."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_models import SOLD, save

if TYPE_CHECKING:
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
