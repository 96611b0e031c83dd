"""One way to use a model: Python, the command line, HTTP and MLflow read the same input and give the same answer."""

from __future__ import annotations

import base64
import csv
import io
import re
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_models import clip, save
from test_house import ROOT

import reprise
from components.errors import UserError
from components.score import Score
from components.tracking.mlflow_store import MlflowStore
from components.use.table import cells

pytest_plugins = ["serving_fixtures", "tracking_fixtures"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning"),
]


def recording() -> bytes:
    """A second of a tone, as a WAV file."""
    samples = (np.sin(np.arange(8000) / 7) * 20_000).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(8000)
        written.writeframes(samples.tobytes())
    return file.getvalue()


# model → an input in Python, in JSON, in a file: its name and its content
CLIP, SERIES = clip(0.5), np.array([[0.0, 1.0], [1.0, 0.5], [0.25, 1e-7]])
QUESTIONS: dict[str, tuple[Any, Any, str, Any]] = {
    "moods": ("a good day", "a good day", "ask.txt", b"a good day\n"),
    "sums": (SERIES, SERIES.tolist(), "ask.npy", SERIES),
    "marks": (["Ann", "sang"], ["Ann", "sang"], "ask.conll", b"Ann\nsang\n"),
    "people": ("Lee sang.", "Lee sang.", "ask.txt", b"Lee sang.\n"),
    "ears": (recording(), {"wav_base64": base64.b64encode(recording()).decode()}, "ask.wav", recording()),
    "shapes": (CLIP, CLIP.astype(float).tolist(), "ask.npy", CLIP),
}


def served(store: MlflowStore, name: str) -> Any:
    """The model as MLflow loads it."""
    from mlflow.pyfunc import load_model

    return load_model(str(store.fetch(store.find(name, "champion")).parents[1]))


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, np.ndarray) else value for name, value in row.items()}


