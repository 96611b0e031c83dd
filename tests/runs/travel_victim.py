"""A machine of its own that trains a run and dies: `travel_victim.py RECIPE.yaml UPDATE` is killed after that update,
and not before its state lies in the store."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from components.recipe import read_recipe
from components.runs import train as train_module
from components.runs.ingest import ingest_recipe
from components.runs.open_run import opened
from components.runs.places import places
from components.runs.train import begin_run, train
from components.tracking.arrival import Arrivals

WAIT_SECONDS = 240.0


def main() -> None:
    recipe, last = read_recipe(Path(sys.argv[1])), int(sys.argv[2])
    begun = begin_run(recipe, ingest_recipe(recipe), "cpu", 1)
    progress = train_module._Listener.progress

    def die(self, step: int, steps: int, values: dict[str, float]) -> None:
        progress(self, step, steps, values)
        if step == last:
            deadline = time.monotonic() + WAIT_SECONDS
            while Arrivals(places().settings).run(begun.id).kept is None and time.monotonic() < deadline:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)

    train_module._Listener.progress = die
    print(f"run={begun.id}.", flush=True)
    with opened(begun) as run:
        train(run)


if __name__ == "__main__":
    main()
