"""Preloaded into a Dask worker of the tests: trials run in the worker's own process, where all is imported. A worker
whose home holds the file `die` is killed in the middle of a training, once its checkpoint is in the store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from travelling_run import die_at

from components.errors import UserError
from components.runs.processes import Processes


def run(self: Any, command: list[str], **_: Any) -> tuple[int, str]:
    from components.runs.trial import run_trial

    if (Path(os.environ["REPRISE_HOME"]) / "die").exists():
        die_at(12)
    try:
        run_trial(Path(command[-1]))
    except UserError as error:
        return 2, str(error)
    except Exception as error:
        return 1, str(error)
    return 0, ""


Processes.run = run
