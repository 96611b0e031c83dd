"""A password in every address: no command prints it, hands it to a process as an argument, or writes it to a log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]
PASSWORD = "hush-hush-7"
ADDRESSES = {
    "MLFLOW_TRACKING_URI": f"http://ann:{PASSWORD}@127.0.0.1:9",
    "PREFECT_API_URL": f"http://ann:{PASSWORD}@127.0.0.1:9/api",
    "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://ann:{PASSWORD}@127.0.0.1:9/prefect",
    "REPRISE_MIRROR": f"https://ann:{PASSWORD}@mirror.example.org/data",
    "AWS_SECRET_ACCESS_KEY": PASSWORD,
    "MLFLOW_TRACKING_PASSWORD": PASSWORD,
}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (["doctor"], []),
        (["models"], []),
        (["ui", "--port", "5999"], []),
        (["run", "names"], []),
        (["serve"], ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"]),
    ],
)
def test_no_command_tells_a_password(tmp_path: Path, arguments: list[str], without: list[str]) -> None:
    own = {name: value for name, value in ADDRESSES.items() if name not in without}
    own |= {"REPRISE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)} | {"REPRISE_DEBUG": "1"}
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, timeout=300
    )
    told = done.stdout + done.stderr
    assert done.returncode in (1, 2), told
    assert "127.0.0.1:9" in told
    assert PASSWORD not in told
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or PASSWORD.encode() not in file.read_bytes(), file
