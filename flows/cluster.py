"""Trials on the workers of a Dask or Ray cluster, with Prefect's task runners. The differences between the two are in
on_dask.py and on_ray.py."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from components.errors import UserError
from components.runs.processes import Processes
from flows import on_dask, on_ray

if TYPE_CHECKING:
    from prefect import Task
    from prefect.futures import PrefectFuture

    from components.runs.away import Crew, Worker

ANSWER_SECONDS = 4.0
WATCH_SECONDS = 1.0
KINDS = {"tcp": on_dask, "tls": on_dask, "ray": on_ray}  # by the scheme of the address
NEEDED = {on_dask: ("prefect_dask", "dask"), on_ray: ("prefect_ray", "ray")}  # package, extra


class Kind(Protocol):
    """Interface of a connected cluster. `going`: futures that haven't ended."""

    def workers(self) -> list[Worker]: ...

    def submit(self, task: Task, parameters: dict[str, Any], going: Collection[PrefectFuture]) -> PrefectFuture: ...

    def stop(self, futures: Collection[PrefectFuture], study: str) -> None:
        """Stop the trials of a study, and wait until they have ended, as `Processes` does."""


def check_cluster(address: str) -> None:
    """Check that the address is valid, that its packages are installed, and that something answers there.

    Raises:
        UserError: a check failed.
    """
    try:
        parts = urlsplit(address)
        kind, host, port = KINDS.get(parts.scheme), parts.hostname, parts.port
    except ValueError:  # a port above 65535
        kind = host = port = None
    if kind is None or not host or not port or parts.path:
        what = f"{address!r} isn't the address of a Dask scheduler or of Ray"
        hint = "for example tcp://127.0.0.1:8786, as `dask scheduler` prints it, or ray://127.0.0.1:10001"
        raise UserError(what, where="--cluster", hint=hint)
    package, extra = NEEDED[kind]
    if not find_spec(package):
        name = package.replace("_", "-")
        raise UserError(f"needs {name}", where="--cluster", hint=f"pip install 'reprise[{extra}]'")
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        command = {"dask": "`dask scheduler`", "ray": "`ray start --head`"}[extra]
        hint = f"start the cluster with {command} (docs/cluster.md), or give the address it listens on"
        raise UserError(f"can't connect ({error})", where=f"--cluster {address}", hint=hint) from None


class Cluster:
    """A cluster, opened by `joined`. `start` and `first` are used by studies."""

    def __init__(self, kind: Kind, scheme: str, trial: Task, crew: Crew) -> None:
        self.crew, self._kind, self._scheme, self._trial = crew, kind, scheme, trial
        self._paths: dict[PrefectFuture, Path] = {}
        self._study = ""

    def start(self, file: str, name: str, _: Processes) -> PrefectFuture:
        """Send a trial to a worker."""
        from components.runs.trial_file import TrialFile

        content = asdict(TrialFile.load(Path(file)))
        parameters = {"content": content, "name": name, "scheme": self._scheme}
        future = self._kind.submit(self._trial, parameters, self._paths)
        self._paths[future], self._study = Path(file), content["parent"]
        return future

    def take(self, future: PrefectFuture) -> None:
        """Write the result of a trial to its file."""
        from components.runs.away import put_back
        from components.runs.trial_file import TrialFile

        path = self._paths.pop(future)
        try:
            put_back(future.result(), path)
        except Exception as error:  # from the trial, or its worker died too often
            trial = TrialFile.load(path)
            trial.failed = str(error) or type(error).__name__
            trial.save(path)

    def stop(self) -> None:
        """Stop the trials that are still running."""
        if self._paths:
            self._kind.stop(self._paths, self._study)


@contextlib.contextmanager
def joined(address: str, trial: Task, each: int) -> Iterator[Cluster]:
    """Context manager of a checked cluster, for `each` trials at a time on each worker. Trials that are still running
    at the end of the block are stopped.

    Raises:
        UserError: nothing answers, or the workers can't run the trials.
    """
    from prefect.settings import PREFECT_API_URL

    from components.runs.away import Crew

    check_cluster(address)
    scheme = urlsplit(address).scheme
    with KINDS[scheme].connected(address, each) as kind:
        try:
            crew = Crew(kind.workers())
        except UserError:
            raise
        except Exception as error:  # such as missing packages there
            why = (str(error).strip().splitlines() or [""])[-1]
            hint = "install Reprise in the environment of each worker, and start the workers again"
            what = f"a worker can't run Reprise ({type(error).__name__}: {why})"
            raise UserError(what, where=f"--cluster {address}", hint=hint) from None
        crew.check(PREFECT_API_URL.value() or "")
        cluster = Cluster(kind, scheme, trial, crew)
        try:
            yield cluster
        finally:
            cluster.stop()


def run_on_worker(content: dict[str, Any], name: str, scheme: str) -> dict[str, Any]:
    """Run a trial on this worker, in a separate process. Returns its content with the results. The trial is stopped if
    its study was stopped or has died. `scheme` is that of the cluster's address.

    Raises:
        UserError: it failed in a way that a retry can't fix, or it was stopped.
        RuntimeError: it failed.
    """
    from components.runs.away import packed, unpacked
    from components.runs.study import run_process
    from components.runs.trial_file import TrialFile

    path = unpacked(content)
    # in another thread, because Ray's interrupt doesn't wake a thread that waits for a process
    with KINDS[scheme].watched(path) as wanted, ThreadPoolExecutor(1) as pool, Processes() as processes:
        if not wanted():
            raise UserError("stopped", where=name)
        trial = TrialFile.load(path)
        if trial.metrics is None and not trial.pruned:
            trained = pool.submit(run_process, str(path), name, processes)
            while not wait([trained], WATCH_SECONDS).done:
                if not wanted():
                    processes.stop()
            trained.result()
    return packed(path)
