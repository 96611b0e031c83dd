"""What the API answers: what the models answer, streamed or whole, and a request's mistakes told by their place."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_models import SOLD

from components.answers import read
from components.bundle import load_bundle
from components.encodings.doubts import Doubts
from components.render.midi import write_midi
from components.score import Note, Part, Score
from components.tracking.mlflow_store import MlflowStore

pytest_plugins = ["serving_fixtures", "tracking_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning")

TUNE = Score((Part("tune", tuple(Note(4 * n, 4, 65 + n % 5) for n in range(8))),), length_steps=32)


def test_health_says_what_is_at_hand(client: httpx.Client) -> None:
    assert client.get("/health").json()["status"] == "ok"


def test_every_model_says_what_it_does(client: httpx.Client) -> None:
    listed = client.get("/models").json()["models"]
    assert [one["name"] for one in listed] == sorted(SOLD)
    tales = next(one for one in listed if one["name"] == "tales")
    assert tales["default"] == "1"
    assert [(one["version"], one["aliases"]) for one in tales["versions"]] == [("2", []), ("1", ["champion"])]
    told = {name: client.get(f"/models/{name}").json() for name in SOLD}
    assert {name: (one["writes"], one["reads"]) for name, one in told.items()} == {
        "tales": ("text", None), "four-voices": ("notes", None), "blues": ("notes", None),
        "pens": ("strokes", None),
        "moods": (None, "text"), "sums": (None, "frames"), "marks": (None, "symbols"), "ears": (None, "audio"),
        "people": (None, "text"), "shapes": (None, "frames"), "loads": (None, "series"),
    }  # fmt: skip
    assert told["four-voices"]["accepts"] == ["prompt", "melody", "start", "keep"]
    assert told["blues"]["accepts"] == ["prompt", "chords", "start", "keep"]
    temperature = {"type": "number", "minimum": 0, "maximum": 10, "default": 1.0}
    assert told["tales"]["settings"]["temperature"] == temperature
    assert told["tales"]["settings"]["prompt"]["default"] == "the "
    assert client.get("/models/tales@2").json()["settings"]["prompt"]["default"] == "a "
    assert told["tales"]["metrics"] == {"test/nats_per_char": 2.5}


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
        ("four-voices", {"name": "tune.mid", "base64": "AAAA"}, "no piece could be read"),
        ("four-voices", {"name": "tune.exe", "base64": "AAAA"}, "isn't a supported music format"),
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
    items = [read(moods.encoding.input, text, "", Doubts()) for text in texts]  # "bad" as it is known, after a blank
    for said, wanted in zip(made["answers"], moods.predict(items), strict=True):
        assert said["label"] == wanted["label"]
        assert said["probability"] == pytest.approx(wanted["probability"], abs=1e-5)
    frames = [[[0.0, 1.0], [1.0, 0.5]], [[0.25, 0.25]]]
    made = client.post("/predict", json={"model": "sums", "inputs": frames}).json()
    assert [len(one["values"]) for one in made["answers"]] == [1, 1]
    assert made["warnings"] == []
    odd = client.post("/predict", json={"model": "moods", "inputs": ["a good day", "zz", "a go\0od"]}).json()
    assert odd["warnings"] == [
        "warning: the model knows no word of it, so its answer is meaningless: 1 input (inputs[1])",
        "NUL characters removed: 1 input (inputs[2])",
    ]
    assert client.post("/score", json={"model": "tales", "texts": ["on\0ce"]}).json()["warnings"] == [
        "NUL characters removed: 1 input (texts[0])"
    ]


def test_a_text_is_as_likely_as_the_model_says(client: httpx.Client, store: MlflowStore) -> None:
    from components.use.scoring import score

    texts = ["once upon a time", "nopu"]
    made = client.post("/score", json={"model": "tales", "texts": texts}).json()
    for said, wanted in zip(
        made["scores"], score(load_bundle(store.fetch(store.find("tales", "1"))), texts), strict=True
    ):
        assert said["tokens"] == wanted.tokens
        assert said["nats"] == pytest.approx(wanted.nats)
        assert said["perplexity"] == pytest.approx(wanted.perplexity)
        assert sum(said["nats"]) / len(said["nats"]) == pytest.approx(said["nats_per_token"])
    assert made["unit"] == "char"
    refused = client.post("/score", json={"model": "moods", "texts": ["good"]})
    assert (refused.status_code, refused.json()["error"][:19]) == (400, "moods can't score: ")
    short = client.post("/score", json={"model": "tales", "texts": ["long enough", "a"]})
    assert (short.status_code, short.json()["where"]) in ((400, "texts[1]"), (200, None))


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
