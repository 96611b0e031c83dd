"""The command line: quick help, clear refusals, exit codes. Flows behind it are tested in test_pipeline.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def reprise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Done]]:
    """The command line in this process: its exit code, and what it printed."""
    from flows.cli import main

    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRISE_HOME", str(tmp_path))

    def typed(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["reprise", *arguments])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
        return Done(code, *capfd.readouterr())

    yield typed
    os.environ.clear()  # a command that starts a server says so there
    os.environ.update(before)


@pytest.mark.slow
def test_ctrl_c_while_the_commands_are_imported_shows_no_traceback(tmp_path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['reprise', 'recipes']\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'flows.commands.look': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "import flows.cli"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped.\n")


@pytest.mark.slow
def test_help_imports_nothing_heavy(tmp_path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['reprise', '--help']\n"
        "from flows.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "big = {'torch', 'prefect', 'mlflow', 'music21', 'pandas', 'matplotlib', 'numpy', 'pydantic'}\n"
        "print('HEAVY', sorted(big & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
    for command in ("run", "resume", "recipes", "show", "validate", "generate", "replay", "ui", "doctor"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "choral"], "Did you mean 'chorales'?"),
        (["run", "none.yaml"], "none.yaml: No such file"),
        (["run", "names", "--set", "model.kind=lstmm"], "did you mean 'lstm'?"),
        (["run", "names", "--device", "gpu"], "unknown device 'gpu'"),
        (["run", "names", "--processes", "0"], "takes 1 to 256, not 0"),
        (["validate", "names", "--set", "training.steps"], "isn't KEY=VALUE"),
        (["resume", "nothing"], "no run 'nothing' on this machine"),
        (["replay", "none.mid"], "none.mid"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(tmp_path, reprise, arguments, said) -> None:
    done = reprise(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "prefect" / "server.json").exists(), "nothing that was started for a mistake stays"


def test_a_wrong_option_is_exit_code_2_too(tmp_path, reprise) -> None:
    done = reprise("run", "chorales", "--sett", "a=b")
    assert done.returncode == 2
    assert "--set" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.slow
def test_what_generate_can_set_are_settings_of_the_tasks() -> None:
    from components.options import generation_targets, options_of
    from components.registry import names
    from flows.commands.use import Sampling

    known = {name for kind in names("task") for one in generation_targets({"kind": kind}) for name in options_of(one)}
    offered = {field.name for field in fields(Sampling)}
    assert len(offered) > 10
    assert offered <= known


def test_recipes_show_and_validate(tmp_path, reprise) -> None:
    listed = reprise("recipes")
    assert listed.returncode == 0
    assert "chorales" in listed.stdout
    assert "shakespeare-chars" in listed.stdout
    shown = reprise("show", "names", "--set", "model.hidden_size=99")
    assert shown.returncode == 0
    assert "hidden_size: 99" in shown.stdout
    own = tmp_path / "own.yaml"
    own.write_text(shown.stdout)
    checked = reprise("validate", "own.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "own is valid" in checked.stdout
    assert shown.stdout.splitlines()[0].split()[-1] in checked.stdout, "the same digest: the same run"


def test_the_version_is_the_projects(tmp_path, reprise) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert reprise("--version").stdout.strip() == project["version"]


def test_a_file_that_no_model_wrote_cannot_be_replayed(tmp_path, reprise) -> None:
    (tmp_path / "own.txt").write_text("hello")
    done = reprise("replay", "own.txt")
    assert done.returncode == 2
    assert "own.txt" in done.stderr


def test_a_file_of_ones_own_takes_the_place_of_the_cards(tmp_path, reprise) -> None:
    (tmp_path / "mine.txt").write_text("my own text, and more of it. " * 40)
    done = reprise("show", "shakespeare-chars", "--set", "data.path=mine.txt")
    assert done.returncode == 0, done.stderr
    assert f"path: {tmp_path / 'mine.txt'}" in done.stdout
    assert "dataset: null" in done.stdout
    assert "reader: text" in done.stdout
