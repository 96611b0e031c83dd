"""Runs in MLflow whose process has died: found by the tags that identify the process, and marked as KILLED."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.tracking.process import HOST, PROCESS, identity, lives
from components.tracking.spool import Journal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CUT_OFF, DEATHS = "process.cut_off", "process.deaths"  # tags: the process was killed; how often


def left_running(client: MlflowClient, spool: Path) -> list[str]:
    """Ids of the runs that are RUNNING, but whose process on this machine has died and that have no other writer."""
    dead = (run.info.run_id for run in _here(client, "RUNNING") if lives(run.data.tags.get(PROCESS, "")) is False)
    return [run_id for run_id in dead if not Journal.has_writer(spool, run_id)]


@dataclass(frozen=True)
class CutOff:
    """A run whose process was killed. `deaths`: how often so far."""

    run_id: str
    deaths: int
    ended_ms: int


def cut_off(client: MlflowClient) -> list[CutOff]:
    """The runs of this machine whose process was killed and that weren't resumed since. Runs of comparisons are left
    out: they are resumed together."""
    killed = (run for run in _here(client, "KILLED") if run.data.tags.get(CUT_OFF) == "yes")
    return [
        CutOff(run.info.run_id, int(run.data.tags.get(DEATHS, "0")), run.info.end_time or 0)
        for run in killed
        if "mlflow.parentRunId" not in run.data.tags
    ]


def mark_killed(client: MlflowClient, run_id: str) -> None:
    """Mark a run whose writer has died as KILLED, unless it was resumed since, here or on another machine."""
    run = client.get_run(run_id)
    tags = run.data.tags
    if run.info.status != "RUNNING" or tags.get(HOST) != socket.gethostname():
        return
    owner = tags.get(PROCESS, "")
    if owner != identity() and lives(owner):
        return
    client.set_tag(run_id, DEATHS, str(int(tags.get(DEATHS, "0")) + 1))
    client.set_tag(run_id, CUT_OFF, "yes")
    client.set_terminated(run_id, status="KILLED")


def _here(client: MlflowClient, status: str) -> list[Run]:
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    where = f"attributes.status = '{status}' and tags.`{HOST}` = '{socket.gethostname()}'"
    return client.search_runs(ids, where, max_results=1000) if ids else []
