"""`pip install .` gives what a checkout gives: the wheel holds every file that is read, and no state lies beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CARDS = "components/datasets/catalogue"


def files_below(folder: Path, named: str) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{named}/{path.relative_to(folder).as_posix()}" for path in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools writes beside what it builds."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("components", "flows", "reprise", "data/catalogue"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", target], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = target.glob("reprise-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def python(installed: Path, user: Path, *arguments: str) -> str:
    """What the installed Reprise prints to a user who is in a folder of his own."""
    names = ("REPRISE_HOME", "MLFLOW_TRACKING_URI", "REPRISE_MIRROR")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"PYTHONPATH": str(installed), "XDG_DATA_HOME": str(user / "kept"), "HOME": str(user)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=user, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_all_of_the_code_and_the_data_that_it_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = files_below(ROOT / "components", "components") | files_below(ROOT / "flows", "flows")
    wanted |= files_below(ROOT / "data" / "catalogue", CARDS) | files_below(ROOT / "reprise", "reprise")
    assert held == wanted, "pyproject.toml lists packages and their data"
    assert len(held) > 300


def test_the_commands_work_from_another_folder(installed: Path, tmp_path: Path) -> None:
    assert python(installed, tmp_path, "-c", "import components; print(components.__file__)").startswith(str(installed))
    assert "shakespeare-chars" in python(installed, tmp_path, "-m", "flows.cli", "recipes")
    assert "names is valid" in python(installed, tmp_path, "-m", "flows.cli", "validate", "names")
    (tmp_path / "mine.txt").write_text("the cat sat on the mat\n" * 200)
    own = ["--set", "data.path=mine.txt"]
    assert "is valid" in python(installed, tmp_path, "-m", "flows.cli", "validate", "shakespeare-chars", *own)


def test_what_is_kept_lies_in_the_users_data_folder(installed: Path, tmp_path: Path) -> None:
    ask = "from components.runs.places import STATE, places as p; print(STATE, p().home, p().datasets, p().generated)"
    if sys.platform == "linux":
        kept = tmp_path / "kept" / "reprise"
        said = python(installed, tmp_path, "-c", ask).split()
        assert [Path(one) for one in said] == [kept, kept / "runs", kept / "data" / "cache", kept / "generated"]
    elsewhere = tmp_path / "elsewhere"
    moved = python(installed, tmp_path, "-c", f"import os; os.environ['REPRISE_HOME'] = {str(elsewhere)!r}; {ask}")
    assert [Path(one) for one in moved.split()[1:]] == [elsewhere, elsewhere / "datasets", elsewhere / "generated"]


def test_mlflow_yaml_of_an_installed_reprise_is_read_from_there(installed: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "reprise"
    kept.mkdir(parents=True)
    (kept / "mlflow.yaml").write_text("ui: {port: 5055}\n")
    ask = "from components.runs.places import places; print(places().settings.ui_url)"
    assert python(installed, tmp_path, "-c", ask).strip() == "http://127.0.0.1:5055"
