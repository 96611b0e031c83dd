"""The Prefect server that Reprise starts: found again, started once, given up on in time."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.errors import UserError
from flows import server as module
from flows.server import Server


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "REPRISE_PREFECT", *module.QUIET):
        monkeypatch.setenv(name, "to be put back")
        del os.environ[name]


@pytest.fixture
def answering():
    """Something on this machine that answers /api/health; gives its port."""

    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Healthy) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield listener.server_address[1]
        listener.shutdown()


def test_a_configured_server_is_used_and_none_is_started(tmp_path: Path, answering, monkeypatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{answering}/api")
    server = Server(tmp_path)
    server.begin()
    assert server.wait() == f"http://127.0.0.1:{answering}"
    assert not (tmp_path / "server.json").exists()
    assert not server.stop(), "what isn't ours isn't stopped"


def test_a_configured_server_that_is_silent_is_not_replaced(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    server = Server(tmp_path)
    server.begin()
    with pytest.raises(UserError, match="doesn't answer"):
        server.wait()
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:9/api"


def test_a_full_disk_is_told_before_a_server_is_waited_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Server, "_start", lambda self: pytest.fail("started"))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=70_000))
    with pytest.raises(UserError, match="the disk is full: only 70,000 bytes are free"):
        Server(tmp_path).begin()


def test_a_process_number_of_another_program_is_not_taken_for_the_server(tmp_path: Path, monkeypatch) -> None:
    started = []
    monkeypatch.setattr(Server, "_start", lambda self: started.append(1) or {"pid": 0, "port": 9})
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "server.json").write_text(json.dumps({"pid": 1, "port": 4200}))
    Server(tmp_path).begin()
    assert started
    assert not Server(tmp_path).stop()


def test_a_server_that_dies_at_its_start_is_started_again_and_then_given_up(tmp_path: Path, monkeypatch) -> None:
    starts = []

    def start(self) -> dict[str, int]:
        starts.append(1)
        known = {"pid": 2**22 + 1, "port": 9}
        self.file.write_text(json.dumps(known))
        return known

    monkeypatch.setattr(Server, "_start", start)
    server = Server(tmp_path)
    server.begin()
    assert server.wait() is None
    assert len(starts) == module.STARTS
    assert "PREFECT_API_URL" not in os.environ, "flows go on with a temporary server"


@pytest.mark.slow
def test_a_server_that_is_only_just_starting_is_not_started_twice() -> None:
    # the command line is empty while a process becomes its program: 194 of 300 times when one looks at once
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", "input()", "prefect"], stdin=subprocess.PIPE) as process:
            assert module._alive(process.pid)
            process.kill()
            while module._alive(process.pid):
                time.sleep(0.01)


def test_a_damaged_note_of_the_server_is_no_server(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"pid": "x", "port": 1}', "null"):
        (tmp_path / "server.json").write_text(text)
        assert Server(tmp_path).url() is None


def test_a_temporary_server_can_be_asked_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REPRISE_PREFECT", "temporary")
    server = Server(tmp_path)
    server.begin()
    assert "PREFECT_API_URL" not in os.environ
    assert server.wait() is None


def test_a_database_that_does_not_answer_is_said_before_the_server_starts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://ann:hush@127.0.0.1:9/prefect")
    with pytest.raises(UserError, match="doesn't answer") as caught:
        Server(tmp_path).begin()
    assert "hush" not in str(caught.value)
    assert not (tmp_path / "server.log").exists()


@pytest.mark.parametrize("home", ["/dev/null/home", "/proc/home"])
def test_a_home_that_cannot_be_made_is_the_users_mistake(home: str) -> None:
    with pytest.raises(UserError, match="can't be written to") as caught:
        Server(Path(home)).begin()
    assert caught.value.where == "REPRISE_HOME"
