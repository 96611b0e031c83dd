"""A Prefect server for the flows to talk to: the one that is configured, else one of ours, started when none answers.

Without a server Prefect starts a temporary one in every process: 16–24 s, and records get lost when the process
ends at once. Ours is a process of its own session that stays until `reprise down`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock

HOST = "127.0.0.1"
FIRST_PORT = 4200
START_SECONDS = 90.0

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the console is ours; the run's log has every line
    "PREFECT_CLI_PROMPT": "false",
}


class Server:
    """Started early by `begin`, needed late by `wait`: what lies between (imports, ingestion) hides its start."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "server.json"
        self.lock = FileLock(home / "server.lock")
        self.log = home / "server.log"

    def begin(self) -> None:
        """Set up the environment for Prefect, which reads it when it is imported, and start a server if need be."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        if "PREFECT_API_URL" in os.environ or os.environ.get("REPRISE_PREFECT") == "temporary":
            return
        self.home.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("PREFECT_HOME", str(self.home))
        with self.lock:
            known = self._known()
            if known is None or not _alive(known["pid"]):
                known = self._start()
        os.environ["PREFECT_API_URL"] = f"http://{HOST}:{known['port']}/api"

    def wait(self) -> str | None:
        """The address of the server once it answers. When ours doesn't, flows go on with a temporary one: None."""
        url = os.environ.get("PREFECT_API_URL")
        if url is None:
            return None
        known = self._known()
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            ours = known is not None and url == f"http://{HOST}:{known['port']}/api"
            if not ours or time.monotonic() > deadline or not _alive(known["pid"]):
                if ours:
                    del os.environ["PREFECT_API_URL"]
                return None
            time.sleep(0.1)
        return url.removesuffix("/api")

    def stop(self) -> bool:
        """End the server that we started; False when there is none."""
        with self.lock:
            known = self._known()
            self.file.unlink(missing_ok=True)
            if known is None or not _alive(known["pid"]):
                return False
            os.killpg(known["pid"], signal.SIGTERM)
            return True

    def url(self) -> str | None:
        """Where our server answers now, if it does."""
        known = self._known()
        url = f"http://{HOST}:{known['port']}" if known else None
        return url if url and _answers(f"{url}/api") else None

    def _known(self) -> dict[str, int] | None:
        try:
            known = json.loads(self.file.read_text())
            return {"pid": int(known["pid"]), "port": int(known["port"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _start(self) -> dict[str, int]:
        port = _free_port()
        # `--background` dies with this Prefect version, so it is a process of its own session with a log file
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        known = {"pid": process.pid, "port": port}
        self.file.write_text(json.dumps(known))
        return known


def _alive(pid: int) -> bool:
    """Is it a Prefect server's process? (A number alone may have been given to another program since.)"""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        if Path("/proc/self").exists():
            return False
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True
    return b"prefect" in command


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + 50):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    return 0
