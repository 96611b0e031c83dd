"""The digests of the files in a model's folder: recorded at registration, verified when the model is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from components.errors import UserError
from components.provenance import digest_file, digest_json

# what Python and MLflow write into a model's folder when they load it in place; Reprise doesn't read it
LEFT_BEHIND = ("__pycache__", "registered_model_meta")


def manifest(folder: Path) -> dict[str, str]:
    """{path relative to the folder: sha256} of every file below it, sorted by path; "" for anything but files and
    folders, which was never registered. LEFT_BEHIND is left out.

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
    """{file or folder/: sha256} of the top level of a manifest: short enough for a tag."""
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
    """The manifest of a subfolder."""
    return {name.removeprefix(f"{folder}/"): digest for name, digest in files.items() if name.startswith(f"{folder}/")}


def verify(found: Mapping[str, str], expected: Mapping[str, str], *, folder: Path, where: str, hint: str) -> None:
    """Check that the files found in the folder are exactly the registered ones.

    Raises:
        UserError: files are missing, changed, or weren't registered; names them.
    """
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} was changed" for name in expected if name in found and found[name] != expected[name]]
    problems += [f"{name} was not registered" for name in found if name not in expected]
    if problems:
        raise UserError(
            f"the files in {folder} differ from the registered ones: {'; '.join(problems[:10])}",
            where=where,
            hint=hint,
        )
