"""The API: what it answers is what the models answer, however many ask; what it can't do it says, and goes on."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_models import SOLD, save, serving

from components.bundle import Bundle, load_bundle
from components.errors import UserError
from components.render.score import write_midi
from components.score import Note, Part, Score
from components.serving import batching
from components.serving.app import build, serve
from components.serving.batching import Drawer, Errand
from components.serving.models import Models, Served
from components.serving.problems import Busy, Late, Limits, NotFound
from components.tracking.base import ModelRef
from components.tracking.mlflow_store import MlflowStore

pytest_plugins = ["serving_fixtures", "tracking_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning")

ROOT = Path(__file__).parents[1]
MODELS = ("tales", "names", "minimal", "four-voices", "blues", "rolls")
TUNE = Score((Part("tune", tuple(Note(4 * n, 4, 65 + n % 5) for n in range(8))),), length_steps=32)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root, found = tmp_path_factory.mktemp("bundles"), {}
    for name in MODELS:
        save(root / name, name)
        found[name] = load_bundle(root / name)
    return found


@pytest.fixture(scope="module")
def served(bundles: dict[str, Bundle]) -> dict[str, Served]:
    return {n: Served(b, ModelRef(n, "1", ""), Drawer(b.model, Limits())) for n, b in bundles.items()}


@pytest.fixture(scope="module")
def address(store: MlflowStore) -> Iterator[str]:
    with serving(build(store, hosts=["127.0.0.1"])) as found:
        yield found


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One token a call, so that drawing takes a while, and frequent looks at it."""
    monkeypatch.setattr(batching, "STEPS", 1)
    monkeypatch.setattr(batching, "SHOW_SECONDS", 0.02)
    monkeypatch.setattr(batching, "CHECK_SECONDS", 0.02)


def ids(made: Any) -> list[Any]:
    return [(one.ids.tolist(), one.nats_per_token, one.ended) for one in made.sampled]


# --- drawn together ---

asked = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["tales", "tales", "names", "four-voices"]),
        "seed": st.integers(0, 2**40),
        "settings": st.fixed_dictionaries(
            {
                "count": st.integers(1, 4),
                "max_length": st.integers(1, 50),
                "temperature": st.sampled_from([0.0, 0.7, 1.0]),
                "top_p": st.sampled_from([0.8, 1.0]),
                "precision": st.sampled_from(["float32", "float32", "int8"]),
            }
        ),
        "prompt": st.text("the casondg;. ", min_size=1, max_size=9) | st.sampled_from(["the ", "the cat sat " * 8]),
    }
)


@settings(max_examples=12)
@given(requests=st.lists(asked, min_size=2, max_size=12))
def test_each_request_gets_exactly_what_it_would_get_alone(served, bundles, requests) -> None:
    for request in requests:
        if request["model"] != "four-voices":
            request["settings"]["prompt"] = request["prompt"]
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(lambda r: served[r["model"]].generate(r["settings"], r["seed"], Errand(60)), requests))
    for request, made in zip(requests, together, strict=True):
        alone = bundles[request["model"]].generate(request["settings"], seed=request["seed"])
        assert ids(made) == ids(alone)
        assert made.items == alone.items


def test_requests_that_come_together_are_drawn_in_the_same_calls(bundles) -> None:
    drawer = Drawer(bundles["tales"].model, Limits())
    shared = Served(bundles["tales"], ModelRef("tales", "1", ""), drawer)
    long = {"count": 1, "max_length": 2000}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: shared.generate(long, seed, Errand(60)), range(8)))
    assert max(drawer.calls) >= 4
    drawer.calls.clear()
    shared.generate(long, 0, Errand(60))
    assert set(drawer.calls) == {1}, "alone it is alone"


@pytest.mark.parametrize("name", ["minimal", "rolls"])
def test_what_the_engine_does_not_know_is_drawn_one_after_the_other(served, bundles, name) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda seed: served[name].generate({}, seed, Errand(60)), range(4)))
    for seed, one in enumerate(made):
        assert one.items == bundles[name].generate(seed=seed).items


