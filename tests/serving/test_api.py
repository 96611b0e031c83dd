"""The API stands whatever it is sent: names, bodies, hosts and floods are bounded, and what it can't do it says."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from native_fixtures import unexpected
from small_models import SOLD, serving

from components.errors import UserError
from components.serving.app import build, serve
from components.serving.models import Models
from components.serving.problems import Busy, Limits, NotFound
from components.tracking.mlflow_store import MlflowStore

pytest_plugins = ["serving_fixtures", "tracking_fixtures"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning"),
]

ROOT = Path(__file__).parents[2]


# --- the models ---


def test_models_are_loaded_once_and_the_least_used_is_let_go(store: MlflowStore) -> None:
    models = Models(store, Limits(models=2))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(models.open, ["tales"] * 6))
    assert len({id(one) for one in found}) == 1
    assert models.open("tales@1") is found[0] is models.open("tales@champion")
    assert models.open("tales@latest") is not found[0]
    models.open("tales")
    models.open("moods")
    assert models.in_memory == ["tales@1", "moods@1"]


def test_models_that_are_still_used_are_bounded_too(store: MlflowStore) -> None:
    models = Models(store, Limits(models=1))
    used = [models.open("tales@1"), models.open("tales@2")]
    with pytest.raises(Busy, match="2 models are being used"):
        models.open("moods")
    assert models.open("tales@2") is used.pop(), "what is at hand can be had"
    used.clear()
    assert models.open("moods").ref.name == "moods"


@pytest.mark.parametrize("name", ["../tales", "tales/1", "tales@../1", "", "@", "a'b", "x" * 300, "tales@9", "talles"])
def test_a_name_that_is_none_opens_nothing(store: MlflowStore, name: str) -> None:
    with pytest.raises(NotFound):
        Models(store, Limits()).open(name)


def test_a_tampered_model_is_refused_and_no_path_is_told(store: MlflowStore) -> None:
    folder = store.fetch(store.find("moods", "1"))
    kept = (folder / "recipe.json").read_bytes()
    (folder / "recipe.json").write_bytes(kept + b" ")
    try:
        with pytest.raises(Busy, match="differ from the registered ones") as caught:
            Models(store, Limits()).open("moods")
        assert str(folder.parent) not in str(caught.value)
    finally:
        (folder / "recipe.json").write_bytes(kept)


# --- the guard ---


def test_a_body_is_bounded_before_it_is_read(client: httpx.Client, address: str) -> None:
    large = b'{"model": "' + b"x" * (9 << 20) + b'"}'
    for content in (large, (large[i : i + (1 << 20)] for i in range(0, len(large), 1 << 20))):  # the second: in chunks
        answer = client.post("/generate", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert "8,388,608 bytes" in answer.json()["error"]
    raw = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    raw.putrequest("POST", "/generate")
    raw.putheader("content-length", str(1 << 40))
    raw.endheaders()
    assert raw.getresponse().status == 413


def test_a_body_that_never_ends_is_not_waited_for(store: MlflowStore) -> None:
    with serving(build(store, Limits(body_seconds=0.3))) as slow:
        raw = http.client.HTTPConnection(slow.removeprefix("http://"), timeout=20)
        raw.putrequest("POST", "/generate")
        raw.putheader("content-length", "100")
        raw.endheaders(b"{")
        assert raw.getresponse().status == 408


def test_another_sites_name_for_this_machine_is_refused(client: httpx.Client) -> None:
    assert client.get("/models", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/models", headers={"host": "127.0.0.1:1"}).status_code == 200
    answer = client.options(
        "/generate", headers={"origin": "http://evil.example", "access-control-request-method": "POST"}
    )
    assert not [name for name in answer.headers if name.startswith("access-control")]
    simple = client.post("/generate", content=b'{"model": "tales"}', headers={"content-type": "text/plain"})
    assert simple.status_code == 422, "what a form of another site can send isn't taken"


def test_too_many_requests_at_once_are_told_to_come_again(store: MlflowStore, slowly: None) -> None:
    with serving(build(store, Limits(requests=1))) as small, ThreadPoolExecutor(1) as pool:
        slow = {"model": "tales", "settings": {"count": 4, "max_length": 8000}}
        first = pool.submit(httpx.post, f"{small}/generate", json=slow, timeout=60, trust_env=False)
        while not httpx.get(f"{small}/health", trust_env=False).json()["requests"]:
            time.sleep(0.01)
        second = httpx.post(f"{small}/generate", json=slow, trust_env=False)
        assert (second.status_code, second.headers["retry-after"]) == (503, "1")
        assert first.result().status_code == 200


def test_a_request_that_takes_too_long_is_ended(store: MlflowStore, slowly: None) -> None:
    with serving(build(store, Limits(seconds=1.0))) as hasty:
        httpx.post(f"{hasty}/generate", json={"model": "tales"}, timeout=60, trust_env=False)
        slow = {"model": "tales", "settings": {"count": 8, "max_length": 8000, "top_p": 0.5}}
        many = [{**slow, "seed": seed} for seed in range(8)]
        with ThreadPoolExecutor(8) as pool:
            codes = list(
                pool.map(
                    lambda r: httpx.post(f"{hasty}/generate", json=r, timeout=60, trust_env=False).status_code, many
                )
            )
        assert set(codes) <= {200, 504}
        assert 504 in codes


def test_headers_let_nothing_in(client: httpx.Client) -> None:
    for path in ("/health", "/nope", "/"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_nothing_that_is_sent_is_logged(client: httpx.Client, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        for settings_ in ({"prompt": "the sacad"}, {"prompt": "sacad", "given": [1]}, {"chords": "sacad"}):
            client.post("/generate", json={"model": "tales", "settings": settings_})
    assert "sacad" not in "".join(capfd.readouterr())
    assert "sacad" not in "\n".join(
        r.getMessage() for r in caplog.records if not r.name.startswith(("http", "asyncio"))
    )


# --- hostile ---

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("tales"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SETTINGS = ["count", "max_length", "temperature", "top_k", "top_p", "prompt", "constraints", "given", "chords", "band"]
hostile = st.fixed_dictionaries(
    {"model": st.sampled_from(["tales", "four-voices", "blues", "moods", "sums"]) | values},
    optional={
        "settings": st.fixed_dictionaries(
            {"max_length": st.integers(1, 30) | values, "count": st.integers(1, 3)},
            optional={
                "temperature": st.floats(0, 10) | values,
                "top_p": st.floats(0, 1) | values,
                "top_k": st.integers(0, 2**70) | values,
                "prompt": st.text(max_size=12),
                "constraints": st.lists(
                    st.text(max_size=20) | st.just("key F major") | st.just("longest 1 beat"), max_size=3
                ),
                "given": st.lists(st.integers(-2, 200), max_size=8) | values,
                "given_ends": st.booleans(),
                "chords": st.text("ABCDEFG7m|%# b", max_size=12) | values,
                "choruses": st.integers(1, 3),
                "precision": st.sampled_from(["int8", "float32"]),
            },
        )
        | values,
        "seed": st.integers(0, 2**63) | values,
        "inputs": st.lists(st.text(max_size=9) | st.lists(st.lists(st.floats(-9, 9), max_size=3), max_size=3) | values),
        "melody": st.fixed_dictionaries({"name": st.text(max_size=5), "base64": st.text("AB/+=", max_size=9)}) | values,
        "more": values,
    },
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(body=hostile, path=st.sampled_from(["/generate", "/generate/stream", "/predict", "/explain"]))
@example(body={"model": "tales", "settings": {"given": [0, 1, 2, 3], "prompt": ""}}, path="/generate")
@example(body={"model": "four-voices", "settings": {"given": [2, 2, 1, 3], "max_length": 20}}, path="/generate/stream")
@example(body={"model": "blues", "settings": {"given": [5, 5, 5], "given_ends": True, "chords": ""}}, path="/generate")
@example(body={"model": "tales", "settings": {"temperature": 1e-300, "max_length": 3}}, path="/generate")
@example(body={"model": "tales", "settings": {"top_p": 5e-324, "max_length": 3}}, path="/generate")
@example(body={"model": "sums", "inputs": [[[1e30, -1e30]]]}, path="/predict")
@example(body={"model": "sums", "inputs": [[[1e30, -1e30]]]}, path="/explain")
def test_no_request_makes_the_server_fail(client: httpx.Client, body: Any, path: str) -> None:
    content = json.dumps(body).encode()
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert set(answer.json()) == {"error", "where", "hint"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"model": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b'{"model": NaN}',
        b"null",
        b'"tales"',
    ],
)
def test_what_is_no_json_is_refused(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/generate", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"error", "where", "hint"}


# --- the command ---


def test_ctrl_c_ends_the_command_at_once_whatever_is_being_drawn(store: MlflowStore) -> None:
    environment = {**os.environ, "REPRISE_HOME": str(store.settings.home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "api", "--port", "0"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    answers: list[httpx.Response] = []
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().split()[-1].rstrip("/")
        slow = {"model": "four-voices", "settings": {"count": 8, "max_length": 8000}}

        def ask() -> None:
            answers.append(httpx.post(f"{address}/generate", json=slow, timeout=90, trust_env=False))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        while not httpx.get(f"{address}/health", timeout=90, trust_env=False).json()["models_in_memory"]:
            assert asking.is_alive()
            time.sleep(0.05)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert time.monotonic() - start < 10  # one second on a quiet machine
        asking.join(10)
        assert (answers[0].status_code, answers[0].json()["error"]) == (503, "the server is ending")
        assert unexpected(process.stderr.read()) == []
    finally:
        process.kill()


def test_a_port_that_is_taken_is_said(address: str, store: MlflowStore) -> None:
    with pytest.raises(UserError, match="is the port in use"):
        serve(store.settings, "127.0.0.1", int(address.rpartition(":")[2]))
    with pytest.raises(UserError, match="can't listen on this address"):
        serve(store.settings, "no such host", 0)


# --- its own description ---


REQUESTS = ("Generate", "Predict", "Explain", "Score")


@pytest.mark.parametrize("names", [(), SOLD], ids=["any name", "names that are there"])
def test_the_api_does_what_its_description_says(address: str, names: tuple[str, ...]) -> None:
    """Schemathesis, all its checks: examples, the borders of every constraint, and requests at random."""
    import schemathesis
    from schemathesis.config import SchemathesisConfig
    from schemathesis.engine import events, from_schema

    told = httpx.get(f"{address}/openapi.json", trust_env=False).json()
    requests = {name: told["components"]["schemas"][f"{name}Request"]["properties"] for name in REQUESTS}
    # what passes these borders is a body larger than any that is read, or takes long: test_requests.py has them
    del requests["Score"]["texts"]["maxItems"]
    for inputs in (requests["Predict"]["inputs"], requests["Explain"]["inputs"]):
        text, _, _, symbols, _, pictures = inputs["items"]["anyOf"]
        for far in (inputs, symbols, pictures, pictures["items"]):
            del far["maxItems"]
        if not names:
            inputs["items"] = text
    # a body that is as wrong as it is large is refused for its size
    checks: dict[str, Any] = {"negative_data_rejection": {"expected-statuses": [400, 404, 405, 413, 422]}}
    for properties in requests.values():
        if names:
            properties["model"] = {"type": "string", "enum": list(names)}
        else:  # most are unknown: what else is in the request matters only where they are there
            for optional in properties.keys() - {"model", "inputs", "texts"}:
                del properties[optional]
    if names:
        # which settings go with which model is no business of a schema: there a 400 is right too
        checks["positive_data_acceptance"] = {"expected-statuses": ["2xx", 400, 404]}
    generation = {"max-examples": 2, "deterministic": True}
    settings = {"generation": generation, "checks": checks, "base-url": address}
    config = SchemathesisConfig.from_dict(settings | {"request-timeout": 90})  # for a busy machine
    found, cases = [], 0
    for event in from_schema(schemathesis.openapi.from_dict(told, config=config)).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(repr(event))
        for case, made in getattr(event, "recorder", None).checks.items() if hasattr(event, "recorder") else ():
            cases += 1
            asked = event.recorder.cases[case].value
            found += [f"{asked.method} {asked.path}: {one.failure_info.failure}" for one in made if one.failure_info]
    assert not found, "\n".join(found)
    assert cases >= (200 if names else 80), cases
