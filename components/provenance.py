"""Provenance of a result: code version, library versions, machine, and digests of inputs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# libraries that can affect numbers, or that are needed to load a model
LIBRARIES = ("torch", "numpy", "pandas", "prefect", "mlflow", "music21", "safetensors", "pydantic")


def digest_bytes(data: bytes) -> str:
    """The sha256 of `data`, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """The sha256 of the file's content, read in pieces.

    Raises:
        OSError: the file can't be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """The sha256 of `value` as canonical JSON: sorted keys, no spaces, ASCII. Equal data, equal digest.

    Raises:
        TypeError: `value` isn't JSON-ready data.
        ValueError: it holds a NaN or an infinity, which JSON can't represent.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return digest_bytes(canonical.encode("ascii"))


def digest_tree(paths: Iterable[Path]) -> str:
    """One sha256 for files and folders: of contents and relative names, independent of location and order.

    A folder counts with everything in it except Python's caches, so that a package's digest changes with its code, and
    not when it is imported.

    Raises:
        OSError: a path doesn't exist or can't be read.
    """
    entries: list[tuple[str, str]] = []
    for path in map(Path, paths):
        if not path.is_dir():
            entries.append((path.name, digest_file(path)))
            continue
        for file in path.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                entries.append((file.relative_to(path).as_posix(), digest_file(file)))
    return digest_json(sorted(entries))


def code_version(root: Path) -> dict[str, Any]:
    """The version of the code in `root`: {"commit", "dirty", "version"}.

    `commit` is the full hash, "" if `root` isn't the root of a git checkout or git is missing. `dirty`: tracked files
    changed, or there are untracked files that aren't ignored. `version` is the installed package's, "" if it isn't
    installed.
    """
    try:
        package = version("reprise")
    except PackageNotFoundError:
        package = ""
    commit, dirty = "", False
    # a folder inside another checkout (such as an environment) must not report that one's commit
    top = _git(root, "rev-parse", "--show-toplevel")
    if top and Path(top).resolve() == Path(root).resolve():
        commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD") or ""
        dirty = _git(root, "status", "--porcelain") != ""  # a failing status counts as dirty
    return {"commit": commit, "dirty": dirty, "version": package}


def package_versions() -> dict[str, str]:
    """The installed versions of the libraries that results depend on, by name. Doesn't import them."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The machine: {"cpu", "cores", "memory_bytes", "os", "python"}. `cores`: those available to this process."""
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "cpu": _cpu_model(),
        "cores": usable,
        "memory_bytes": psutil.virtual_memory().total,
        "os": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(root: Path, *arguments: str) -> str | None:
    """The stripped output of a git command in `root`; None if it failed or git is missing."""
    # a hook's GIT_DIR would point at another repository; optional locks would disturb concurrent git commands
    environment = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True, text=True, timeout=20, check=True, env=environment,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
