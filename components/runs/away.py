"""Trials of a study on the workers of a cluster.

A worker receives the content of a trial's file and returns it with the results. Paths aren't valid on other machines:
data are found by their digest, and an earlier attempt of the trial by its parent run in the shared store.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from components.console import say
from components.datasets.store import DatasetRef
from components.errors import UserError
from components.paths import CODE
from components.provenance import digest_bytes, digest_json, digest_tree, package_versions
from components.recipe import Recipe
from components.runs.places import places
from components.runs.record import FILE
from components.runs.travel import bring, data_folder, data_here
from components.runs.trial_file import TrialFile
from components.tracking.process import machine_name
from components.tracking.remote_runs import RemoteRuns
from components.training.device import choose_device, choose_threads

RETURNED = ("confusion.json",)  # files of a run's folder that the study reads
POLL_SECONDS, SILENT_SECONDS = 2.0, 300.0  # interval and longest wait for an earlier attempt that seems alive
SHARED = "a database that all machines reach, e.g. MLFLOW_TRACKING_URI=postgresql://… (docs/cluster.md)"


@dataclass(frozen=True)
class Worker:
    """Facts about a worker. `store` is a digest of the address of its store, which may contain a password."""

    machine: str
    store: str
    cores: int
    device: str  # the device for `auto`
    code: str
    libraries: str

    @classmethod
    def here(cls) -> Worker:
        libraries, code = code_here()
        store = digest_json([places().settings.tracking_uri, places().settings.artifacts])
        return cls(machine_name(), store, choose_threads(0), choose_device("auto"), code, digest_json(libraries))


@dataclass(frozen=True)
class Crew:
    """The workers of a cluster. `elsewhere`: some are on other machines."""

    workers: Sequence[Worker]

    @property
    def elsewhere(self) -> bool:
        return any(worker.machine != machine_name() for worker in self.workers)

    def check(self, api: str) -> None:
        """Check that the workers can do a study's work; `api` is the address of Prefect's server.

        Raises:
            UserError: there are none, they run other code, or they can't reach the shared stores.
        """
        here, settings = Worker.here(), places().settings
        if not self.workers:
            hint = "start one on each machine, with `dask worker` or `ray start` (docs/cluster.md)"
            raise UserError("the cluster has no workers", where="--cluster", hint=hint)
        if any(worker.code != here.code for worker in self.workers):
            raise UserError(
                "a worker runs another version of Reprise",
                where="--cluster",
                hint="install the same version everywhere",
            )
        if len({worker.libraries for worker in self.workers}) > 1:
            what = "the workers have different versions of libraries, so their results can't be compared"
            raise UserError(what, where="--cluster", hint="install the same requirements.lock on all of them")
        local = settings.tracking_uri.startswith("sqlite")
        if local and self.elsewhere:
            raise UserError(
                f"the tracking store {settings.store} is a file that workers on other machines can't reach",
                hint=f"use {SHARED}",
            )
        if local and any(worker.store != here.store for worker in self.workers):
            hint = f"start them with REPRISE_HOME={settings.home}, and the same MLFLOW_TRACKING_URI if it is set here"
            raise UserError("the workers use another tracking store than this machine", where="--cluster", hint=hint)
        if self.elsewhere and not (settings.served or "://" in settings.artifacts):
            what = f"artifacts are stored in {settings.artifacts}, which workers on other machines can't reach"
            raise UserError(what, hint="set tracking.artifacts in mlflow.yaml to a bucket (docs/cluster.md)")
        if self.elsewhere and urlsplit(api).hostname in (None, "localhost", "127.0.0.1", "::1"):
            what = "workers on other machines can't reach Prefect's server, which only listens on this machine"
            raise UserError(what, hint="set PREFECT_API_URL to a server that all machines reach")

    def share(self, device: str, threads: int, each: int) -> tuple[str, int]:
        """Device and CPU threads of a trial, if every worker runs `each` at a time; they are the same for all, because
        both affect results.

        Raises:
            UserError: the device isn't given and differs between workers.
        """
        devices = {worker.device for worker in self.workers}
        if device == "auto" and len(devices) > 1:
            what = "some workers have a GPU, and some have none"
            raise UserError(what, where="--cluster", hint="choose --device cpu or --device cuda")
        on = Counter(worker.machine for worker in self.workers)
        share = min(worker.cores // (on[worker.machine] * each) for worker in self.workers)
        return devices.pop() if device == "auto" else device, threads or max(1, share)


def code_here() -> tuple[dict[str, str], str]:
    """Versions of libraries and a digest of the code, on which results depend."""
    code = [path for kind in ("py", "cpp", "h") for path in CODE.glob(f"components/**/*.{kind}")]
    return package_versions(), digest_tree(code)


def unpacked(content: dict[str, Any]) -> Path:
    """The file of a trial in this worker's home, written from its content unless an earlier attempt left it here."""
    trial = TrialFile(**content)
    path = places().home / "trials" / trial.parent / f"{digest_bytes(trial.name.encode())[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        trial.save(path)
    return path


