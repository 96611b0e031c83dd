"""What a model's folder holds, by digest: written down when it is registered, checked when it is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from components.errors import UserError
from components.provenance import digest_file, digest_json

# what Python and MLflow write into a model's folder when they load it in its place; nothing here reads it
LEFT_BEHIND = ("__pycache__", "registered_model_meta")


def manifest(folder: Path) -> dict[str, str]:
    """{path relative to the folder: sha256} of every file beneath it, in order of path; "" for what is no file and no
    folder, which was never registered. What loading leaves behind (LEFT_BEHIND) isn't in it.

    Raises:
        OSError: a file can't be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    names = {path: path.relative_to(folder) for path in paths}
    return {
        name.as_posix(): digest_file(path) if path.is_file() else ""
        for path, name in names.items()
        if not set(LEFT_BEHIND) & set(name.parts)
    }


def overview(files: Mapping[str, str]) -> dict[str, str]:
    """{file or folder/: sha256} of what lies right in the folder that a manifest is of: short enough for a tag."""
    found: dict[str, str] = {}
    inside: dict[str, dict[str, str]] = {}
    for name, digest in files.items():
        top, slash, rest = name.partition("/")
        if slash:
            inside.setdefault(top + slash, {})[rest] = digest
        else:
            found[top] = digest
    return found | {top: digest_json(within) for top, within in inside.items()}


def below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    """The part of a manifest that is of a folder within."""
    return {name.removeprefix(f"{folder}/"): digest for name, digest in files.items() if name.startswith(f"{folder}/")}


def verify(found: Mapping[str, str], expected: Mapping[str, str], *, folder: Path, where: str, hint: str) -> None:
    """Check that what was found in the folder is exactly what was registered.

    Raises:
        UserError: something is missing, changed, or wasn't registered; names it all.
    """
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} has another content" for name in expected if name in found and found[name] != expected[name]]
    problems += [f"{name} was not registered" for name in found if name not in expected]
    if problems:
        raise UserError(
            f"the files in {folder} are not the registered ones: {'; '.join(problems[:10])}",
            where=where,
            hint=hint,
        )
