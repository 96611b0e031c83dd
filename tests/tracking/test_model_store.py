"""Registered models are found by what a person calls them and fetched exactly as they were, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import UserError
from components.provenance import digest_bytes
from components.tracking.base import ModelRef
from components.tracking.mlflow_backend import MlflowRun, MlflowStore
from components.tracking.settings import Settings, load_settings

pytest_plugins = ["tracking_fixtures"]
# MLflow 3.17 looking at an input example with pandas 3
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated")


@pytest.fixture
def store(settings: Settings) -> MlflowStore:
    return MlflowStore(settings)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "recipe.json").write_text("{}")
    (folder / "weights.safetensors").write_bytes(bytes(range(200)))
    return folder


def test_where_no_model_is_registered_the_way_to_one_is_said(home_settings):
    with pytest.raises(UserError, match=r"none is registered yet\n`reprise run names`"):
        MlflowStore(home_settings).find("names", "champion")


def test_a_registered_model_is_fetched_as_it_was(store: MlflowStore, run: MlflowRun, bundle: Path) -> None:
    ref = store.register(run.ref, bundle, "chorales", tags={"test.digest": "d"})
    assert ref == ModelRef("chorales", "1", run.ref.run_id)
    got = store.fetch(ref)
    assert {path.name: path.read_bytes() for path in got.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }
    tags = store.tags(ref)
    assert tags["test.digest"] == "d"
    assert json.loads(tags["bundle.files"])["recipe.json"] == digest_bytes(b"{}")


def test_registering_the_same_again_gives_the_same_version(store: MlflowStore, run: MlflowRun, bundle: Path) -> None:
    first = store.register(run.ref, bundle, "chorales", tags={})
    assert store.register(run.ref, bundle, "chorales", tags={}) == first
    (bundle / "recipe.json").write_text("{ }")
    assert store.register(run.ref, bundle, "chorales", tags={}).version == "2"


def test_nothing_pickled_is_stored(store: MlflowStore, run: MlflowRun, bundle: Path) -> None:
    ref = store.register(run.ref, bundle, "chorales", tags={})
    model = store.fetch(ref).parents[1]
    names = [path.name for path in model.rglob("*") if path.is_file()]
    assert len(names) > 10
    assert [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin", ".pyc"))] == []
    assert (model / "code" / "components" / "errors.py").is_file()
    assert "torch==" in (model / "requirements.txt").read_text()


def test_finding_follows_aliases_numbers_and_latest(store: MlflowStore, run: MlflowRun, bundle: Path) -> None:
    refs = []
    for number in range(3):
        (bundle / "recipe.json").write_text(str(number))
        refs.append(store.register(run.ref, bundle, "chorales", tags={}))
    assert store.champion("chorales") is None
    assert store.set_alias(refs[0], "champion").alias == "champion"
    store.set_alias(refs[1], "challenger")
    assert store.find("chorales", "champion").version == "1"
    assert store.find("chorales", "2") == store.find("chorales", "v2") == store.find("chorales", "challenger")
    assert store.find("chorales", "latest").version == "3"
    store.set_alias(refs[1], "champion")
    assert store.champion("chorales") == ModelRef("chorales", "2", run.ref.run_id, "champion")
    assert store.find("chorales", "1").alias == ""
    with pytest.raises(UserError, match=r"versions: 1, 2, 3; aliases: champion \(v2\)"):
        store.find("chorales", "challenger")


def test_an_unknown_model_lists_what_there_is(store: MlflowStore, run: MlflowRun, bundle: Path) -> None:
    store.register(run.ref, bundle, "chorales", tags={})
    for name in ("choral", "cho'rales", "../x", ""):
        with pytest.raises(UserError, match="choices: chorales"):
            store.find(name, "champion")
        assert store.champion(name) is None


def test_names_that_cannot_be_are_refused(store: MlflowStore, run: MlflowRun, bundle: Path, tmp_path: Path) -> None:
    for name in ("a/b", "x' or name = 'y", "", ".."):
        with pytest.raises(UserError, match="isn't a valid model name"):
            store.register(run.ref, bundle, name, tags={})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="nothing to register"):
        store.register(run.ref, tmp_path / "empty", "chorales", tags={})


def change(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"other")


def remove(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def add(folder: Path) -> None:
    (folder / "more.py").write_text("x")


@pytest.mark.parametrize(
    ("tamper", "said"), [(change, "was changed"), (remove, "is missing"), (add, "was not registered")]
)
@pytest.mark.parametrize("remote", [False, True])
def test_a_tampered_model_is_refused(
    store: MlflowStore,
    run: MlflowRun,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    tamper: Callable[[Path], None],
    said: str,
    remote: bool,
) -> None:
    ref = store.register(run.ref, bundle, "chorales", tags={})
    if remote:  # tampered on the way, and then in the cache
        stored = store.fetch(ref)
        monkeypatch.setattr("components.tracking.mlflow_store.local_folder", lambda address: None)
        kept = shutil.copytree(stored, bundle.parent / "kept")
        tamper(stored)
        with pytest.raises(UserError, match=said):
            store.fetch(ref)
        shutil.rmtree(stored)
        shutil.copytree(kept, stored)
    tamper(store.fetch(ref))
    with pytest.raises(UserError, match=said):
        store.fetch(ref)


def test_a_remote_model_is_copied_once(
    store: MlflowStore, run: MlflowRun, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.artifacts

    ref = store.register(run.ref, bundle, "chorales", tags={})
    monkeypatch.setattr("components.tracking.mlflow_store.local_folder", lambda address: None)
    folder = store.fetch(ref)
    model = folder.parents[1]
    assert model.parent == store.settings.model_cache
    assert model.name.startswith("chorales-v1-")
    assert (model / "pyfunc.py").is_file(), "its code is verified with it"
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", None)  # a call would fail
    assert store.fetch(ref) == folder
    assert [path.name for path in store.settings.model_cache.iterdir()] == [model.name]


def test_a_moved_project_keeps_its_models(
    store: MlflowStore, run: MlflowRun, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.register(run.ref, bundle, "chorales", tags={})
    run.finish()
    elsewhere = tmp_path / "moved"
    (tmp_path / "runs").rename(elsewhere)
    monkeypatch.setenv("REPRISE_HOME", str(elsewhere))
    folder = MlflowStore(load_settings(tmp_path)).fetch(ref)
    assert folder.is_relative_to(elsewhere)
    assert (folder / "recipe.json").is_file()


def test_a_model_of_somebody_elses_is_not_trusted(store: MlflowStore, run: MlflowRun) -> None:
    store.client.create_registered_model("foreign")
    store.client.create_model_version("foreign", source=str(store.settings.home), run_id=run.ref.run_id)
    with pytest.raises(UserError, match="wasn't registered by Reprise"):
        store.fetch(store.find("foreign", "latest"))


def test_code_is_verified_with_the_model_and_exported_as_it_was(
    store: MlflowStore, run: MlflowRun, bundle: Path, tmp_path: Path
) -> None:
    ref = store.register(run.ref, bundle, "chorales", tags={})
    model = store.fetch(ref).parents[1]
    kept = shutil.copytree(model, tmp_path / "kept")
    errors = model / "code" / "components" / "errors.py"
    tampered = {
        "pyfunc.py was changed": lambda: (model / "pyfunc.py").write_text("print('gone')"),
        "MLmodel was changed": lambda: (model / "MLmodel").write_text("flavors: {}"),
        "requirements.txt is missing": lambda: (model / "requirements.txt").unlink(),
        "code/ was changed": lambda: errors.write_text(errors.read_text() + "\nimport antigravity\n"),
        "json.py was not registered": lambda: (model / "json.py").write_text(""),
        "code/ was": lambda: (model / "code" / "json").symlink_to(tmp_path),
        "more was not registered": lambda: os.mkfifo(model / "more"),
    }
    for said, tamper in tampered.items():
        tamper()
        for use in (store.fetch, lambda ref: store.export(ref, tmp_path / "no")):
            with pytest.raises(UserError, match=said):
                use(ref)
        assert not (tmp_path / "no").exists()
        shutil.rmtree(model)
        shutil.copytree(kept, model)
    # what MLflow and Python leave there when they load it is nothing that was changed, and isn't exported
    (model / "registered_model_meta").write_text("model_name: chorales")
    (model / "code" / "components" / "__pycache__").mkdir()
    (model / "code" / "components" / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"hostile")
    assert store.fetch(ref).is_dir()
    out = store.export(ref, tmp_path / "new" / "out")
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == sorted(p.relative_to(kept) for p in kept.rglob("*"))
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    with pytest.raises(UserError, match="already exists"):
        store.export(ref, out)


def test_a_version_without_digests_of_its_code_is_data_only(
    store: MlflowStore, run: MlflowRun, bundle: Path, tmp_path: Path
) -> None:
    ref = store.register(run.ref, bundle, "chorales", tags={})
    store.client.delete_model_version_tag("chorales", "1", "model.files")  # as older versions of Reprise registered it
    assert (store.fetch(ref) / "recipe.json").is_file()
    with pytest.raises(UserError, match=f"reprise promote run:{run.ref.run_id}"):
        store.export(ref, tmp_path / "out")
    assert store.register(run.ref, bundle, "chorales", tags={}).version == "2", "registered anew, with them"
