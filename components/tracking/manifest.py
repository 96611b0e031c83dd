"""What a model's folder holds, by digest: written down when it is registered, checked when it is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from components.errors import UserError
from components.provenance import digest_file


def manifest(folder: Path) -> dict[str, str]:
    """{path relative to the folder: sha256} of every file beneath it, in order of path.

    Raises:
        OSError: a file can't be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def verify(folder: Path, expected: Mapping[str, str], *, where: str, hint: str) -> None:
    """Check that the folder holds exactly what the manifest says.

    Raises:
        UserError: a file is missing, changed, or not in the manifest; names them all.
    """
    found = manifest(folder)
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} has another content" for name in expected if name in found and found[name] != expected[name]]
    problems += [f"{name} was not registered" for name in found if name not in expected]
    if problems:
        raise UserError(
            f"the files in {folder} are not the registered ones: {'; '.join(problems[:10])}",
            where=where,
            hint=hint,
        )
