"""A small recipe in a file, for the commands that train it several times, and what MLflow has of their runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import yaml
from conftest import NAMES

from components.errors import UserError

ONE = threading.Lock()
SECTIONS: dict[str, Any] = {
    "seed": 5,
    "encoding": {"kind": "characters"},
    "task": {"kind": "language_model"},
    "model": {"kind": "lstm", "hidden_size": 8},
    "training": {"steps": 20, "batch_size": 8, "tbptt_length": 10, "learning_rate": 0.01, "checkpoint_seconds": 0.0},
    "evaluation": {"every": 5},
}


def write_recipe(folder: Path, name: str = "small", **sections: dict) -> str:
    """The path of a recipe over a list of names beside it; a section that is given replaces the one above."""
    data = folder / "names.txt"
    data.write_text("\n".join(NAMES), encoding="utf-8")
    values = {**SECTIONS, "data": {"path": str(data), "reader": "lines", "split": [0.6, 0.2, 0.2]}, **sections}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def in_this_process(self: Any, command: list[str], **_: Any) -> tuple[int, str]:
    """In the place of `Processes.run`: a trial at a time, here, where one can watch it and where all is imported."""
    from components.runs.trial import run_trial

    with ONE:
        try:
            run_trial(Path(command[-1]))
        except UserError as error:
            return 2, f"error: {error}"
    return 0, ""


def client() -> Any:
    """MLflow's, on the store that the commands use."""
    from components.runs.places import places
    from components.tracking.mlflow_client import open_client

    return open_client(places().settings)


def children(parent: str) -> list[Any]:
    """The runs beneath a run of MLflow."""
    experiment = client().get_run(parent).info.experiment_id
    return client().search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
