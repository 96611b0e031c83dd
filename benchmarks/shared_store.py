"""What one worker costs the services that many share: MLflow's store, where artifacts lie, and Prefect's server.

    python -m benchmarks.shared_store --mlflow PID [PID …] --prefect PID

The PIDs are those of the services: an `mlflow server`, the first process of PostgreSQL, the Prefect server. Their
processor time is measured with that of the processes below them, so that other work on the machine doesn't count.
MLFLOW_TRACKING_URI, the settings in mlflow.yaml and PREFECT_API_URL say where they are. Makes an experiment of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import psutil

from components.runs.places import places
from components.tracking.mlflow_backend import MlflowTracker

NAMES = [f"system/{number}" for number in range(4)] + [f"train/{number}" for number in range(8)]
MEGABYTE = 1_000_000


def processor_seconds(pids: Sequence[int]) -> float:
    """Of the processes and of those below them, the ended ones included."""
    total = 0.0
    for pid in pids:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:  # its time is its parent's now
                continue
    return total


def cost(what: str, pids: Sequence[int], times: int, call: Callable[[int], object]) -> None:
    """Print the time that a call takes here, and the processor time that it takes the services."""
    call(0)  # the first one opens connections
    before, started = processor_seconds(pids), time.perf_counter()
    for number in range(1, times + 1):
        call(number)
    here, there = time.perf_counter() - started, processor_seconds(pids) - before
    print(f"{what:<46} {here / times * 1000:8.1f} ms {there / times * 1000:8.1f} ms of the services", flush=True)


def mlflow_costs(pids: Sequence[int], times: int) -> None:
    from mlflow.entities import Metric

    tracker, experiment = MlflowTracker(places().settings), f"shared-store-{time.time():.0f}"
    run = tracker.start(experiment, "costs", tags={})
    client, run_id = tracker.client, run.ref.run_id

    def batch(number: int) -> None:
        client.log_batch(run_id, metrics=[Metric(name, number * 0.5, number, number + 1) for name in NAMES])

    cost(f"a batch of {len(NAMES)} metrics", pids, times, batch)
    cost("reading a run", pids, times, lambda number: client.get_run(run_id))
    cost("setting a tag", pids, times, lambda number: client.set_tag(run_id, "travel", str(number)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        path.write_bytes(bytes(MEGABYTE))
        cost("storing 1 MB", pids, max(1, times // 5), lambda number: client.log_artifact(run_id, str(path), "travel"))
    cost("a run: begun, 60 settings, ended", pids, max(1, times // 5), lambda number: _whole_run(tracker, experiment))
    run.finish()


def _whole_run(tracker: MlflowTracker, experiment: str) -> None:
    run = tracker.start(experiment, "one", tags={})
    run.params({f"setting.{number}": number for number in range(60)})
    run.text("seed: 0\n", "recipe.yaml")
    run.finish()


def prefect_costs(pids: Sequence[int], times: int) -> None:
    from prefect import flow, runtime, task
    from prefect.client.orchestration import get_client

    step = task(lambda: None, name="step")
    seen: list[UUID] = []

    @flow(name="shared-store")
    def five_steps() -> None:
        seen.append(UUID(str(runtime.flow_run.id)))
        for _ in range(5):
            step()

    cost("a flow run of five tasks", pids, max(1, times // 5), lambda number: five_steps())
    with get_client(sync_client=True) as client:
        cost("asking how a flow run is", pids, times, lambda number: client.read_flow_run(seen[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow", type=int, nargs="*", default=[], help="PIDs of MLflow's server and database")
    parser.add_argument("--prefect", type=int, nargs="*", default=[], help="PID of Prefect's server")
    parser.add_argument("--times", type=int, default=200, help="calls of each kind")
    given = parser.parse_args()
    if given.mlflow:
        mlflow_costs(given.mlflow, given.times)
    if given.prefect:
        prefect_costs(given.prefect, given.times)


if __name__ == "__main__":
    main()
