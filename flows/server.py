"""The Prefect server: the configured one, else our own, started if none answers.

Without a server Prefect starts a temporary one in every process, which takes 16–24 s, and loses records if the process
ends at once. Our server runs in a separate session until `reprise down`.
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
PORT = 4200  # Prefect's default; if it is taken, any free one
FEWEST_BYTES = 10 << 20  # free disk space needed: the databases take about as much
STARTS = 3
START_SECONDS = 90.0

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # not in the terminal; the run's log has every line
    "PREFECT_CLI_PROMPT": "false",
}


# leases of concurrency slots are stored in files: otherwise a restarted server would never free them
SERVER_ONLY = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}


# names of Prefect's setting for the server's database, also used for our server; default: an sqlite file
DATABASE = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
DEFAULT_PORT = 5432  # PostgreSQL's, the only remote database that Prefect supports
REACH_SECONDS = 5.0


class Server:
    """The Prefect server. `begin` starts it and `wait` waits for it, so that imports and ingestion run meanwhile."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "server.json"
        self.lock = FileLock(home / "server.lock")
        self.log = home / "server.log"

    def begin(self) -> bool:
        """Set the environment variables that Prefect reads when imported, and start a server if needed. Returns True if
        it started one."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        if "PREFECT_API_URL" in os.environ or os.environ.get("REPRISE_PREFECT") == "temporary":
            return False
        writable_folder(self.home, where="REPRISE_HOME", hint="set it to a folder that you can write to")
        if (free := shutil.disk_usage(self.home).free) < FEWEST_BYTES:
            hint = "free some space, or set REPRISE_HOME to a folder on another disk"
            raise UserError(f"the disk is full: only {free:,} bytes are free", where=str(self.home), hint=hint)
        os.environ.setdefault("PREFECT_HOME", str(self.home))
        with self.lock:
            known = self._known()
            lives = known is not None and _alive(known["pid"])
            if known is None or not lives:
                known = self._start()
        os.environ["PREFECT_API_URL"] = _api(known)
        return not lives

    def wait(self) -> str | None:
        """Wait until the server answers, and return its address. None if our server doesn't: flows then use a temporary
        one.

        Raises:
            UserError: the server of PREFECT_API_URL doesn't answer.
        """
        found = self._wait()
        if "prefect.context" in sys.modules:
            from prefect.context import refresh_global_settings_context
            from prefect.settings import PREFECT_API_URL

            # Prefect was imported before the address was known or changed; refreshing takes a quarter second
            if found is None or PREFECT_API_URL.value() != os.environ["PREFECT_API_URL"]:
                refresh_global_settings_context()
        return found

    def _wait(self) -> str | None:
        url, known = os.environ.get("PREFECT_API_URL"), self._known()
        if url is None:
            return None
        if known is None or url != _api(known):  # a configured server, which we don't manage
            if not answers(url):
                hint = "is it running? If you unset PREFECT_API_URL, Reprise starts a server of its own"
                raise UserError("doesn't answer", where=f"PREFECT_API_URL {shown_address(url)}", hint=hint)
            return url.removesuffix("/api")
        deadline, starts = time.monotonic() + START_SECONDS, 1
        while time.monotonic() < deadline:
            if not _alive(known["pid"]):  # another program took the port meanwhile
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
        """Stop our server. Returns False if there is none."""
        with self.lock:
            known = self._known()
            self.file.unlink(missing_ok=True)
            if known is None or not _alive(known["pid"]):
                return False
            os.killpg(known["pid"], signal.SIGTERM)
            return True

    def url(self) -> str | None:
        """The address of our server, if it answers."""
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
        # `--background` fails in this Prefect version, so start a process in a new session with a log file
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
    """Raises UserError if Prefect's database is on another machine that doesn't answer."""
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
    """Whether the process is a Prefect server (its id may have been reused by another program)."""
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
    if not command:  # a process that is just starting, or has ended
        try:
            return bool(identity(pid))
        except OSError:
            return False
    return b"prefect" in command


def answers(url: str) -> bool:
    """Whether a Prefect server answers at this API address."""
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