def close(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal, but for the last bits of a number: rows that are answered together are added up in another order."""
    return one.keys() == other.keys() and all(
        value == (pytest.approx(other[name], rel=1e-5) if isinstance(value, float) else other[name])
        for name, value in one.items()
    )


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_door_answers_alike(here, http, name, tmp_path) -> None:
    import pandas as pd

    from components.runs.predict import Request, predict

    given, json_input, file, content = QUESTIONS[name]
    model = reprise.load(name)
    (wanted,) = model.predict([given])
    assert set(wanted) == set(model.describe().columns) | ({"tokens"} if name == "people" else set())

    answer = http.post("/predict", json={"model": name, "inputs": [json_input]})
    assert answer.status_code == 200, answer.text
    assert close(answer.json()["answers"][0], wanted)

    cell = json_input["wav_base64"] if name == "ears" else json_input
    (row,) = served(here, name).predict(pd.DataFrame({"input": [cell]})).to_dict("records")
    assert close(plain(row), wanted)

    if isinstance(content, bytes):
        (tmp_path / file).write_bytes(content)
    else:
        np.save(tmp_path / file, content)
    (path,) = predict(Request(f"{name}@champion", file=str(tmp_path / file)), out=str(tmp_path / "out.csv"))
    with Path(path).open(encoding="utf-8", newline="") as table:
        (said,) = csv.DictReader(table)
    assert {column: said[column] for column in cells(wanted)} == cells(wanted)
    assert said["problem"] == ""

    if model.reads == "text":
        (line,) = predict(Request(name, [given]))
        assert given.split()[0] in line


def test_every_door_goes_on_with_a_series_alike(here, http, tmp_path) -> None:
    import pandas as pd

    from components.runs.predict import Request, predict

    values = [round(5 + 2 * np.sin(hour / 4), 3) for hour in range(60)]
    times = pd.date_range("2024-03-01", periods=60, freq="h")
    model = reprise.load("loads")
    assert model.reads == "series"
    (wanted,) = model.predict([pd.Series(values, index=times)])
    assert list(wanted) == list(model.describe().columns)
    assert wanted["time"] == [f"2024-03-03 {hour}:00:00" for hour in (12, 13, 14, 15)]

    given = {"start": "2024-03-01 00:00", "values": values}
    answer = http.post("/predict", json={"model": "loads", "inputs": [given]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["answers"] == [wanted]
    refused = http.post("/predict", json={"model": "loads", "inputs": [{"values": values}]})
    assert refused.status_code == 400
    assert refused.json()["where"] == "inputs[0]"

    (row,) = served(here, "loads").predict(pd.DataFrame({"input": [given]})).to_dict("records")
    assert plain(row) == wanted

    pd.DataFrame({"ds": times, "y": values}).to_csv(tmp_path / "ask.csv", index=False)
    (path,) = predict(Request("loads", file=str(tmp_path / "ask.csv")), out=str(tmp_path / "out.csv"))
    with Path(path).open(encoding="utf-8", newline="") as table:
        lines = list(csv.DictReader(table))
    assert [line["time"] for line in lines] == wanted["time"]
    assert [float(line["q0.9"]) for line in lines] == wanted["q0.9"]
    with pytest.raises(UserError, match="reads series, not text"):
        predict(Request("loads", ["1 2 3"]))


def test_every_door_writes_alike(here, http, tmp_path) -> None:
    import pandas as pd

    from components.render.record import read_record, without_record
    from components.runs.generate import generate_files

    settings = {"count": 2, "max_length": 30, "temperature": 0.8}
    model = reprise.load("tales@1")
    texts = model.generate(seed=7, **settings)
    assert len(texts) == 2
    assert texts == model.generate(seed=7, **settings) != model.generate(seed=8, **settings)

    made = http.post("/generate", json={"model": "tales", "seed": 7, "settings": settings}).json()
    assert [item["text"] for item in made["items"]] == texts

    rows = served(here, "tales").predict(pd.DataFrame({"prompt": ["the "]}), params={**settings, "seed": 7})
    assert list(rows["text"]) == texts

    (path,) = generate_files("tales@champion", settings, 7, str(tmp_path / "command"))
    (own,) = model.write(tmp_path / "python", seed=7, **settings)
    assert Path(path).read_bytes() == own.read_bytes()
    assert read_record(own)["seed"] == 7
    assert all(text in without_record(own.read_text(encoding="utf-8")) for text in texts)


def test_a_score_is_the_same_piece_and_the_same_files(here, http, tmp_path) -> None:
    model = reprise.load("four-voices")
    assert (model.writes, model.reads, model.name, model.version) == ("notes", None, "four-voices", "1")
    (score,) = model.generate(seed=3, count=1, max_length=60)
    assert isinstance(score, Score)
    files = {path.suffix: path for path in model.write(tmp_path, seed=3, count=1, max_length=60)}
    made = http.post("/generate", json={"model": "four-voices", "seed": 3, "settings": {"count": 1, "max_length": 60}})
    (item,) = made.json()["items"]
    assert base64.b64decode(item["midi_base64"]) == files[".mid"].read_bytes()
    assert http.get(item["files"]["html"]).content == files[".html"].read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*were cut off at")
def test_ink_is_the_same_drawing_through_every_door(here, http, tmp_path) -> None:
    import pandas as pd
    from mlflow.models import Model
    from mlflow.pyfunc import load_model

    from components.ink import Ink
    from components.tracking.pyfunc import save_served_model

    model = reprise.load("pens")
    assert (model.writes, model.describe().accepts) == ("strokes", ["prompt"])
    (ink,) = model.generate(seed=3, bias=1.0)
    assert isinstance(ink, Ink)
    drawing, picture = model.write(tmp_path, seed=3, bias=1.0)
    assert picture.read_bytes().startswith(b"\x89PNG")
    made = http.post("/generate", json={"model": "pens", "seed": 3, "settings": {"bias": 1.0}}).json()
    (item,) = made["items"]
    assert (item["text"], item["score"], list(item["files"])) == (str(ink), None, ["svg"])
    answer = http.get(item["files"]["svg"])
    assert answer.content == drawing.read_bytes()
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert http.get(item["files"]["svg"].replace(".svg", ".wav")).status_code == 404
    refused = http.post("/generate", json={"model": "pens", "settings": {"prompt": "Ä"}})
    assert (refused.status_code, refused.json()["where"]) == (400, "generation.prompt")
    save(tmp_path / "bundle", "pens")
    save_served_model(tmp_path / "bundle", tmp_path / "model", Model())
    rows = load_model(str(tmp_path / "model")).predict(pd.DataFrame({"prompt": ["a hat"]}), params={"seed": 3})
    assert rows["svg"][0].count("<path") == len(model.generate(seed=3)[0].strokes)


@pytest.mark.filterwarnings("ignore:.*couldn't be met")  # weights of chance break the rules of voices
def test_music_that_is_read_is_not_written_over(here, tmp_path) -> None:
    from components.runs.generate import generate_files

    piece = tmp_path / "four-voices-1.mid"
    with pytest.raises(UserError, match="might be overwritten"):
        generate_files("four-voices", out=str(tmp_path), keep=str(tmp_path / "x" / ".." / piece.name))


def test_voices_under_a_melody_are_the_same(here, http, tmp_path) -> None:
    from components.render.midi import write_midi
    from components.score import Note, Part, spoken

    tune = Score((Part("tune", tuple(Note(4 * n, 4, 65 + n % 5) for n in range(8))),), length_steps=32)
    write_midi(tune, tmp_path / "tune.mid")
    (written,) = reprise.load("four-voices").generate(seed=3, melody=tmp_path / "tune.mid")
    assert [note.pitch for note in written.parts[0].notes] == [note.pitch for note in tune.parts[0].notes]
    file = {"name": "tune.mid", "base64": base64.b64encode((tmp_path / "tune.mid").read_bytes()).decode()}
    made = http.post("/generate", json={"model": "four-voices", "melody": file, "seed": 3}).json()
    assert made["items"][0]["text"] == spoken(written)


@pytest.mark.slow
def test_a_model_without_a_prompt_writes_through_mlflow_too(bundles, tmp_path) -> None:
    import pandas as pd
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model
    from mlflow.pyfunc import load_model

    from components.score import spoken
    from components.tracking.pyfunc import save_served_model

    save(tmp_path / "bundle", "rolls")
    save_served_model(tmp_path / "bundle", tmp_path / "model", Model())
    model = load_model(str(tmp_path / "model"))
    rows = model.predict(pd.DataFrame({"prompt": [""]}), params={"count": 1, "seed": 5})
    assert list(rows["text"]) == [spoken(bundles["rolls"].generate({"count": 1}, seed=5).items[0])]
    with pytest.raises(MlflowException, match="prompt"):
        model.predict(pd.DataFrame({"prompt": ["C"]}))


def test_what_a_model_is_stands_beside_it(here) -> None:
    tales, shapes = reprise.load("tales@latest"), reprise.load("shapes")
    assert (tales.version, tales.settings["prompt"], tales.describe().accepts) == ("2", "a ", ["prompt"])
    assert tales.describe().metrics == {"test/nats_per_char": 2.5}
    assert (shapes.reads, shapes.describe().step_shape) == ("frames", (None, None))
    assert repr(shapes) == "<reprise.Model shapes@1: classification, reads frames>"


PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_what_the_documents_show_can_be_typed(here, document, monkeypatch, tmp_path, capsys) -> None:
    outcome = SimpleNamespace(metrics={"test/nats_per_char": 2.0}, selector="moods@1")
    monkeypatch.setattr(reprise, "run", lambda recipe, **settings: outcome)
    monkeypatch.chdir(tmp_path)
    blocks = PYTHON.findall((ROOT / document).read_text(encoding="utf-8"))
    code = "".join(blocks).replace("names@champion", "tales@champion").replace('"sentiment"', '"moods"')
    exec(compile(code, document, "exec"), {})
    assert "label" in capsys.readouterr().out
    assert document == "README.md" or (tmp_path / "out" / "tales.txt").is_file()
