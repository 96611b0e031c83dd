"""Ray clusters: their nodes and GPUs, and stopping trials there."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.runs.processes import STOP_SECONDS

if TYPE_CHECKING:
    from prefect import Task
    from prefect.futures import PrefectFuture

    from components.runs.away import Worker

ANSWER_SECONDS = 60.0  # timeout for a node, which imports torch
FLAW, CONNECTIONS = "Starting Ray client server failed", 2  # retried; seen with Ray 2.60, see docs/log.md
TRIES = 1  # retries after a worker has died; Ray's default is three


@dataclass(frozen=True)
class Slot:
    """A worker of a study: a GPU of a node, or a node without GPUs. `cpus`: the number of CPUs that Ray has for it."""

    node: str
    gpus: int
    cpus: float

    def options(self, each: int) -> dict[str, Any]:
        """Ray's resource options for one of `each` parallel trials. If the node is lost, another one may be used."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        shares = {"num_cpus": _down(min(1.0, self.cpus / each)), "num_gpus": _down(self.gpus / each)}
        return {**shares, "scheduling_strategy": NodeAffinitySchedulingStrategy(self.node, soft=True)}


class OnRay:
    """A connected cluster; see `flows.cluster.Kind`. Each slot runs `each` trials at a time."""

    def __init__(self, runner: Any, slots: list[Slot], each: int) -> None:
        self._runner, self._slots, self._each = runner, slots, each
        self._at: dict[PrefectFuture, int] = {}  # numbers of slots

    def workers(self) -> list[Worker]:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = {}
        for slot in self._slots:  # one slot of each node is asked
            at = NodeAffinitySchedulingStrategy(slot.node, soft=False)
            if slot.node not in asked:
                asked[slot.node] = ray.remote(_here).options(num_cpus=0, num_gpus=slot.gpus, scheduling_strategy=at)
        try:
            answers = ray.get([each.remote() for each in asked.values()], timeout=ANSWER_SECONDS)
        except ray.exceptions.GetTimeoutError:
            what = f"a node didn't answer within {ANSWER_SECONDS:.0f} s; are its GPUs in use?"
            raise UserError(what, where="--cluster", hint="`ray status` on the cluster shows what is free") from None
        found = dict(zip(asked, answers, strict=True))
        return [found[slot.node] for slot in self._slots]

    def submit(self, task: Task, parameters: dict[str, Any], going: Collection[PrefectFuture]) -> PrefectFuture:
        from prefect_ray.context import remote_options

        busy = Counter(self._at[future] for future in going)
        number = min(range(len(self._slots)), key=lambda each: busy[each])
        with remote_options(**self._slots[number].options(self._each), max_retries=TRIES):
            future = self._runner.submit(task, parameters)
        self._at[future] = number
        return future

    def stop(self, futures: Collection[PrefectFuture], _: str) -> None:
        import ray

        references = [future.wrapped_future for future in futures]
        for reference in references:
            ray.cancel(reference)
        ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)


@contextlib.contextmanager
def connected(address: str, each: int) -> Iterator[OnRay]:
    """Context manager of a connection to the cluster at this address, for `each` trials at a time on each slot.

    Raises:
        UserError: it isn't Ray's client server, or it has another version.
    """
    # instead of three attempts of five to fifteen seconds; read when Ray is imported
    os.environ.setdefault("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", "2")
    os.environ.setdefault("RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S", "2")
    import ray
    from prefect_ray import RayTaskRunner

    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for left in reversed(range(CONNECTIONS)):
            try:
                quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
                runner = stack.enter_context(RayTaskRunner(address=address, init_kwargs=quiet))
                break
            except (OSError, RuntimeError) as error:  # RuntimeError if versions differ
                if left and FLAW in str(error):
                    continue
                what = f"can't connect to Ray ({str(error).strip().splitlines()[-1]})"
                hint = "start it with `ray start --head`; it needs the same versions of Ray and Python as this machine"
                raise UserError(what, where=f"--cluster {address}", hint=hint) from None
        yield OnRay(runner, slots_of(ray.nodes()), each)


def slots_of(nodes: list[dict[str, Any]]) -> list[Slot]:
    """The slots of the live nodes in the list of `ray.nodes()`. Nodes without CPUs and GPUs have none."""
    slots = []
    for node in nodes:
        cpus, gpus = (node["Resources"].get(name, 0.0) for name in ("CPU", "GPU"))
        if node["Alive"] and cpus + gpus:
            count = max(1, int(gpus))
            slots += [Slot(node["NodeID"], min(1, int(gpus)), cpus / count)] * count
    return slots


@contextlib.contextmanager
def watched(_: Path) -> Iterator[Callable[[], bool]]:
    """Context manager for running a trial in this worker, which is always wanted: Ray interrupts cancelled tasks, and
    stops the workers of a dead command."""
    yield lambda: True


def _here() -> Worker:
    from components.runs.away import Worker

    return Worker.here()


def _down(share: float) -> float:
    """Round down to ten-thousandths, Ray's resolution."""
    return math.floor(share * 1e4) / 1e4
