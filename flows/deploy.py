"""Flows as Prefect deployments: served from this process or by workers, started by hand, over Prefect's API or UI, or
on a schedule."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from filelock import FileLock, Timeout
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.states import Cancelled
from prefect.types.entrypoint import EntrypointType

from components.errors import UserError, unknown
from components.tracking.mlflow_backend import MlflowTracker
from flows.compare import compare_flow
from flows.console import say
from flows.pipeline import pipeline_flow, resume_flow
from flows.places import ROOT, places
from flows.reaper import OURS, tidy
from flows.server import Server
from flows.timing import show_every

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
    from prefect.deployments.runner import RunnerDeployment

NAME = "reprise"  # of all deployments: "pipeline/reprise" …
FLOWS = (pipeline_flow, resume_flow, compare_flow)
KEEP_SECONDS = 30.0  # between two looks for what died
MOST_DEATHS = 3  # a run whose process died so often isn't started again by itself
LONGEST_AGO_SECONDS = 86400.0  # nor one that was cut off before yesterday
MISSED_SECONDS = 60.0


def serve(at_once: int, pick_up: bool) -> None:
    """Run what is started or falls due, each run in a process of its own, `at_once` at a time, until Ctrl-C.

    `pick_up`: runs of this machine that were cut off go on by themselves.

    Raises:
        UserError: somebody serves from this home already.
    """
    with _alone():
        os.chdir(ROOT)  # where the runs' processes find the flows
        skipped = _skip_missed()
        deployments = [_deployment(flow) for flow in FLOWS]
        say(f"serving {', '.join(f'{flow.name}/{NAME}' for flow in FLOWS)}; {at_once} at a time; Ctrl-C ends it")
        say(f"prefect {Server(places().prefect).url() or os.environ.get('PREFECT_API_URL', '')}/deployments")
        if skipped:
            say(f"        {skipped} missed runs are left out: of each schedule only the latest is made up for")
        over = threading.Event()
        keeper = threading.Thread(target=_keep, args=(over, pick_up), name="keeper", daemon=True)
        keeper.start()
        # schedules go on while nothing is served; what they missed is made up for once, see _skip_missed
        runner = _Runner(limit=at_once, pause_on_shutdown=False)
        for deployment in deployments:
            runner.add_deployment(deployment)
        try:
            asyncio.run(runner.start())
        except KeyboardInterrupt:
            say("stopped serving")
        finally:
            over.set()
            tidy()  # Prefect kills the processes of runs that go on


class _Runner(Runner):
    def handle_sigterm(self, *_: object) -> None:
        raise SystemExit(0)  # Prefect 3.8's own also calls its asynchronous stop, without waiting for it


def add_schedule(
    name: str, parameters: Mapping[str, Any], *, cron: str = "", every: timedelta | None = None, timezone: str = "UTC"
) -> bool:
    """Start the pipeline with these parameters on a schedule from now on; whether it took the place of one with this
    name."""
    when = IntervalSchedule(interval=every, timezone=timezone) if every else CronSchedule(cron=cron, timezone=timezone)
    with get_client(sync_client=True) as client:
        deployment = _deployed(client)
        old = [known for known in client.read_deployment_schedules(deployment) if known.slug == name]
        for known in old:
            client.delete_deployment_schedule(deployment, known.id)
        new = DeploymentScheduleCreate(schedule=when, parameters=dict(parameters), slug=name)
        client.create_deployment_schedules(deployment, [new])
    return bool(old)


def remove_schedule(name: str) -> None:
    """Take a schedule and its runs to come away.

    Raises:
        UserError: there is none of this name.
    """
    with get_client(sync_client=True) as client:
        deployment = _deployed(client)
        schedules = {known.slug: known for known in client.read_deployment_schedules(deployment)}
        if name not in schedules:
            raise unknown("schedule", name, [slug for slug in schedules if slug], where="--remove")
        client.delete_deployment_schedule(deployment, schedules[name].id)


def schedules() -> list[list[str]]:
    """Of each schedule: name, recipe and what differs from it, when it fires, the next time."""
    rows = []
    with get_client(sync_client=True) as client:
        deployment = _deployed(client)
        coming = _waiting(client, deployment)
        for known in sorted(client.read_deployment_schedules(deployment), key=lambda each: each.slug or ""):
            times = [run.expected_start_time for run in coming if str(known.id) in (run.idempotency_key or "")]
            given = known.parameters
            what = " ".join([given.get("recipe", ""), *(f"--set {each}" for each in given.get("overrides", []))])
            rows.append([known.slug or "", what, _when(known), f"{min(times):%Y-%m-%d %H:%M} UTC" if times else "soon"])
    return rows


def pick_up(known: set[str]) -> list[str]:
    """Start the runs again that were cut off on this machine, by the deployment `resume`; their ids. `known` are those
    that need no more asking; Prefect starts none twice."""
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


def _deployment(flow: Any) -> RunnerDeployment:
    with get_client(sync_client=True) as client:
        known: Sequence[DeploymentSchedule] = []
        with contextlib.suppress(ObjectNotFound):
            known = client.read_deployment_schedules(client.read_deployment_by_name(f"{flow.name}/{NAME}").id)
    # applying a deployment replaces its schedules
    kept = [
        DeploymentScheduleCreate(schedule=each.schedule, active=each.active, parameters=each.parameters, slug=each.slug)
        for each in known
    ]
    return flow.to_deployment(NAME, tags=[OURS], schedules=kept, entrypoint_type=EntrypointType.MODULE_PATH)


def _deployed(client: SyncPrefectClient) -> UUID:
    """The deployment of the pipeline, made now where nothing was served yet."""
    name = f"{pipeline_flow.name}/{NAME}"
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound:
        return _deployment(pipeline_flow).apply()


def _waiting(client: SyncPrefectClient, deployment: UUID, **wanted: Any) -> list[FlowRun]:
    """Runs that schedules have planned and nobody has begun, the earliest first, no more than Prefect tells at once."""
    mine = FlowRunFilter(deployment_id={"any_": [deployment]}, state={"type": {"any_": ["SCHEDULED"]}}, **wanted)
    runs = client.read_flow_runs(flow_run_filter=mine, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
    return [run for run in runs if run.auto_scheduled]


def _skip_missed() -> int:
    """Cancel runs that fell due while nothing was served, except the latest of each schedule; how many."""
    skipped = 0
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"{pipeline_flow.name}/{NAME}").id
        except ObjectNotFound:
            return 0
        due = {"before_": datetime.now(UTC) - timedelta(seconds=MISSED_SECONDS)}
        before = -1
        while skipped != before:  # until all that are told at once are latest ones
            before, latest = skipped, set()
            for run in reversed(_waiting(client, deployment, expected_start_time=due)):
                key = json.dumps(run.parameters, sort_keys=True)
                if key in latest:
                    client.set_flow_run_state(run.id, Cancelled(message="missed: nothing was served"), force=True)
                    skipped += 1
                latest.add(key)
    return skipped


def _keep(over: threading.Event, picks_up: bool) -> None:
    """Close what died, again and again, and have it go on where that is wished."""
    known: set[str] = set()
    while not over.is_set():
        try:
            closed = tidy()
            if closed.runs or closed.flow_runs:
                counts = f"{len(closed.runs)} runs in MLflow, {len(closed.flow_runs)} in Prefect"
                say(f"closed  {counts}: their process is gone")
            if picks_up:
                for run_id in pick_up(known):
                    say(f"resume  {run_id[:8]} goes on")
        except Exception as error:  # the store or the server may be away for a while
            say(f"warning: can't look for dead runs now: {error}")
        over.wait(KEEP_SECONDS)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    try:
        with FileLock(places().home / "serve.lock", timeout=0):
            yield
    except Timeout:
        raise UserError("is served already, by another `reprise serve`", where=str(places().home)) from None


def _when(known: DeploymentSchedule) -> str:
    schedule = known.schedule
    interval = getattr(schedule, "interval", None)
    what = f"every {show_every(interval)}" if interval else getattr(schedule, "cron", "?")
    return f"{what} {schedule.timezone or 'UTC'}{'' if known.active else ' (paused)'}"
