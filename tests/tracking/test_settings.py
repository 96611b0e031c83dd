"""mlflow.yaml is read strictly: every mistake at once, with the nearest name and never a password."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.errors import UserError
from components.tracking.settings import FILE, _File, _read, load_settings

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("no_settings_from_outside")


def test_the_projects_own_file_is_valid() -> None:
    settings = load_settings(ROOT)
    assert (ROOT / "mlflow.yaml").is_file()
    assert settings.tracking_uri == f"sqlite:///{ROOT}/runs/mlflow.db"
    assert settings.artifacts == f"{ROOT}/runs/artifacts"


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert _read(ROOT / FILE) == _File()  # an installed Reprise has no file
    settings = load_settings(tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert settings.ui_url == "http://127.0.0.1:5000"


def test_all_mistakes_are_told_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "mlflow.yaml").write_text("trackin: {uri: x}\nui: {prt: 5, port: '5000'}\nregistry: {champion: v3}\n")
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path)
    message = str(caught.value)
    assert "'tracking'" in message
    assert "'port'" in message
    assert "ui.port: Input should be a valid integer" in message
    assert "registry.champion" in message
    assert "mlflow.yaml" in message


@pytest.mark.parametrize(
    "text",
    ["[1, 2]", "ui: {port: 70000}", "ui: [", "ui:\n  port: 1\n  port: 2\n", "tracking: {uri: mlruns}", "home: [x]",
     "tracking: {uri: 'sqlite:///:memory:'}", "registry: {champion: a, challenger: a}", "1: 2", "\x00", "a" * 100_000],
)  # fmt: skip
def test_a_wrong_file_is_the_users_mistake_and_says_where(tmp_path: Path, text: str) -> None:
    (tmp_path / "mlflow.yaml").write_text(text)
    with pytest.raises(UserError, match=r"mlflow\.yaml"):
        load_settings(tmp_path)


def test_the_environment_moves_home_and_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRISE_HOME", "elsewhere")
    settings = load_settings(ROOT)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/elsewhere/mlflow.db"
    assert settings.spool == tmp_path / "elsewhere" / "spool"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracking.example.org/")
    settings = load_settings(ROOT)
    assert settings.served
    assert settings.ui_url == "https://tracking.example.org"


def test_a_password_in_a_wrong_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://me:secret@tracking.example.org")
    with pytest.raises(UserError) as caught:
        load_settings(ROOT)
    assert "secret" not in str(caught.value)
    assert caught.value.where == "MLFLOW_TRACKING_URI"


def test_a_password_in_the_address_of_artifacts_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "mlflow.yaml").write_text("tracking: {artifacts: 's3://KEY:hush-hush@bucket/runs'}\n")
    with pytest.raises(UserError, match="contains a password") as caught:
        load_settings(tmp_path)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("home", ["~nosuchuser/x", "a\0b", "x" * 300])
def test_a_home_that_cannot_be_a_path_is_the_users_mistake(home: str, tmp_path: Path) -> None:
    (tmp_path / "mlflow.yaml").write_text(f"home: {json.dumps(home)}\n")
    with pytest.raises(UserError, match=r"mlflow\.yaml: home"):
        load_settings(tmp_path)
