"""Flows as Prefect deployments: served from this process or by workers, started from the command line, Prefect's API or
UI, or on a schedule."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.states import Cancelled

from components.console import say
from components.errors import UserError
from components.paths import CODE
from components.redaction import shown_address
from components.runs.places import places
from components.tracking.mlflow_backend import MlflowTracker
from components.whole_files import held
from flows.pipeline import pipeline_flow, resume_flow
from flows.reaper import tidy
from flows.schedules import FLOWS, NAME, deployment_of, set_aside, waiting
from flows.server import Server

KEEP_SECONDS = 30.0  # interval of checks for dead runs
MOST_DEATHS = 3  # runs whose process died this often aren't resumed automatically
LONGEST_AGO_SECONDS = 86400.0  # nor runs that were interrupted longer ago
MISSED_SECONDS = 60.0


def serve(at_once: int, pick_up: bool) -> None:
    """Execute requested and scheduled runs, each in a separate process, `at_once` at a time, until Ctrl-C.

    `pick_up`: resume interrupted runs of this machine automatically.

    Raises:
        UserError: another process already serves from this home.
    """
    refusal = UserError("another `reprise serve` is already running", where=str(places().home))
    with held(places().home / "serve.lock", refusal):
        os.chdir(CODE)  # the runs' processes import the flows from here
        _tell_set_aside()
        skipped = _skip_missed()
        deployments = [deployment_of(flow) for flow in FLOWS]
        say(f"serving {', '.join(f'{flow.name}/{NAME}' for flow in FLOWS)}; {at_once} at a time; Ctrl-C stops it")
        url = Server(places().prefect).url() or os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
        say(f"prefect {shown_address(url)}/deployments")
        if skipped:
            say(f"        {skipped} missed runs are skipped: only the latest of each schedule is started")
        over = threading.Event()
        keeper = threading.Thread(target=_keep, args=(over, pick_up), name="keeper", daemon=True)
        keeper.start()
        # schedules stay active while nothing is served; of missed runs only the latest is executed, see _skip_missed
        runner = _Runner(limit=at_once, pause_on_shutdown=False)
        for deployment in deployments:
            runner.add_deployment(deployment)
        try:
            asyncio.run(runner.start())
        except KeyboardInterrupt:
            say("stopped serving")
        finally:
            over.set()
            tidy()  # Prefect kills the processes of active runs


class _Runner(Runner):
    def handle_sigterm(self, *_: object) -> None:
        raise SystemExit(0)  # Prefect 3.8's handler also calls its asynchronous stop, without awaiting it


def pick_up(known: set[str]) -> list[str]:
    """Resume interrupted runs of this machine with the deployment `resume`. Returns their ids. `known`: keys of runs
    that were already requested; Prefect starts none twice."""
    started = []
    for run in MlflowTracker(places().settings).cut_off():
        recent = time.time() - run.ended_ms / 1000 < LONGEST_AGO_SECONDS
        if run.deaths >= MOST_DEATHS or not recent or not (places().run_folder(run.run_id) / "run.json").exists():
            continue
        if (key := f"resume {run.run_id} {run.ended_ms}") in known:
            continue
        run_deployment(
            f"{resume_flow.name}/{NAME}",
            parameters={"run_id": run.run_id},
            timeout=0,
            as_subflow=False,
            idempotency_key=key,
        )
        known.add(key)
        started.append(run.run_id)
    return started


def _skip_missed() -> int:
    """Cancel runs that were due while nothing was served, except the latest of each schedule. Returns their number."""
    skipped = 0
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"{pipeline_flow.name}/{NAME}").id
        except ObjectNotFound:
            return 0
        due = {"before_": datetime.now(UTC) - timedelta(seconds=MISSED_SECONDS)}
        before = -1
        while skipped != before:  # Prefect lists a limited number at once: until only the latest ones are left
            before, latest = skipped, set()
            for run in reversed(waiting(client, deployment, expected_start_time=due)):
                key = json.dumps(run.parameters, sort_keys=True)
                if key in latest:
                    client.set_flow_run_state(
                        run.id, Cancelled(message="missed: `reprise serve` wasn't running"), force=True
                    )
                    skipped += 1
                latest.add(key)
    return skipped


def _keep(over: threading.Event, picks_up: bool) -> None:
    """Periodically close dead runs and, with `picks_up`, resume them."""
    known: set[str] = set()
    while not over.is_set():
        try:
            closed = tidy()
            if closed.runs or closed.flow_runs:
                counts = f"{len(closed.runs)} runs in MLflow, {len(closed.flow_runs)} in Prefect"
                say(f"closed  {counts}: their processes have ended")
            _tell_set_aside()
            if picks_up:
                for run_id in pick_up(known):
                    say(f"resumed {run_id[:8]}")
        except Exception as error:  # the store or the server may be unavailable for a while
            say(f"warning: can't check for interrupted runs now: {error}")
        over.wait(KEEP_SECONDS)


def _tell_set_aside() -> None:
    for name in set_aside():
        say(f"warning: schedule {name}; it is switched off because it would block all other schedules")
