"""An open run: the object passed to its steps, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from components.datasets.store import Store
from components.runs.places import places
from components.runs.record import RunRecord
from components.runs.travel import alone, send
from components.tracking.mlflow_backend import CUT_OFF, MlflowRun, MlflowTracker
from components.training.session import Session

stopped: list[str] = []  # the runs that were interrupted in this process


class OpenRun:
    """A run's record, and the tracked run that its steps write to.

    It isn't a dataclass, because Prefect inspects dataclasses among a task's parameters.
    """

    def __init__(self, record: RunRecord, tracked: MlflowRun) -> None:
        self.record, self.tracked = record, tracked
        self.folder = places().run_folder(self.id)

    @property
    def id(self) -> str:
        return self.record.ref.run_id

    @cached_property
    def store(self) -> Store:
        """The run's data."""
        return Store.open(self.record.dataset.path)

    def session(self, device: str | None = None) -> Session:
        """Model, task and data as the recipe makes them, on the run's device or another one."""
        record = self.record
        return Session(record.recipe, self.store, device or record.device, max(1, record.threads // record.processes))


def by_interrupt(error: BaseException) -> bool:
    """Whether a person stopped the run, judged by Ctrl-C only."""
    return isinstance(error, KeyboardInterrupt)


@contextmanager
def opened(run: OpenRun | str, by_person: Callable[[BaseException], bool] = by_interrupt) -> Iterator[OpenRun]:
    """Context manager for working on a run: a new one, or one of this machine by its id. The run ends with the block,
    see `ending`.

    Raises:
        UserError: another process is working on the run, or it has no record here.
    """
    with alone(run if isinstance(run, str) else run.id) as folder:
        if isinstance(run, str):
            run = OpenRun(RunRecord.load(folder), MlflowTracker(places().settings).resume(run))
        with ending(run.tracked, by_person):
            send(run.record, folder, run.tracked)
            yield run


@contextmanager
def ending(tracked: MlflowRun, by_person: Callable[[BaseException], bool] = by_interrupt) -> Iterator[None]:
    """End the tracked run with the block: FINISHED, FAILED after an exception, KILLED when interrupted. If it was
    interrupted, but not `by_person`, it is marked as cut off."""
    status = "KILLED"
    try:
        yield
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    except BaseException as error:  # Ctrl-C, another signal, or a cancellation by Prefect
        tracked.tags({CUT_OFF: "" if by_person(error) else "yes"})
        raise
    finally:
        tracked.finish(status)
        if status == "KILLED":
            stopped.append(tracked.ref.run_id)
