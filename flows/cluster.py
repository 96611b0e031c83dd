"""Trials on the workers of a Dask cluster, with Prefect's task runner for it."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.runs.processes import STOP_SECONDS, Processes

if TYPE_CHECKING:
    from prefect import Task
    from prefect.futures import PrefectFuture

    from components.runs.away import Crew

CONNECT_SECONDS = 15.0
WATCH_SECONDS = 1.0

_going: set[Path] = set()  # files of the trials that run in this worker, each in a folder of its study


def check_cluster(address: str) -> None:
    """Check what can be checked without a connection.

    Raises:
        UserError: it isn't the address of a Dask scheduler, or the package isn't installed.
    """
    if not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d+", address):
        hint = "for example tcp://127.0.0.1:8786, as `dask scheduler` prints it"
        raise UserError(f"{address!r} isn't the address of a Dask scheduler", where="--cluster", hint=hint)
    if not find_spec("prefect_dask"):
        raise UserError("needs prefect-dask", where="--cluster", hint="pip install 'reprise[dask]'")


class Cluster:
    """The cluster at an address, from `joined` on. `start` and `first` are what a study needs of it."""

    def __init__(self, runner: Any, trial: Task, crew: Crew) -> None:
        self.crew, self._runner, self._trial = crew, runner, trial
        self._paths: dict[PrefectFuture, Path] = {}
        self._study = ""

    def start(self, file: str, name: str, _: Processes) -> PrefectFuture:
        """Send a trial to a worker."""
        from components.runs.trial_file import TrialFile

        content = asdict(TrialFile.load(Path(file)))
        future = self._runner.submit(self._trial, {"content": content, "name": name})
        self._paths[future], self._study = Path(file), content["parent"]
        return future

    def take(self, future: PrefectFuture) -> None:
        """Write what came of a trial into its file."""
        from components.runs.away import put_back
        from components.runs.trial_file import TrialFile

        path = self._paths.pop(future)
        try:
            put_back(future.result(), path)
        except Exception as error:  # of the trial, or its worker died too often
            trial = TrialFile.load(path)
            trial.failed = str(error) or type(error).__name__
            trial.save(path)

    def stop(self) -> None:
        """Stop the trials that still run, and wait for their end as `Processes` does."""
        if not self._paths:
            return
        client = self._runner.client
        client.cancel([future.wrapped_future for future in self._paths])
        deadline = time.monotonic() + STOP_SECONDS
        while any(client.run(_busy, self._study).values()) and time.monotonic() < deadline:
            time.sleep(WATCH_SECONDS)


@contextlib.contextmanager
def joined(address: str, trial: Task) -> Iterator[Cluster]:
    """The cluster at this address, checked. What of it still runs at the end of the block is stopped.

    Raises:
        UserError: no scheduler answers, or the workers can't do the work.
    """
    from prefect.settings import PREFECT_API_URL
    from prefect_dask import DaskTaskRunner

    from components.runs.away import Crew, Worker

    check_cluster(address)
    runner = DaskTaskRunner(address=address, client_kwargs={"timeout": CONNECT_SECONDS})
    with runner:
        try:
            client = runner.client
        except OSError as error:
            hint = "start it with `dask scheduler`, and the workers with `dask worker`"
            raise UserError(f"no Dask scheduler answers ({error})", where=f"--cluster {address}", hint=hint) from None
        try:
            crew = Crew(list(client.run(Worker.here).values()))
        except Exception as error:  # whatever the installation there lacks
            what = f"a worker can't run Reprise ({type(error).__name__}: {error})"
            hint = "install Reprise in the environment of each worker, and start the workers again"
            raise UserError(what, where=f"--cluster {address}", hint=hint) from None
        crew.check(PREFECT_API_URL.value() or "")
        cluster = Cluster(runner, trial, crew)
        try:
            yield cluster
        finally:
            cluster.stop()


def run_on_worker(content: dict[str, Any], name: str) -> dict[str, Any]:
    """Run a trial on this worker, in a process of its own; gives its content with the results. It ends when nobody
    waits for it any more: the study was stopped or is dead.

    Raises:
        UserError: it failed in a way that a retry can't fix, or it was stopped.
        RuntimeError: it failed.
    """
    from components.runs.away import packed, unpacked
    from components.runs.study import run_process
    from components.runs.trial_file import TrialFile

    wanted, over = _wanted(), threading.Event()
    if not wanted():
        raise UserError("stopped", where=name)
    path = unpacked(content)
    trial = TrialFile.load(path)
    if trial.metrics is not None or trial.pruned:
        return packed(path)
    _going.add(path)
    with Processes() as processes:

        def watch() -> None:
            while not over.wait(WATCH_SECONDS):
                if not wanted():
                    processes.stop()
                    return

        threading.Thread(target=watch, name="wanted", daemon=True).start()
        try:
            run_process(str(path), name, processes)
        finally:
            over.set()
            _going.discard(path)
    return packed(path)


def _wanted() -> Callable[[], bool]:
    """Whether somebody still waits for the task of this thread. Dask doesn't end a running one, it only forgets it."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    return wanted


def _busy(study: str) -> bool:
    return any(path.parent.name == study for path in _going)
