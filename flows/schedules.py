"""Schedules of the deployed pipeline: add, list, remove, and deactivate those that Prefect can't plan."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType

from components.errors import UserError, unknown
from flows.pipeline import pipeline_flow, resume_flow
from flows.reaper import OURS
from flows.study import compare_flow
from flows.timing import next_times, show_every
from flows.use import generate_flow, predict_flow

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
    from prefect.deployments.runner import RunnerDeployment

NAME = "reprise"  # of all deployments: "pipeline/reprise" …
FLOWS = (pipeline_flow, resume_flow, compare_flow, generate_flow, predict_flow)


def add_schedule(
    name: str, parameters: Mapping[str, Any], *, cron: str = "", every: timedelta | None = None, timezone: str = "UTC"
) -> tuple[bool, list[datetime]]:
    """Schedule the pipeline with these parameters. Returns whether a schedule with this name was replaced, and the next
    times.

    Raises:
        UserError: Prefect can't plan it.
    """
    try:
        when = (
            IntervalSchedule(interval=every, timezone=timezone) if every else CronSchedule(cron=cron, timezone=timezone)
        )
    except ValueError:  # Prefect knows fewer time zones than Python, and not "localtime"
        what = f"Prefect doesn't know the time zone {timezone!r}"
        raise UserError(what, where="--timezone", hint="choose another, for example UTC") from None
    times = next_times(when)
    with get_client(sync_client=True) as client:
        deployment = deployed(client)
        old = [known for known in client.read_deployment_schedules(deployment) if known.slug == name]
        for known in old:
            client.delete_deployment_schedule(deployment, known.id)
        new = DeploymentScheduleCreate(schedule=when, parameters=dict(parameters), slug=name)
        client.create_deployment_schedules(deployment, [new])
    return bool(old), times


def set_aside() -> list[str]:
    """Deactivate schedules that Prefect can't plan, because one of them prevents it from planning the others. Returns
    their names with the reasons."""
    found = []
    with get_client(sync_client=True) as client:
        for flow in FLOWS:
            with contextlib.suppress(ObjectNotFound):
                deployment = client.read_deployment_by_name(f"{flow.name}/{NAME}").id
                for known in client.read_deployment_schedules(deployment):
                    if known.active and (problem := _unplannable(known)):
                        client.update_deployment_schedule(deployment, known.id, active=False)
                        found.append(f"{known.slug or known.id}: {problem}")
    return found


def _unplannable(known: DeploymentSchedule) -> str:
    try:
        next_times(known.schedule, 1)
    except UserError as error:
        return error.what
    return ""


def remove_schedule(name: str) -> None:
    """Remove a schedule and its planned runs.

    Raises:
        UserError: there is no schedule with this name.
    """
    with get_client(sync_client=True) as client:
        deployment = deployed(client)
        schedules = {known.slug: known for known in client.read_deployment_schedules(deployment)}
        if name not in schedules:
            raise unknown("schedule", name, [slug for slug in schedules if slug], where="--remove")
        client.delete_deployment_schedule(deployment, schedules[name].id)


def schedules() -> list[list[str]]:
    """For each schedule: name, recipe with overrides, rule, next time."""
    rows = []
    with get_client(sync_client=True) as client:
        deployment = deployed(client)
        coming = waiting(client, deployment)
        for known in sorted(client.read_deployment_schedules(deployment), key=lambda each: each.slug or ""):
            times = [run.expected_start_time for run in coming if str(known.id) in (run.idempotency_key or "")]
            given = known.parameters
            what = " ".join([given.get("recipe", ""), *(f"--set {each}" for each in given.get("overrides", []))])
            rows.append([known.slug or "", what, _when(known), _next(known, times)])
    return rows


def deployment_of(flow: Any) -> RunnerDeployment:
    """The deployment of a flow, with its existing schedules."""
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


def deployed(client: SyncPrefectClient) -> UUID:
    """The id of the pipeline's deployment, which is created if nothing was served yet."""
    name = f"{pipeline_flow.name}/{NAME}"
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound:
        return deployment_of(pipeline_flow).apply()


def waiting(client: SyncPrefectClient, deployment: UUID, **wanted: Any) -> list[FlowRun]:
    """Scheduled runs that haven't started, earliest first, at most as many as Prefect lists at once."""
    mine = FlowRunFilter(deployment_id={"any_": [deployment]}, state={"type": {"any_": ["SCHEDULED"]}}, **wanted)
    runs = client.read_flow_runs(flow_run_filter=mine, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
    return [run for run in runs if run.auto_scheduled]


def _next(known: DeploymentSchedule, times: Sequence[datetime]) -> str:
    """The next time of a schedule: that of the next planned run, else computed from the rule."""
    if problem := _unplannable(known):
        return problem.partition("can't be planned: ")[2] or problem
    if not known.active:
        return ""
    return f"{min(times or next_times(known.schedule, 1)).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _when(known: DeploymentSchedule) -> str:
    schedule = known.schedule
    interval = getattr(schedule, "interval", None)
    what = f"every {show_every(interval)}" if interval else getattr(schedule, "cron", "?")
    return f"{what} {schedule.timezone or 'UTC'}{'' if known.active else ' (paused)'}"