def packed(path: Path) -> dict[str, Any]:
    """The content to return: that of the file, and the other files that the study reads."""
    trial = TrialFile.load(path)
    files = [places().run_folder(trial.run_id) / name for name in RETURNED]
    trial.files = {file.name: file.read_text(encoding="utf-8") for file in files if file.exists()}
    return asdict(trial)


def put_back(content: dict[str, Any], path: Path) -> None:
    """Write the content returned by a worker to the study's file of the trial."""
    trial = TrialFile(**content)
    folder = places().run_folder(trial.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(RETURNED) & trial.files.keys():
        (folder / name).write_text(trial.files[name], encoding="utf-8")
    trial.dataset = TrialFile.load(path).dataset  # its path on this machine
    trial.files = {}
    trial.save(path)


def arrive(trial: TrialFile) -> None:
    """Prepare a trial for this machine: set `dataset` to the data here, and `run_id` to the run of an earlier attempt
    that can be resumed here, if there is one.

    Raises:
        UserError: this machine's store isn't the study's, or the data aren't available here.
    """
    remote = RemoteRuns(places().settings)
    try:
        remote.run(trial.parent)
    except UserError as error:
        what = (
            f"{places().settings.store}, the worker's tracking store, isn't the one that the study uses: {error.what}"
        )
        raise UserError(what, where=machine_name(), hint="set MLFLOW_TRACKING_URI for the worker") from None
    values = dict(trial.recipe)
    recipe = Recipe.from_dict(values.pop("name"), values)
    wanted = DatasetRef(**trial.dataset)
    folder = data_folder(wanted)
    target = places().datasets / "stores" / Path(wanted.path).name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=target.parent) as fetching:
        found = data_here(remote, recipe, wanted, (trial.parent, folder, trial.data), Path(fetching) / "data")
        if Path(found.path).is_relative_to(fetching):
            shutil.rmtree(target, ignore_errors=True)  # damaged
            Path(found.path).rename(target)
            found = DatasetRef(str(target), found.digest)
    trial.dataset, trial.run_id = asdict(found), _earlier(remote, trial)


def _earlier(remote: RemoteRuns, trial: TrialFile) -> str:
    """The run of an earlier attempt, fetched to this machine; "" if there is none or its checkpoint isn't available."""
    deadline = time.monotonic() + SILENT_SECONDS
    while (found := remote.beneath(trial.parent, trial.name)) and found.status != "FINISHED":
        try:
            found.check_free()
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
            continue
        here = (places().run_folder(found.run_id) / FILE).exists()
        if not here and found.kept is None:
            break
        return bring(found.run_id).ref.run_id
    if found:
        say(f"note    {found.where} of {found.owner} has no checkpoint that can be resumed here: the trial starts over")
    return ""
