"""What is particular to Ray, without a cluster: docs/log.md has what was seen on one."""

from __future__ import annotations

import socket
import time
from collections import Counter
from typing import Any

import pytest

from components.errors import UserError
from flows.on_ray import OnRay, Slot, connected, slots_of


def node(name: str, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": {"memory": 1e9, f"node:{name}": 1.0, **resources}}


def test_a_slot_is_a_gpu_or_a_node_without_one() -> None:
    nodes = [node("head"), node("gone", alive=False, CPU=8.0), node("a", CPU=8.0), node("b", CPU=4.0, GPU=2.0)]
    assert slots_of(nodes) == [Slot("a", 0, 8.0), Slot("b", 1, 2.0), Slot("b", 1, 2.0)]
    assert slots_of([node("head")]) == []


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", "1")  # read when it is imported
    monkeypatch.setenv("RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S", "1")
    pytest.importorskip("prefect_ray", reason="needs Ray: pip install ray prefect-ray")
    import ray

    return ray


@pytest.mark.slow
def test_trials_go_to_the_slot_with_the_fewest_and_are_tried_once_more(ray) -> None:
    from prefect_ray.context import RemoteOptionsContext

    sent: list[dict[str, Any]] = []

    class Runner:
        def submit(self, task: Any, parameters: Any) -> int:
            sent.append(RemoteOptionsContext.get().current_remote_options)
            ray.remote(node).options(**sent[-1])  # it knows them all
            return len(sent)

    a, b = "a" * 56, "b" * 56
    cluster = OnRay(Runner(), slots_of([node(a, CPU=1.0), node(b, CPU=8.0, GPU=2.0)]), each=3)
    for _ in range(9):
        cluster.submit(None, {}, range(1, len(sent) + 1))  # none has ended
    at = [each["scheduling_strategy"].node_id for each in sent]
    assert Counter(at) == {a: 3, b: 6}
    assert Counter(at[:3]) == {a: 1, b: 2}, "one to each slot first"
    cluster.submit(None, {}, [number for number in range(1, 10) if at[number - 1] == b])
    assert sent[-1]["scheduling_strategy"].node_id == a, "where trials have ended"
    shares = {each["scheduling_strategy"].node_id: (each["num_cpus"], each["num_gpus"]) for each in sent}
    assert shares == {a: (0.3333, 0.0), b: (1.0, 0.3333)}
    assert {each["max_retries"] for each in sent} == {1}
    assert all(each["scheduling_strategy"].soft for each in sent), "another node does if that one is lost"


@pytest.mark.slow
def test_what_listens_but_is_not_ray_is_told_in_seconds(ray) -> None:
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"ray://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"{address}: can't connect to Ray \(ray cl"), connected(address, 1):
            pass
    assert time.monotonic() - began < 60
    assert not ray.is_initialized()
