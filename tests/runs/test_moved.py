"""A state folder with any name works, and one that was moved or copied takes its runs and models along."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.errors import UserError
from components.tracking import mlflow_client, spool
from components.tracking.mlflow_backend import MlflowStore, MlflowTracker
from components.tracking.mlflow_client import open_client
from components.tracking.moved import local_folder
from components.tracking.settings import Settings, load_settings

pytest_plugins = ["tracking_fixtures"]
# MLflow 3.17 looking at an input example with pandas 3
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Operation with range is deprecated")]


@pytest.fixture
def at(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch):
    """The settings of a home with this name, with an empty store in it where it is new."""
    monkeypatch.setattr(spool, "INTERVAL_SECONDS", 0.02)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.yaml").write_text("system_metrics: {every_seconds: 0}\n")

    def make(name: str) -> Settings:
        home = tmp_path / name
        if not home.exists():
            home.mkdir(parents=True)
            shutil.copy(database, home / "mlflow.db")
        monkeypatch.setenv("REPRISE_HOME", str(home))
        # as a command of its own
        from mlflow.tracking._tracking_service import utils

        utils._artifact_repos_cache.clear()
        monkeypatch.setattr(mlflow_client, "_clients", {})
        return load_settings(tmp_path)

    return make


def registered(settings: Settings, seed: int = 0) -> tuple[str, Path]:
    """A run with a model: its id, and the model's folder."""
    bundle = settings.home / f"bundle-{seed}"
    bundle.mkdir()
    (bundle / "recipe.json").write_text("{}")
    (bundle / "encoding.json").write_text(f'{{"seed": {seed}}}')
    run = MlflowTracker(settings).start("tunes of ours", f"s{seed}", tags={})
    run.text("as it was", "notes/a.txt")
    store = MlflowStore(settings)
    ref = store.register(run.ref, bundle, "tunes", tags={})
    run.finish()
    return run.ref.run_id, store.fetch(ref)


@pytest.mark.parametrize("name", ["My%20Project", "a b & c", "Grüße", "# one", "C:\\new", "a;b+c=d@e"])
def test_a_home_may_have_any_name(at, name: str) -> None:
    settings = at(name)
    run = MlflowTracker(settings).start("tunes of ours", "s0", tags={})
    run.text("as it was", "notes/a.txt")
    run.finish()
    artifacts = local_folder(open_client(settings).get_run(run.ref.run_id).info.artifact_uri)
    assert artifacts.is_relative_to(settings.home / "artifacts" / "tunes-of-ours")
    assert (artifacts / "notes" / "a.txt").read_text() == "as it was"
    assert [path.name for path in settings.home.parent.glob("*/mlflow.db")] == ["mlflow.db"]


def test_a_question_mark_in_the_path_is_refused_before_anything_starts(at) -> None:
    with pytest.raises(UserError, match=r"can't contain '\?'"):
        at("what?")


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_runs_and_models_come_along(at, how: str) -> None:
    old = at("50%25 old home")
    run_id, _ = registered(old)
    if how == "moved":
        old.home.rename(old.home.parent / "new home")
    else:
        shutil.copytree(old.home, old.home.parent / "new home")
    new = at("new home")
    store = MlflowStore(new)
    assert store.fetch(store.find("tunes", "1")).is_relative_to(new.home)
    assert local_folder(open_client(new).get_run(run_id).info.artifact_uri).is_relative_to(new.home)
    resumed = MlflowTracker(new).resume(run_id)
    resumed.text("later", "notes/b.txt")
    resumed.finish()
    before = sorted(old.home.rglob("*")) if how == "copied" else []
    _, folder = registered(new, seed=1)
    assert folder.is_relative_to(new.home)
    assert (sorted(old.home.rglob("*")) if old.home.exists() else []) == before
    assert len(list(new.home.glob("artifacts/tunes-of-ours/*/artifacts/notes/*.txt"))) == 3


def test_files_that_lie_elsewhere_are_said_to(at, tmp_path: Path) -> None:
    settings = at("home")
    _, folder = registered(settings)
    shutil.rmtree(settings.home / "artifacts")
    store = MlflowStore(settings)
    with pytest.raises(UserError, match="doesn't exist here") as caught:
        store.fetch(store.find("tunes", "1"))
    assert str(folder.parents[1]) in str(caught.value)
    assert "tracking.artifacts" in caught.value.hint


def test_a_run_finds_its_data_under_the_home_of_today(tmp_path: Path, small_recipe, monkeypatch) -> None:
    from components.datasets.ingest import ingest
    from components.datasets.store import DatasetRef
    from components.runs.record import RunRecord
    from components.tracking.base import RunRef

    recipe, old, new = small_recipe(), tmp_path / "old", tmp_path / "new"
    ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=old / "datasets", seed=0)
    record = RunRecord(recipe, ref, RunRef("a" * 32, "small"), "a run", "cpu", 1)
    record.save(old / "checkpoints" / "run")
    shutil.copytree(old, new)
    monkeypatch.setenv("REPRISE_HOME", str(new))
    folder = new / "checkpoints" / "run"
    assert Path(RunRecord.load(folder).dataset.path).is_relative_to(new), "a copy doesn't read the original's"
    shutil.rmtree(old)
    assert RunRecord.load(folder).dataset == DatasetRef(ref.path.replace(str(old), str(new)), ref.digest)
    (new / "datasets").rename(tmp_path / "lost")
    assert RunRecord.load(folder).dataset == ref, "opening it says that it isn't there"
