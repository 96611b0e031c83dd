"""A password in every address: no command prints it, hands it to a process as an argument, or writes it to a log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "hush-hush-7"
ADDRESSES = {
    "MLFLOW_TRACKING_URI": f"http://ann:{PASSWORD}@127.0.0.1:9",
    "PREFECT_API_URL": f"http://ann:{PASSWORD}@127.0.0.1:9/api",
    "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://ann:{PASSWORD}@127.0.0.1:9/prefect",
    "REPRISE_MIRROR": f"https://ann:{PASSWORD}@mirror.example.org/data",
    "AWS_SECRET_ACCESS_KEY": PASSWORD,
    "MLFLOW_TRACKING_PASSWORD": PASSWORD,
}

# each command in turn, in one process; what it said goes between lines that give its exit code
TYPED = """
import sys
from flows.cli import main
for words in sys.argv[1:]:
    sys.argv = ["reprise", *words.split()]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    print(f"=== {code}", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("commands", "without"),
    [
        (["doctor", "models", "ui --port 5999", "run names"], []),
        (["serve"], ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"]),
    ],
    ids=["all addresses", "the database alone"],
)
def test_no_command_tells_a_password(tmp_path: Path, commands: list[str], without: list[str]) -> None:
    own = {name: value for name, value in ADDRESSES.items() if name not in without}
    own |= {"REPRISE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "REPRISE_DEBUG": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TYPED, *commands],
        cwd=tmp_path,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    *said, rest = re.split(r"^=== (\d+)$", done.stdout, flags=re.MULTILINE)
    assert len(said) == 2 * len(commands), done.stdout
    assert rest.strip() == ""
    for command, told, code in zip(commands, said[::2], said[1::2], strict=True):
        assert code in ("1", "2"), f"{command}: {told}"
        assert "127.0.0.1:9" in told, f"{command}: {told}"
    assert PASSWORD not in done.stdout
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or PASSWORD.encode() not in file.read_bytes(), file
