"""Identities of processes, by which another process can tell whether one is still alive.

Process ids are reused, so an identity includes the process's start time and the machine's boot.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import cache
from pathlib import Path

from components.provenance import code_version, digest_bytes
from components.tracking.mlflow_client import user_name

HOST, PROCESS = "process.host", "process"  # tags


@cache
def machine_name() -> str:
    """The host name with digits of a digest of the machine's id, as two machines may have the same host name."""
    try:
        own = digest_bytes(Path("/etc/machine-id").read_bytes())[:6]
    except OSError:
        own = "0"
    return f"{socket.gethostname()}-{own}"


def identity(pid: int | None = None) -> str:
    """ "machine/pid/start" of a process (default: this one).

    Raises:
        ProcessLookupError: there is no such process, or it has ended.
        PermissionError: it isn't visible to this user.
    """
    pid = pid or os.getpid()
    return f"{machine_name()}/{pid}/{_start(pid)}"


def lives(identity_of: str) -> bool | None:
    """Whether the process of an `identity` is alive; None if unknown: it is another machine's or user's, or the text
    isn't an identity."""
    machine, _, rest = identity_of.partition("/")
    pid, _, start = rest.partition("/")
    if machine != machine_name() or not pid.isascii() or not pid.isdigit() or not start:
        return None
    try:
        return _start(int(pid)) == start
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return None


def origin(root: Path) -> dict[str, str]:
    """Tags with a run's user, command, code version, machine and process."""
    code = code_version(root)
    tags = {
        "mlflow.user": user_name(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
        HOST: socket.gethostname(),
        "process.id": str(os.getpid()),
        PROCESS: identity(),
    }
    if code["commit"]:
        tags |= {"mlflow.source.git.commit": code["commit"], "code.dirty": str(code["dirty"]).lower()}
    if code["version"]:
        tags["code.version"] = code["version"]
    return tags


def _start(pid: int) -> str:
    """When a process was started: the boot, and clock ticks since then, on Linux; a time on other systems."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return _start_elsewhere(pid)
    try:
        # the name before the last ")" may have any characters; after it: the state, then numbers, the start as the 20th
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        os.kill(pid, 0)  # raises PermissionError if the process exists, but isn't visible
        raise ProcessLookupError(pid) from None
    if fields[0] in "ZX":  # zombie or dead
        raise ProcessLookupError(pid)
    return f"{_boot()}-{fields[19]}"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        return "0"


def _start_elsewhere(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            raise ProcessLookupError(pid)
        return f"{process.create_time():.0f}"
    except psutil.Error:
        raise ProcessLookupError(pid) from None
