"""Which process does a run, said so that another one can tell whether it still lives.

A process's number alone is given to other programs later, so its start and the machine's boot belong to it.
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
    """The host's name, with a few digits of the machine's own: two hosts of one name are two machines."""
    try:
        own = digest_bytes(Path("/etc/machine-id").read_bytes())[:6]
    except OSError:
        own = "0"
    return f"{socket.gethostname()}-{own}"


def identity(pid: int | None = None) -> str:
    """ "machine/number/start" of a process, by default of this one.

    Raises:
        ProcessLookupError: there is no such process, or it has ended.
        PermissionError: this user may not see it.
    """
    pid = pid or os.getpid()
    return f"{machine_name()}/{pid}/{_start(pid)}"


def lives(identity_of: str) -> bool | None:
    """Whether the process of an `identity` lives; None when that can't be known here: it is another machine's or
    user's, or the text is none of ours."""
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
    """Tags that say who and what writes a run, and which process of which machine does."""
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
    """When a process was started: the boot, and clock ticks since then, where the system tells; else a time."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return _start_elsewhere(pid)
    try:
        # the name before the last ")" may hold anything; after it: state, then numbers, the start as the 20th
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        os.kill(pid, 0)  # says whether there is none, or only none that may be looked at
        raise ProcessLookupError(pid) from None
    if fields[0] in "ZX":  # dead, and only waiting for its parent to notice
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
