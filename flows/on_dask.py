"""Dask clusters: their workers, and stopping trials there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.runs.processes import STOP_SECONDS

if TYPE_CHECKING:
    from prefect import Task
    from prefect.futures import PrefectFuture

    from components.runs.away import Worker

CONNECT_SECONDS = 8.0
POLL_SECONDS = 1.0

_going: set[Path] = set()  # files of the trials running in this worker, each in the folder of its study


class OnDask:
    """A connected cluster; see `flows.cluster.Kind`."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def workers(self) -> list[Worker]:
        from components.runs.away import Worker

        return list(self._runner.client.run(Worker.here).values())

    def submit(self, task: Task, parameters: dict[str, Any], _: Collection[PrefectFuture]) -> PrefectFuture:
        return self._runner.submit(task, parameters)

    def stop(self, futures: Collection[PrefectFuture], study: str) -> None:
        client = self._runner.client
        client.cancel([future.wrapped_future for future in futures])
        deadline = time.monotonic() + STOP_SECONDS
        while any(client.run(_busy, study).values()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def connected(address: str, _: int) -> Iterator[OnDask]:
    """Context manager of a connection to the scheduler at this address.

    Raises:
        UserError: it isn't a Dask scheduler.
    """
    from prefect_dask import DaskTaskRunner

    with DaskTaskRunner(address=address, client_kwargs={"timeout": CONNECT_SECONDS}) as runner:
        try:
            _client = runner.client
        except OSError as error:
            hint = "start it with `dask scheduler`, and the workers with `dask worker`"
            raise UserError(
                f"can't connect to the Dask scheduler ({error})", where=f"--cluster {address}", hint=hint
            ) from None
        yield OnDask(runner)


@contextlib.contextmanager
def watched(path: Path) -> Iterator[Callable[[], bool]]:
    """Context manager for running the trial of the file at `path` in this thread of a worker. Gives a function that
    says whether the trial is still wanted: Dask doesn't stop a running task, it only forgets it."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    _going.add(path)
    try:
        yield wanted
    finally:
        _going.discard(path)


def _busy(study: str) -> bool:
    return any(path.parent.name == study for path in _going)