def test_one_that_cannot_be_begun_fails_alone(served) -> None:
    def ask(prompt: str) -> Any:
        return served["tales"].generate({"prompt": prompt, "max_length": 300}, 1, Errand(60))

    with ThreadPoolExecutor(3) as pool:
        good, bad, other = (pool.submit(ask, prompt) for prompt in ("the ", "", "a "))
    assert good.result().items
    assert other.result().items
    with pytest.raises(UserError, match="starts from a prompt"):
        bad.result()


def test_what_takes_too_long_or_is_given_up_stops(served, slowly: None) -> None:
    slow = {"count": 8, "max_length": 8000}
    for name in ("tales", "minimal"):
        with pytest.raises(Late, match=r"longer than 0\.02 s"):
            served[name].generate(slow, 0, Errand(0.02))
    errand = Errand(60)
    threading.Timer(0.05, lambda: setattr(errand, "cancelled", True)).start()
    with pytest.raises(batching.Cancelled):
        served["tales"].generate(slow, 0, errand)
    deadline = time.monotonic() + 20
    while served["tales"].drawer._sequences:
        assert time.monotonic() < deadline, "nobody waits for it, and still it is drawn"
        time.sleep(0.02)


def test_too_many_sequences_at_once_are_refused_and_the_next_are_not(bundles, slowly: None) -> None:
    drawer = Drawer(bundles["tales"].model, Limits(sequences=4))
    busy = Served(bundles["tales"], ModelRef("tales", "1", ""), drawer)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(busy.generate, {"count": 4, "max_length": 8000}, 0, Errand(60))
        while not drawer.calls:
            time.sleep(0.005)
        with pytest.raises(Busy, match="are waiting"):
            busy.generate({"count": 1}, 0, Errand(60))
        first.result()
    assert busy.generate({"count": 4, "max_length": 5}, 0, Errand(60)).items


def test_what_would_cost_too_much_is_refused_before_it_begins(served) -> None:
    for name in ("tales", "minimal", "rolls"):
        with pytest.raises(UserError, match="are drawn for one request"):
            served[name].generate({"count": 64, "max_length": 20_000}, 0, Errand(60))


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


@pytest.mark.parametrize("name", ["../tales", "tales/1", "tales@../1", "", "@", "a'b", "x" * 300, "tales@9", "talles"])
def test_a_name_that_is_none_opens_nothing(store: MlflowStore, name: str) -> None:
    with pytest.raises(NotFound):
        Models(store, Limits()).open(name)


