"""Processes that share a training. `python -m components.runs.members RUN RANK MEETING` starts a follower.

The process of the run is the leader. It starts the others on this machine, and they end with it. Under torchrun, all
processes are started by torchrun.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from components.console import prepare
from components.datasets.store import Store
from components.errors import UserError
from components.paths import CODE
from components.runs.open_run import OpenRun
from components.runs.places import places
from components.runs.processes import Processes, end_with_input, launched_as
from components.runs.record import RunRecord
from components.training.device import choose_device, gpu_of
from components.training.processes import Ranks, local_store
from components.training.session import Session

END_SECONDS = 30.0  # time for the other processes to end
RUN, HERE = "run", "process {} is here"  # keys of torch's store: the run, and processes that have joined


@contextmanager
def together(run: OpenRun) -> Iterator[Ranks | None]:
    """The processes of a run's training, with this one as leader; None if it is the only one.

    Raises:
        RuntimeError: another process ended too early.
    """
    size = run.record.processes
    if size == 1:
        yield None
        return
    device = gpu_of(run.record.device, 0)
    if launched_as()[1] > 1:
        ranks = Ranks.launched(device=device)
        ranks.store.set(RUN, run.id)
        yield ranks
        ranks.close()
    else:
        with tempfile.TemporaryDirectory() as folder, Processes() as processes, ThreadPoolExecutor(size) as pool:
            meeting = Path(folder) / "meeting"
            command = [sys.executable, "-m", "components.runs.members", run.id]
            logs = {rank: run.folder / f"process-{rank}.log" for rank in range(1, size)}
            for log in logs.values():
                log.unlink(missing_ok=True)
            others = {
                rank: pool.submit(processes.run, [*command, str(rank), str(meeting)], log=log, cwd=CODE)
                for rank, log in logs.items()
            }
            ranks = None
            try:
                store = local_store(meeting, size)
                while waited_for := [rank for rank in others if not store.check([HERE.format(rank)])]:
                    if any(others[rank].done() for rank in waited_for):
                        raise RuntimeError("another process ended")
                    time.sleep(0.05)
                ranks = Ranks(store, 0, size, device=device)
                yield ranks
                ranks.close()
                wait(others.values(), END_SECONDS)
            except RuntimeError as error:
                lines = {rank: log.read_text("utf-8", "replace").strip().splitlines() for rank, log in logs.items()}
                told = "; ".join(f"process {rank}: {said[-1]}" for rank, said in lines.items() if said)
                raise RuntimeError(f"the training in {size} processes failed ({told or error})") from error
            finally:
                if ranks is not None:
                    ranks.close()  # the others end when nobody answers any more
                processes.stop()


def follow(record: RunRecord, ranks: Ranks) -> None:
    """Take part in the training of a run that another process leads."""
    store, threads = Store.open(record.dataset.path), max(1, record.threads // record.processes)
    session = Session(record.recipe, store, gpu_of(record.device, ranks.rank), threads)
    session.follow(places().run_folder(record.ref.run_id), ranks)
    ranks.close()


def follow_launched(device: str) -> None:
    """Like `follow`, in a process that torchrun started beside the leader."""
    ranks = Ranks.launched(device=gpu_of(choose_device(device), launched_as()[0]))
    follow(RunRecord.load(places().run_folder(ranks.store.get(RUN).decode())), ranks)


def main() -> None:
    prepare()
    end_with_input()
    run_id, rank, meeting = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    try:
        record = RunRecord.load(places().run_folder(run_id))
        store = local_store(meeting, record.processes)
        store.set(HERE.format(rank), "")
        follow(record, Ranks(store, rank, record.processes, device=gpu_of(record.device, rank)))
    except (UserError, RuntimeError) as error:  # the leader reports the error
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
