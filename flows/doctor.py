"""Checks of the installation."""

from __future__ import annotations

import importlib.util
import os
import shutil

from components.console import out
from components.errors import UserError
from components.paths import writable_folder
from components.provenance import machine, package_versions
from components.redaction import shown_address
from components.runs.places import STATE, Places, places
from flows.server import Server, answers, check_database


def examine() -> bool:
    """Print a line for each check. Returns True if nothing is missing."""
    where = places()
    good = True
    for check in (_machine, _libraries, _device, _disk, _tracking, _prefect, _data):
        name = check.__name__.removeprefix("_")
        try:
            out.print(f"ok    {name:<10} {check(where)}")
        except UserError as error:
            good = False
            out.print(f"WRONG {name:<10} {error}")
    return good


def _machine(where: Places) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine().items())


def _libraries(where: Places) -> str:
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    wrong = []
    versions = package_versions()
    for text in requires("reprise") or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "not installed"
        if found == "not installed" or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement} (found {found})")
    if wrong:
        raise UserError("; ".join(wrong), hint="pip install -r requirements.lock")
    return ", ".join(f"{name} {found}" for name, found in versions.items())


def _device(where: Places) -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return ", ".join(f"cuda:{number} {name}" for number, name in enumerate(names))
    return f"CPU, {torch.get_num_threads()} threads (torch finds no GPU)"


def _disk(where: Places) -> str:
    writable_folder(where.home, where="REPRISE_HOME", hint="set it to a folder that you can write to")
    free = shutil.disk_usage(where.home).free / 1e9
    if free < 1:
        hint = "free some space, or set REPRISE_HOME to a folder on another disk"
        raise UserError(f"only {free:.1f} GB free", where=str(where.home), hint=hint)
    return f"{where.home}, {free:.0f} GB free"


def _tracking(where: Places) -> str:
    from components.tracking.mlflow_backend import MlflowTracker, check_store

    address = check_store(where.settings)
    _, left = MlflowTracker(where.settings).send_leftovers()
    return f"{address}{f', {left} entries not sent yet' if left else ''}"


def _prefect(where: Places) -> str:
    check_database()
    url = os.environ.get("PREFECT_API_URL")
    if url and not answers(url):
        hint = "start that server, or unset PREFECT_API_URL"
        raise UserError("doesn't answer", where=f"PREFECT_API_URL {shown_address(url)}", hint=hint)
    url = url or Server(where.prefect).url()
    return shown_address(url) if url else "no server running; `reprise run` starts one"


def _data(where: Places) -> str:
    from components.datasets.download import mirror_folder

    if importlib.util.find_spec("music21") is None:
        raise UserError("music21 and its corpus aren't installed", hint="pip install -r requirements.lock")
    mirror = mirror_folder(STATE)
    return f"{where.datasets}; mirror {mirror or 'not set (REPRISE_MIRROR)'}"