def test_a_tampered_model_is_refused_and_no_path_is_told(store: MlflowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.fetch(store.find("moods", "1"))
    kept = (folder / "recipe.json").read_bytes()
    (folder / "recipe.json").write_bytes(kept + b" ")
    try:
        with pytest.raises(Busy, match="aren't the registered ones") as caught:
            Models(store, Limits()).open("moods")
        assert str(folder.parent) not in str(caught.value)
    finally:
        (folder / "recipe.json").write_bytes(kept)


def test_every_model_says_what_it_does(client: httpx.Client) -> None:
    listed = client.get("/models").json()["models"]
    assert [one["name"] for one in listed] == sorted(SOLD)
    tales = next(one for one in listed if one["name"] == "tales")
    assert tales["default"] == "1"
    assert [(one["version"], one["aliases"]) for one in tales["versions"]] == [("2", []), ("1", ["champion"])]
    told = {name: client.get(f"/models/{name}").json() for name in SOLD}
    assert {name: (one["writes"], one["reads"]) for name, one in told.items()} == {
        "tales": ("text", None), "four-voices": ("notes", None), "blues": ("notes", None),
        "moods": (None, "text"), "sums": (None, "frames"),
    }  # fmt: skip
    assert told["four-voices"]["accepts"] == ["prompt", "melody", "start"]
    assert told["blues"]["accepts"] == ["prompt", "chords", "start"]
    temperature = {"type": "number", "minimum": 0, "maximum": 10, "default": 1.0}
    assert told["tales"]["settings"]["temperature"] == temperature
    assert told["tales"]["settings"]["prompt"]["default"] == "the "
    assert client.get("/models/tales@2").json()["settings"]["prompt"]["default"] == "a "
    assert told["tales"]["metrics"] == {"test/nats_per_char": 2.5}


# --- asked over HTTP ---


def test_health_says_what_is_at_hand(client: httpx.Client) -> None:
    assert client.get("/health").json()["status"] == "ok"


def test_a_request_is_answered_with_what_makes_it_again(client: httpx.Client, bundles) -> None:
    request = {"model": "tales", "settings": {"temperature": 0.8, "max_length": 30, "count": 3}}
    made = client.post("/generate", json=request).json()
    alone = bundles["tales"].generate(request["settings"], seed=made["seed"])
    assert [item["text"] for item in made["items"]] == alone.items
    assert made["settings"]["prompt"] == "the "
    again = {key: made[key] for key in ("settings", "seed")} | {"model": f"{made['model']}@{made['version']}"}
    assert client.post("/generate", json=again).json() == made
    assert client.post("/generate", json=request).json()["seed"] != made["seed"], "a fresh one"


def events(client: httpx.Client, request: dict[str, Any]) -> list[tuple[str, Any]]:
    with client.stream("POST", "/generate/stream", json=request) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    kinds = [line.removeprefix("event: ") for line in lines[::2]]
    return list(zip(kinds, [json.loads(line.removeprefix("data: ")) for line in lines[1::2]], strict=True))


def test_a_stream_tells_the_text_that_it_ends_with(client: httpx.Client, slowly: None) -> None:
    request = {"model": "tales", "seed": 5, "settings": {"count": 2, "max_length": 4000}}
    told = events(client, request)
    assert told[0] == ("started", {"model": "tales", "version": "1", "seed": 5})
    pieces = [data for kind, data in told if kind == "piece"]
    assert len(pieces) >= 4
    kind, made = told[-1]
    assert kind == "done"
    for item in made["items"]:
        text = "".join(piece["text"] for piece in pieces if piece["number"] == item["number"])
        assert text
        assert item["text"].startswith(text)
    assert client.post("/generate", json=request).json() == made


def test_a_stream_tells_the_notes_that_it_ends_with(client: httpx.Client, slowly: None) -> None:
    told = events(client, {"model": "four-voices", "seed": 2, "settings": {"count": 1, "max_length": 1500}})
    pieces = [data for kind, data in told if kind == "piece"]
    assert len(pieces) >= 2
    seen = {(part, start, pitch): duration for p in pieces for part, start, duration, pitch in p["notes"]}
    parts = told[-1][1]["items"][0]["score"]["parts"]
    final = {(n, s, p): d for n, part in enumerate(parts) for s, d, p in part["notes"]}
    assert len(seen) > 10
    assert sum(final.get(place) == duration for place, duration in seen.items()) >= len(seen) - 4, "but the last chord"


def test_a_stream_that_cannot_begin_has_a_status(client: httpx.Client) -> None:
    for request, status in [
        ({"model": "nobody"}, 404),
        ({"model": "tales", "settings": {"prompt": ""}}, 400),
        ({"model": "moods"}, 400),
    ]:
        answer = client.post("/generate/stream", json=request)
        assert (answer.status_code, set(answer.json())) == (status, {"error", "where", "hint"})


def test_who_leaves_a_stream_is_drawn_for_no_longer(client: httpx.Client, slowly: None) -> None:
    request = {"model": "tales", "settings": {"count": 2, "max_length": 30_000}}
    with client.stream("POST", "/generate/stream", json=request) as answer:
        next(answer.iter_lines())
    deadline = time.monotonic() + 20
    while client.get("/health").json()["requests"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_piece_comes_as_files_that_say_how_they_were_made(client: httpx.Client, tmp_path: Path) -> None:
    from components.render.record import read_record

    made = client.post(
        "/generate", json={"model": "blues", "seed": 1, "settings": {"band": "swing", "chords": "F7 | Bb7"}}
    )
    (item,) = made.json()["items"]
    assert [chord[2] for chord in item["score"]["chords"]] == ["F7", "B♭7"] or len(item["score"]["chords"]) == 2
    for kind, start in (("mid", b"MThd"), ("wav", b"RIFF"), ("html", b"<!DOCTYPE html>")):
        file = client.get(item["files"][kind])
        assert file.content.startswith(start)
        (tmp_path / f"piece.{kind}").write_bytes(file.content)
        record = read_record(tmp_path / f"piece.{kind}")
        assert (record["model"], record["version"], record["seed"], record["number"]) == ("blues", "1", 1, 1)
    assert base64.b64decode(item["midi_base64"]) == client.get(item["files"]["mid"]).content
    assert "sandbox" in file.headers["content-security-policy"]
    for path in ("/generated/" + "0" * 24 + "/1.mid", item["files"]["mid"].replace("/1.mid", "/2.mid")):
        assert client.get(path).status_code == 404
    for path in ("/generated/../1.mid", "/generated/" + "0" * 24 + "/1.py", "/generated/x/1.mid"):
        assert client.get(path).status_code in (404, 422)


def test_a_melody_that_is_sent_stays_and_is_in_the_answer_to_make_it_again(
    client: httpx.Client, tmp_path: Path
) -> None:
    write_midi(TUNE, tmp_path / "tune.mid")
    file = {"name": "../../tune.mid", "base64": base64.b64encode((tmp_path / "tune.mid").read_bytes()).decode()}
    made = client.post("/generate", json={"model": "four-voices", "melody": file, "seed": 3}).json()
    soprano = made["items"][0]["score"]["parts"][0]["notes"]
    assert soprano == [[note.start, note.duration, note.pitch] for note in TUNE.parts[0].notes]
    again = client.post("/generate", json={"model": "four-voices@1", "settings": made["settings"], "seed": 3}).json()
    assert again["items"] == made["items"]
    start = client.post(
        "/generate", json={"model": "blues", "start": file, "settings": {"max_length": 10, "chords": ""}}
    )
    assert start.status_code == 200, start.text


@pytest.mark.parametrize(
    ("model", "upload", "said"),
    [
        ("four-voices", {"name": "tune.mid", "base64": "AAAA"}, "gives no piece"),
        ("four-voices", {"name": "tune.exe", "base64": "AAAA"}, "isn't music that is read"),
        ("four-voices", {"name": "tune.mid", "base64": "AAA"}, "isn't base64"),
        ("tales", {"name": "tune.mid", "base64": "AAAA"}, "can't take music"),
    ],
)
def test_a_file_that_is_no_music_is_refused(client: httpx.Client, model: str, upload: Any, said: str) -> None:
    answer = client.post("/generate", json={"model": model, "melody": upload})
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert "/tmp" not in answer.text


def test_answers_are_those_of_the_model(client: httpx.Client, store: MlflowStore) -> None:
    moods = load_bundle(store.fetch(store.find("moods", "1")))
    texts = ["a good day", "bad", "a one"] * 50
    made = client.post("/predict", json={"model": "moods", "inputs": texts}).json()
    for said, wanted in zip(made["answers"], moods.predict(texts), strict=True):
        assert said["label"] == wanted["label"]
        assert said["probability"] == pytest.approx(wanted["probability"], abs=1e-5)
    frames = [[[0.0, 1.0], [1.0, 0.5]], [[0.25, 0.25]]]
    made = client.post("/predict", json={"model": "sums", "inputs": frames}).json()
    assert [len(one["values"]) for one in made["answers"]] == [1, 1]


@pytest.mark.parametrize(
    ("model", "inputs", "where"),
    [
        ("moods", ["good"] * 70 + [["good"]], "inputs[70]"),
        ("sums", ["a text"], "inputs[0]"),
        ("sums", [[[1.0, 2.0], [1.0]]], "inputs[0]"),
        ("sums", [[[1.0, 2.0]], [[1.0]]], "inputs[1]"),
        ("moods", [{"wav_base64": "UklGRg=="}], "inputs[0]"),
        ("tales", ["good"], "predict"),
    ],
)
def test_an_input_that_cannot_be_read_is_named(client: httpx.Client, model: str, inputs: Any, where: str) -> None:
    answer = client.post("/predict", json={"model": model, "inputs": inputs})
    assert (answer.status_code, answer.json()["where"]) == (400, where)


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"model": "tales", "settings": {"temprature": 1}}, 422, "body.settings.temprature"),
        ({"model": "tales", "settings": {"temperature": 11}}, 422, "body.settings.temperature"),
        ({"model": "tales", "settings": {"count": "2"}}, 422, "body.settings.count"),
        ({"model": "tales", "settings": {"count": True}}, 422, "body.settings.count"),
        ({"model": "tales", "seed": -1}, 422, "body.seed"),
        ({"model": "tales", "sed": 1}, 422, "body.sed"),
        ({"model": "../tales"}, 422, "body.model"),
        ({"model": "tales\n"}, 422, "body.model"),
        ({"model": "tales", "settings": {"chords": "F7"}}, 400, "generation"),
        ({"model": "blues", "settings": {"chords": "H7"}}, 400, None),
        ({"model": "nobody"}, 404, "model"),
        ({"model": "tales", "settings": {"prompt": "\ud800"}}, 422, "request"),
        ({"\udfff": 1}, 422, "request"),
        (["tales"], 422, "body"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(client: httpx.Client, body: Any, status: int, where: Any) -> None:
    content = json.dumps(body).encode()
    answer = client.post("/generate", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, set(answer.json())) == (status, {"error", "where", "hint"})
    assert where is None or answer.json()["where"] == where


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
@given(body=hostile, path=st.sampled_from(["/generate", "/generate/stream", "/predict"]))
@example(body={"model": "tales", "settings": {"given": [0, 1, 2, 3], "prompt": ""}}, path="/generate")
@example(body={"model": "four-voices", "settings": {"given": [2, 2, 1, 3], "max_length": 20}}, path="/generate/stream")
@example(body={"model": "blues", "settings": {"given": [5, 5, 5], "given_ends": True, "chords": ""}}, path="/generate")
@example(body={"model": "tales", "settings": {"temperature": 1e-300, "max_length": 3}}, path="/generate")
@example(body={"model": "tales", "settings": {"top_p": 5e-324, "max_length": 3}}, path="/generate")
@example(body={"model": "sums", "inputs": [[[1e30, -1e30]]]}, path="/predict")
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
        assert process.stderr.read() == ""
    finally:
        process.kill()


def test_a_port_that_is_taken_is_said(address: str, store: MlflowStore) -> None:
    with pytest.raises(UserError, match="is the port taken"):
        serve(store.settings, "127.0.0.1", int(address.rpartition(":")[2]))
    with pytest.raises(UserError, match="can't listen there"):
        serve(store.settings, "no such host", 0)


# --- its own description ---


@pytest.mark.parametrize("names", [(), SOLD], ids=["any name", "names that are there"])
def test_the_api_does_what_its_description_says(address: str, names: tuple[str, ...]) -> None:
    """Schemathesis, all its checks: examples, the borders of every constraint, and requests at random."""
    import schemathesis
    from schemathesis.config import SchemathesisConfig
    from schemathesis.engine import events, from_schema

    told = httpx.get(f"{address}/openapi.json", trust_env=False).json()
    # a body that is as wrong as it is large is refused for its size
    checks: dict[str, Any] = {"negative_data_rejection": {"expected-statuses": [400, 404, 405, 413, 422]}}
    if names:
        for request in ("GenerateRequest", "PredictRequest"):
            told["components"]["schemas"][request]["properties"]["model"] = {"type": "string", "enum": list(names)}
        # which settings go with which model is no business of a schema: there a 400 is right too
        checks["positive_data_acceptance"] = {"expected-statuses": ["2xx", 400, 404]}
    generation = {"max-examples": 5, "deterministic": True}
    config = SchemathesisConfig.from_dict({"generation": generation, "checks": checks, "base-url": address})
    found, cases = [], 0
    for event in from_schema(schemathesis.openapi.from_dict(told, config=config)).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(repr(event))
        for case, made in getattr(event, "recorder", None).checks.items() if hasattr(event, "recorder") else ():
            cases += 1
            asked = event.recorder.cases[case].value
            found += [f"{asked.method} {asked.path}: {one.failure_info.failure}" for one in made if one.failure_info]
    assert not found, "\n".join(found)
    assert cases >= 300
