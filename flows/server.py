"""A Prefect server for the flows to talk to: the one that is configured, else one of ours, started when none answers.

Without a server Prefect starts a temporary one in every process: 16–24 s, and records get lost when the process
ends at once. Ours is a process of its own session that stays until `reprise down`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from components.errors import UserError
from components.paths import writable_folder
from components.redaction import shown_address
from components.tracking.process import identity

HOST = "127.0.0.1"
PORT = 4200  # where people look for it; when it is taken, any free one
FEWEST_BYTES = 10 << 20  # of the disk: the databases alone take about as much
STARTS = 3
START_SECONDS = 90.0

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the console is ours; the run's log has every line
    "PREFECT_CLI_PROMPT": "false",
}


# who holds a slot of a concurrency limit is kept in files: a server that was restarted would never free them else
SERVER_ONLY = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}


# names of one setting of Prefect's: where its server keeps what it knows, ours too; else an sqlite file
DATABASE = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
DEFAULT_PORT = 5432  # PostgreSQL's; Prefect knows no other database on another machine
REACH_SECONDS = 5.0


class Server:
    """Started early by `begin`, needed late by `wait`: what lies between (imports, ingestion) hides its start."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "server.json"
        self.lock = FileLock(home / "server.lock")
        self.log = home / "server.log"

    def begin(self) -> bool:
        """Set up the environment for Prefect, which reads it when it is imported, and start a server if need be: True
        when this started one."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        if "PREFECT_API_URL" in os.environ or os.environ.get("REPRISE_PREFECT") == "temporary":
            return False
        writable_folder(self.home, where="REPRISE_HOME", hint="set it to one of your folders")
        if (free := shutil.disk_usage(self.home).free) < FEWEST_BYTES:
            hint = "make room, or set REPRISE_HOME to a folder of another disk"
            raise UserError(f"its disk is full: {free:,} bytes are free", where=str(self.home), hint=hint)
        os.environ.setdefault("PREFECT_HOME", str(self.home))
        with self.lock:
            known = self._known()
            lives = known is not None and _alive(known["pid"])
            if known is None or not lives:
                known = self._start()
        os.environ["PREFECT_API_URL"] = _api(known)
        return not lives

    def wait(self) -> str | None:
        """The address of the server once it answers. When ours doesn't, flows go on with a temporary one: None.

        Raises:
            UserError: another that PREFECT_API_URL names doesn't answer.
        """
        found = self._wait()
        if "prefect.context" in sys.modules:
            from prefect.context import refresh_global_settings_context
            from prefect.settings import PREFECT_API_URL

            # imported before the address was known, or before it changed; reading all settings takes a quarter second
            if found is None or PREFECT_API_URL.value() != os.environ["PREFECT_API_URL"]:
                refresh_global_settings_context()
        return found

    def _wait(self) -> str | None:
        url, known = os.environ.get("PREFECT_API_URL"), self._known()
        if url is None:
            return None
        if known is None or url != _api(known):  # not ours: whoever configured it keeps it
            if not answers(url):
                hint = "is it running? Without PREFECT_API_URL Reprise starts a server of its own"
                raise UserError("doesn't answer", where=f"PREFECT_API_URL {shown_address(url)}", hint=hint)
            return url.removesuffix("/api")
        deadline, starts = time.monotonic() + START_SECONDS, 1
        while time.monotonic() < deadline:
            if not _alive(known["pid"]):  # another program took the port while ours started
                if starts == STARTS:
                    break
                with self.lock:
                    known, starts = self._start(), starts + 1
                os.environ["PREFECT_API_URL"] = _api(known)
            elif answers(_api(known)):
                return _api(known).removesuffix("/api")
            time.sleep(0.1)
        del os.environ["PREFECT_API_URL"]
        return None

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
        return _api(known).removesuffix("/api") if known and answers(_api(known)) else None

    def _known(self) -> dict[str, int] | None:
        try:
            known = json.loads(self.file.read_text(encoding="utf-8"))
            return {"pid": int(known["pid"]), "port": int(known["port"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _start(self) -> dict[str, int]:
        check_database()
        port = _free_port()
        # `--background` dies with this Prefect version, so it is a process of its own session with a log file
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=SERVER_ONLY | os.environ,
                start_new_session=True,
            )
        known = {"pid": process.pid, "port": port}
        self.file.write_text(json.dumps(known), encoding="utf-8")
        return known


def check_database() -> None:
    """Raises UserError when the database that Prefect is told to use is on a machine that doesn't answer."""
    name = next((name for name in DATABASE if os.environ.get(name)), "")
    address = os.environ.get(name, "")
    parts = urlsplit(
        address if address.count("@") < 2 else f"{address.partition(':')[0]}://{address.rpartition('@')[2]}"
    )
    if not parts.hostname:
        return
    try:
        socket.create_connection((parts.hostname, parts.port or DEFAULT_PORT), REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        what = f"doesn't answer: {getattr(error, 'strerror', None) or error}"
        raise UserError(what, where=f"{name} {shown_address(address)}", hint="is the database running?") from None


def _api(known: dict[str, int]) -> str:
    return f"http://{HOST}:{known['port']}/api"


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
    if not command:  # a process that is only just becoming its program, or one that has ended
        try:
            return bool(identity(pid))
        except OSError:
            return False
    return b"prefect" in command


def answers(url: str) -> bool:
    """Whether a Prefect server answers at this address of its API."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _free_port() -> int:
    for port in (PORT, 0):  # 0 = the system chooses
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError(f"no free port on {HOST}")
