"""Closing runs whose process has died. The tags of a flow run name its process, so any later process can close the runs
that a dead one left open, in Prefect and in MLflow."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import runtime, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.context import TagsContext
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Cancelled, Crashed

from components.console import prepare, say
from components.redaction import without_secrets
from components.runs.places import places
from components.tracking.mlflow_backend import MlflowTracker
from components.tracking.process import identity, lives
from flows import run_log  # noqa: F401 - importing it is enough

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

OURS = "reprise"  # tag of flow runs that name their process
PROCESS = "process:"
TRAINING = "training-"  # prefix of tags of task runs that hold a slot of the device, see flows/pipeline.py
WATCH_SECONDS = 3.0
UNCLAIMED_SECONDS = 600.0  # flow runs that no process has claimed for this long are lost
UNFINISHED = {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}

log = logging.getLogger(__name__)
_stopped: set[str] = set()  # flow runs of this process that a person stopped


@dataclass(frozen=True)
class Tidied:
    """Ids of the closed MLflow runs and flow runs."""

    runs: list[str]
    flow_runs: list[str]


def tidy() -> Tidied:
    """Close runs that dead processes of this machine left open. Safe to call from several processes at once.

    Raises:
        UserError: the tracking store doesn't answer.
    """
    runs = MlflowTracker(places().settings).close_dead()
    flow_runs = []
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(tags={"all_": [OURS]}, state=UNFINISHED)
        for flow_run in client.read_flow_runs(flow_run_filter=wanted):
            if _is_dead(flow_run):
                asked = flow_run.state.is_cancelling()
                message = "its process ended unexpectedly; `reprise resume latest` continues from the last checkpoint"
                state = Cancelled() if asked else Crashed(message=message)
                client.set_flow_run_state(flow_run.id, state, force=True)
                _end_tasks(client, flow_run)
                flow_runs.append(str(flow_run.id))
    return Tidied(runs, flow_runs)


@contextlib.contextmanager
def foreground() -> Iterator[None]:
    """Context manager or decorator for a flow called in this process. Its run is tagged with this process, and Ctrl-C
    ends it as Cancelled. Heartbeats are off, because at a flow's end Prefect waits for their thread, up to a second;
    dead runs are recognised by their process."""
    with tags(OURS, PROCESS + identity()), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        try:
            yield
        except KeyboardInterrupt:
            while _stopped:
                _say_cancelled(_stopped.pop())
            raise


def _say_cancelled(flow_run_id: str) -> None:
    """Change the state from Crashed, set by Prefect, to Cancelled. Retries, because a busy server may refuse."""
    for pause_seconds in (0.0, 0.5, 2.0):
        time.sleep(pause_seconds)
        try:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(flow_run_id, Cancelled(message="stopped by the user"), force=True)
            return
        except ObjectNotFound:  # the server is gone
            return
        except Exception as error:
            log.warning("flow run %s: can't mark it as cancelled in Prefect (%s)", flow_run_id, error)


@contextlib.contextmanager
def claimed() -> Iterator[None]:
    """Context manager for the body of a flow: tags its run with this process, and ends it when cancelled in Prefect."""
    prepare()  # processes of workers and of `reprise serve` don't call our main function
    flow_run_id, known, own = str(runtime.flow_run.id or ""), runtime.flow_run.tags, PROCESS + identity()
    over = threading.Event()
    if flow_run_id and own in known:
        # Prefect doesn't stop runs in the foreground, it only sets their state to Cancelling
        threading.Thread(target=_watch, args=(flow_run_id, over), name="watch", daemon=True).start()
    elif flow_run_id:
        kept = [tag for tag in known if not tag.startswith(PROCESS)]
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run_id, tags=sorted({*kept, OURS, own}))
    try:
        with TagsContext(current_tags=set()):  # tasks don't inherit the tags of the flow run
            yield
    except KeyboardInterrupt:
        _stopped.add(flow_run_id)
        raise
    finally:
        over.set()


def stopped_by_person(error: BaseException) -> bool:
    """Whether the current flow run was ended by a person: by Ctrl-C, or by cancelling it in Prefect."""
    if isinstance(error, KeyboardInterrupt):
        # an interrupt in a served run was meant for the serving process
        return not runtime.flow_run.id or PROCESS + identity() in runtime.flow_run.tags
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        state = client.read_flow_run(runtime.flow_run.id).state
        return state is not None and (state.is_cancelling() or state.is_cancelled())
    return False


def failed(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """Hook that prints why a served flow run failed."""
    if PROCESS + identity() not in flow_run.tags:  # in the foreground the command reports it
        say(f"failed  {flow.name} {flow_run.name}: {without_secrets(str(state.message)).strip()}")


def ended(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """Hook for cancelled or crashed flow runs, called by the process that detects it."""
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        _end_tasks(client, flow_run)
    try:
        MlflowTracker(places().settings).close_dead()
    except Exception as error:
        log.warning("flow run %s: can't close its run in MLflow yet (%s)", flow_run.id, error)


def _is_dead(flow_run: FlowRun) -> bool:
    owners = [tag.removeprefix(PROCESS) for tag in flow_run.tags if tag.startswith(PROCESS)]
    if owners or not flow_run.state.is_pending():
        return bool(owners) and all(lives(owner) is False for owner in owners)
    return (datetime.now(UTC) - flow_run.state.timestamp).total_seconds() > UNCLAIMED_SECONDS


def _end_tasks(client: SyncPrefectClient, flow_run: FlowRun) -> None:
    """End the task runs of a finished flow run, and release their slots."""
    mine = FlowRunFilter(id={"any_": [flow_run.id]})
    for task_run in client.read_task_runs(flow_run_filter=mine, task_run_filter=TaskRunFilter(state=UNFINISHED)):
        client.set_task_run_state(task_run.id, Crashed(message="its process has ended"), force=True)
        if held := [tag for tag in task_run.tags if tag.startswith(TRAINING)]:
            client.decrement_v1_concurrency_slots(held, task_run.id, occupancy_seconds=1.0)


def _watch(flow_run_id: str, over: threading.Event) -> None:
    with get_client(sync_client=True) as client:
        while not over.wait(WATCH_SECONDS):
            with contextlib.suppress(Exception):  # the server may be unavailable for a while
                state = client.read_flow_run(flow_run_id).state
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    break
        else:
            return
    say("stopping: the run was cancelled in Prefect")
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    os.kill(os.getpid(), signal.SIGINT if ours else signal.SIGTERM)
