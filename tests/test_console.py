"""What a person is told reaches a person: once, on any terminal, and no run ends because of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
SAYS = """
import logging
from components.console import prepare, say, table
prepare(); prepare()
if {prefect}:
    import os
    from flows.server import QUIET
    os.environ |= QUIET
    import prefect
    from prefect.logging.configuration import setup_logging
    setup_logging()
logging.getLogger("components.kernels.backends").warning("no compiler · %s", "http://ann:hush-hush@store")
logging.getLogger("flows.reaper").warning("not closed")
say("update 3 · val 1.5 ± 0.1 – Grüße 漢字")
table("reçus", ["é"], [["→"]])
print("ende · ", flush=True)
open("done", "w").close()
"""


def script(folder: Path, *, prefect: bool = False, more: str = "") -> list[str]:
    (folder / "script.py").write_text(SAYS.format(prefect=prefect) + more, encoding="utf-8")
    return [sys.executable, str(folder / "script.py")]


def environment(**own: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG", "PYTHONIOENCODING", "PYTHONUTF8")}
    return clean | {"MLFLOW_TRACKING_URI": "http://ann:hush-hush@store", "PYTHONPATH": str(ROOT)} | own


@pytest.mark.parametrize(
    "own", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_a_sign_that_a_terminal_cannot_show_is_replaced(tmp_path: Path, own: dict[str, str]) -> None:
    done = subprocess.run(script(tmp_path), cwd=tmp_path, env=environment(**own), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert b"update 3" in done.stdout
    assert b"ende" in done.stdout


@pytest.mark.parametrize("prefect", [False, True])
def test_a_warning_is_told_once_without_secrets_with_prefect_and_without(tmp_path: Path, prefect: bool) -> None:
    own = environment(PYTHONIOENCODING="utf-8", PREFECT_HOME=str(tmp_path))
    done = subprocess.run(script(tmp_path, prefect=prefect), cwd=tmp_path, env=own, capture_output=True, timeout=300)
    assert done.stderr.decode().splitlines() == ["warning: no compiler · http://ann:***@store", "warning: not closed"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_nobody_reads_any_more_and_the_run_goes_on(tmp_path: Path, stream: str) -> None:
    read, write = os.pipe()
    os.close(read)
    lines = script(tmp_path, more="")
    text = (tmp_path / "script.py").read_text(encoding="utf-8").replace("print(", "0 and print(")
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    subprocess.run(lines, cwd=tmp_path, env=environment(), timeout=300, **{stream: write})
    os.close(write)
    assert (tmp_path / "done").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full: Linux")
@pytest.mark.parametrize(("command", "unbuffered"), [("recipes", "1"), ("--version", "1"), ("--version", "")])
def test_output_that_a_full_disk_did_not_take_is_told(tmp_path: Path, command: str, unbuffered: str) -> None:
    own = environment(REPRISE_HOME=str(tmp_path), PYTHONUNBUFFERED=unbuffered)
    with open("/dev/full", "wb") as full:
        words = [sys.executable, "-m", "flows.cli", command]
        done = subprocess.run(words, cwd=tmp_path, env=own, stdout=full, stderr=subprocess.PIPE, timeout=300)
    assert done.returncode == 2
    assert b"standard output: No space left on device: some of the output is missing" in done.stderr


def test_a_closed_stream_is_not_the_next_file(tmp_path: Path) -> None:
    child = "subprocess.run([sys.executable, '-c', 'import os; os.write(1, b\"of a child\")'])"
    lines = script(tmp_path, more=f"import subprocess, sys\nwith open('mine', 'w') as f: {child}\n")
    closed = f'exec "{lines[0]}" "{lines[1]}" >&- 2>&-'
    subprocess.run(["sh", "-c", closed], cwd=tmp_path, env=environment(), timeout=300)
    assert (tmp_path / "done").exists()
    assert (tmp_path / "mine").read_text() == ""


def test_a_warning_reaches_the_log_of_the_run(monkeypatch, capsys) -> None:
    from components import console
    from flows import run_log

    lines: list[tuple[int, str]] = []

    class RunLog:
        def log(self, level: int, line: str) -> None:
            lines.append((level, line))

    monkeypatch.setattr(run_log, "get_run_logger", RunLog)
    console._Warnings().emit(logging.LogRecord("components.x", logging.WARNING, "", 0, "%d of %d", (3, 4), None))
    console.say("update 3")
    assert lines == [(logging.WARNING, "warning: 3 of 4"), (logging.INFO, "update 3")]
    assert "warning: 3 of 4" in capsys.readouterr().err


def test_brackets_in_a_table_are_shown_as_they_are(capsys) -> None:
    from components.console import table

    table("runs [of 3]", ["[b]"], [["split=[bold]"]])
    out = capsys.readouterr().out
    assert all(text in out for text in ("runs [of 3]", "[b]", "split=[bold]"))
