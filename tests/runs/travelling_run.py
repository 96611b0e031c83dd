"""A machine of its own that trains a run and dies: `travelling_run.py UPDATE COMMAND…` does what `reprise COMMAND…`
does and is killed after that update, not before its state lies in the store. Instead of a command, a recipe's file is
trained without Prefect."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from components.runs import train as train_module
from components.runs.places import places
from components.tracking.remote_runs import RemoteRuns

WAIT_SECONDS = 120.0


def die_at(update: int) -> None:
    progress = train_module._Listener.progress

    def die(self, step: int, steps: int, values: dict[str, float]) -> None:
        progress(self, step, steps, values)
        if step == update:
            remote, deadline = RemoteRuns(places().settings), time.monotonic() + WAIT_SECONDS
            while remote.run(self.run.ref.run_id).kept is None and time.monotonic() < deadline:
                time.sleep(0.05)
            print(f"run={self.run.ref.run_id}.", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    train_module._Listener.progress = die


def main() -> None:
    update, *command = sys.argv[1:]
    die_at(int(update))
    if command[1:]:
        from flows.cli import main as reprise

        sys.argv = ["reprise", *command]
        reprise()
        return
    from components.recipe import read_recipe
    from components.runs.ingest import ingest_recipe
    from components.runs.open_run import opened

    recipe = read_recipe(Path(command[0]))
    with opened(train_module.begin_run(recipe, ingest_recipe(recipe), "cpu", 1)) as run:
        train_module.train(run)


if __name__ == "__main__":
    main()
