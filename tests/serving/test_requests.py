"""A body is a request or one short problem, and it costs little to find out which."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from components.bounds import MAX_EXPLAINED, MAX_INPUTS, MAX_STEPS
from components.serving.guard import Guard
from components.serving.problems import Limits
from components.serving.requests import ExplainRequest, GenerateRequest, PredictRequest


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (PredictRequest, {"inputs": [[[True]] * 500] * 5}),
        (PredictRequest, {"inputs": [[["a"] * 500]] * 5}),
        (PredictRequest, {"inputs": [[0] * 500]}),
        (PredictRequest, {"inputs": [None] * 500}),
        (PredictRequest, {"inputs": [{"wav_base64": 0}] * 500}),
        (PredictRequest, {"inputs": ["a"], **{f"key {n}": 1 for n in range(500)}}),
        (GenerateRequest, {"settings": {"given": ["a"] * 500}}),
        (GenerateRequest, {"settings": {"constraints": [0] * 500}}),
        (GenerateRequest, {"settings": {f"key {n}": 1 for n in range(500)}}),
    ],
)
def test_a_body_that_is_wrong_in_many_places_is_told_in_few(kind: type, more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({"model": "m", **more})
    assert caught.value.error_count() < 20


@pytest.mark.parametrize(
    ("kind", "most", "inputs"),
    [
        (PredictRequest, MAX_INPUTS, lambda count: ["a"] * count),
        (PredictRequest, MAX_STEPS, lambda count: [["a"] * count]),
        (PredictRequest, MAX_STEPS, lambda count: [[[[0.0]]] * count]),
        (PredictRequest, 10_000, lambda count: [[[[0.0]] * count]]),
        (ExplainRequest, MAX_EXPLAINED, lambda count: ["a"] * count),
    ],
    ids=["inputs", "symbols", "pictures", "rows of a picture", "inputs to be explained"],
)
def test_lists_are_as_long_as_they_may_be_and_no_longer(kind, most: int, inputs: Callable[[int], list]) -> None:
    kind.model_validate({"model": "m", "inputs": inputs(most)})
    with pytest.raises(ValidationError, match=f"at most {most} items"):
        kind.model_validate({"model": "m", "inputs": inputs(most + 1)})


def test_a_body_of_a_great_many_values_is_refused_before_it_is_parsed() -> None:
    reached, sent = [], []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(values: int) -> None:
        body = json.dumps({"inputs": [0] * values}).encode()
        waiting = asyncio.Event()

        async def receive() -> Any:
            if not waiting.is_set():
                waiting.set()
                return {"type": "http.request", "body": body, "more_body": False}
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await Guard(application, Limits(values=100), hosts=None)(
            {"type": "http", "method": "POST", "headers": []}, receive, send
        )

    asyncio.run(ask(50))
    asyncio.run(ask(500))
    assert len(reached) == 1
    assert [message["status"] for message in sent if "status" in message] == [200, 413]
