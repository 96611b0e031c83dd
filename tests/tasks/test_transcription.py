"""Transcription by CTC: the loss is the sum over alignments, errors are counted as by hand, a small one is learned and
asked through files and through MLflow."""

from __future__ import annotations

import base64
import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Silent

from components.bundle import Bundle, load_bundle, save_bundle
from components.datasets.batches.examples import ExampleBatch
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.encodings.pair import Pair
from components.encodings.vocabulary import PAD
from components.errors import UserError
from components.recipe import Recipe
from components.render.audio import wav_bytes
from components.tasks.base import Matrix, Table
from components.tasks.transcription import Transcription, errors, needed
from components.training.session import Session
from components.use.files import reader_for
from components.use.lines import with_language_model
from components.use.table import predict_file

TONES_HZ = {"a": 400, "b": 900, "c": 2000}
RATE = 8000


def beeps(text: str, rng: np.random.Generator) -> np.ndarray:
    """A tone for each letter, silence between them: float32 [N]."""
    pieces = []
    for letter in text:
        seconds, gap = rng.uniform(0.06, 0.12), rng.uniform(0.04, 0.07)
        times = np.arange(int(seconds * RATE)) / RATE
        pieces += [0.3 * np.sin(2 * np.pi * TONES_HZ[letter] * times), np.zeros(int(gap * RATE))]
    sound = np.concatenate(pieces)
    return (sound + rng.normal(0, 1e-3, len(sound))).astype(np.float32)


TEXTS = ["".join(letters) for n in (1, 2, 3) for letters in itertools.product("abc", repeat=n)]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("beeps")
    rng = np.random.default_rng(0)
    for number, text in enumerate(TEXTS * 2):
        (folder / f"{text}_{number}.wav").write_bytes(wav_bytes(beeps(text, rng)[None], RATE))
    return folder


def recipe_for(folder: Path, **sections: dict) -> Recipe:
    mel = {"kind": "mel", "rate_hz": RATE, "bands": 12, "stack": 2}
    values = {
        "seed": 3,
        "data": {"path": str(folder), "reader": "wav", "file_name": "{text}_{number}", "split": [0.7, 0.15, 0.15]},
        "encoding": {"kind": "pair", "input": mel, "target": {"kind": "characters"}},
        "task": {"kind": "transcription", "beam_size": 8},
        "model": {"kind": "gru", "hidden_size": 24, "bidirectional": True},
        "training": {"steps": 100, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 5},
        "evaluation": {"every": 50},
    }
    return Recipe.from_dict("beeps", {**values, **sections})


def ingested(recipe: Recipe, cache: Path) -> Store:
    return Store.open(ingest(recipe.data, recipe.encoding, root=cache, cache_dir=cache / "cache", seed=0).path)


@pytest.fixture(scope="module")
def trained(recordings, tmp_path_factory) -> tuple[Session, Bundle]:
    folder = tmp_path_factory.mktemp("trained")
    recipe = recipe_for(recordings)
    session = Session(recipe, ingested(recipe, folder), "cpu", 1)
    session.train(folder / "run", Silent())
    facts = {"framing": "sequences"}
    save_bundle(folder / "bundle", "beeps", session.model, session.encoding, recipe.as_dict(), facts)
    return session, load_bundle(folder / "bundle")


@pytest.mark.slow
def test_beeps_are_learned_and_read_on_recordings_never_heard(trained) -> None:
    session, _ = trained
    figures = session.final_metrics("test")
    assert set(figures) == {"cer", "wer", "wrong", "nats_per_token", "beam_cer", "beam_wer", "beam_wrong"}
    assert figures["cer"] < 0.1
    assert figures["beam_cer"] < 0.1
    store = session.store
    baseline = session.task.baselines(store.split("train"), store.split("test"))
    assert min(baseline.values()) > 0.5


@pytest.mark.slow
def test_a_recording_alone_is_read_as_in_a_batch(trained) -> None:
    session, bundle = trained
    rng = np.random.default_rng(5)
    reader = reader_for(Path(bundle.recipe["data"]["path"]), bundle.recipe["data"])
    sounds = [row.input for row in itertools.islice(reader.inputs(), 12)]
    together = bundle.predict(sounds)
    assert together == [bundle.predict([sound])[0] for sound in sounds]
    split = session.store.split("test")
    batch = session.task.batches(split, batch_size=100, window=0, seed=0, training=False).at(0, 0)
    session.model.eval()
    whole, _ = session.task.measure(session.model, batch, None)
    rows = rng.permutation(len(batch.rows))
    parts = [
        session.task.measure(
            session.model,
            ExampleBatch(
                *(
                    getattr(batch, name)[row : row + 1]
                    for name in ("inputs", "lengths_B", "targets", "target_lengths_B", "rows")
                )
            ),
            None,
        )[0]
        for row in rows
    ]
    for name, tally in whole.items():
        total = sum(float(part[name].total) for part in parts)
        assert total == pytest.approx(float(tally.total), rel=1e-4), name
        assert sum(part[name].count for part in parts) == tally.count


def task_for(target: dict | None = None, **options) -> Transcription:
    pair = Pair(input={"kind": "frames"}, target=target or {"kind": "characters"})
    pair.target.fit(["abc"] if target is None else [["abc"]])
    return Transcription(pair, "sequences", **options)


def test_the_loss_is_the_sum_over_all_alignments() -> None:
    task = task_for()
    a, b = task.encoding.target.encode("ab")
    V, lengths, texts = 7, [4, 3], [[a, a], [a, b]]
    outputs = torch.randn(2, 4, V, generator=torch.Generator().manual_seed(1)).double()
    log_probs = outputs.log_softmax(2).numpy()
    wanted = 0.0
    for row, length, text in zip(log_probs, lengths, texts, strict=True):
        total = 0.0
        for path in itertools.product(range(V), repeat=length):
            if [token for token, _ in itertools.groupby(path) if token != PAD] == text:
                total += math.exp(sum(row[t, token] for t, token in enumerate(path)))
        wanted -= math.log(total)
    tally = task.tally(outputs, torch.tensor(texts), torch.tensor(lengths))
    assert float(tally.total) == pytest.approx(wanted, rel=1e-5)
    assert tally.count == 4


def test_errors_are_counted_as_by_hand_and_add_up_over_ragged_batches() -> None:
    wanted, said = ["seven", "one two", "nine"], ["sevn", "one to tree", ""]
    found = errors(wanted, said)
    # sevn: 1 deleted; "one to tree": w deleted, " tree" inserted; "": 4 deleted
    assert (found["cer"].total, found["cer"].count) == (1 + 6 + 4, 5 + 7 + 4)
    assert (found["wer"].total, found["wer"].count) == (1 + 2 + 1, 1 + 2 + 1)
    assert found["wrong"].value == 1.0
    parts = [errors(wanted[:1], said[:1]), errors(wanted[1:], said[1:])]
    for name, tally in found.items():
        added = parts[0][name] + parts[1][name]
        assert (added.total, added.count) == (tally.total, tally.count)
    assert errors(["a b"], ["a b"])["wer"].value == errors(["a"], ["a"])["wrong"].value == 0.0


@pytest.mark.parametrize(("text", "frames"), [([4], 1), ([4, 5], 2), ([4, 4], 3), ([4, 4, 4, 5, 5], 8)])
def test_two_alike_need_a_blank_between_them(text, frames) -> None:
    text = np.array(text)
    assert needed(text) == frames
    task = task_for()
    targets = torch.from_numpy(text)[None]
    for T, possible in ((frames, True), (frames - 1, False)):
        if T:
            outputs = torch.zeros(1, T, 7, requires_grad=True)
            tally = task.tally(outputs, targets, torch.tensor([T]))
            assert tally.count == (len(text) if possible else 0)
            tally.total.backward()
            assert torch.isfinite(outputs.grad).all()
            assert (outputs.grad.abs().sum() > 0) == possible


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "layer_norm": True}], ids=str)
def test_every_parameter_gets_a_gradient(recordings, tmp_path, options) -> None:
    recipe = recipe_for(recordings, model={"kind": "lstm", "hidden_size": 8, **options})
    session = Session(recipe, ingested(recipe, tmp_path), "cpu", 1)
    batches = session.task.batches(session.store.split("train"), batch_size=8, window=0, seed=0, training=True)
    tally, _ = session.task.loss(session.model, batches.at(0, 0), None)
    (tally.total / tally.count).backward()
    for name, parameter in session.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.slow
def test_pictures_and_predictions_show_the_hardest_first(trained) -> None:
    session, _ = trained
    split = session.store.split("test")
    table, *pictures = session.task.findings(session.model, split)
    assert isinstance(table, Table)
    assert len(table.columns["text"]) == len(split)
    wrong = table.columns["character_errors"]
    assert wrong == sorted(wrong, reverse=True)
    rows = zip(table.columns["text"], table.columns["predicted"], wrong, strict=True)
    assert all((a == b) == (count == 0) for a, b, count in rows)
    assert 1 <= len(pictures) <= 4
    for picture in pictures:
        assert isinstance(picture, Matrix)
        assert picture.values.shape == (len(picture.rows), len(picture.columns))
        assert picture.rows[-1] == "blank"
        assert (picture.values >= 0).all()
        assert (picture.values.sum(axis=0) <= 1 + 1e-5).all()
    assert len({picture.name for picture in pictures}) == len(pictures)


def test_a_wav_or_a_folder_of_them_is_read_through_files(trained, recordings, tmp_path) -> None:
    _, bundle = trained
    one = sorted(recordings.glob("abc_*.wav"))[0]
    (tmp_path / "wavs").mkdir()
    (tmp_path / "wavs" / "said.wav").write_bytes(one.read_bytes())
    (tmp_path / "wavs" / "torn.wav").write_bytes(one.read_bytes()[:-10])
    for path, count in ((one, 1), (tmp_path / "wavs", 2)):
        out = tmp_path / "out.csv"
        counts = predict_file(bundle, reader_for(path, bundle.recipe["data"]), out)
        assert sum(counts.values()) == count
        with out.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == count
        assert rows[0]["predicted"] == bundle.predict([next(reader_for(one, bundle.recipe["data"]).inputs()).input])[0]
        assert rows[0]["problem"] == ""
    assert rows[1] == {
        "file": "torn.wav",
        "predicted": "",
        "problem": "cut off: it has less sound than its header says",
    }


@pytest.mark.slow
def test_mlflow_serves_it_recordings_come_in_base64(trained, recordings, tmp_path) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model
    from mlflow.pyfunc import load_model

    from components.tracking.pyfunc import save_served_model

    _, bundle = trained
    folder = tmp_path / "bundle"
    save_bundle(folder, "beeps", bundle.model, bundle.encoding, bundle.recipe, {"framing": "sequences"})
    save_served_model(folder, tmp_path / "model", Model())
    model = load_model(str(tmp_path / "model"))
    files = sorted(recordings.glob("*.wav"))[:3]
    inputs = [base64.b64encode(file.read_bytes()).decode("ascii") for file in files]
    said = model.predict(pd.DataFrame({"input": inputs}))
    assert list(said.columns) == ["text"]
    sounds = [next(reader_for(file, bundle.recipe["data"]).inputs()).input for file in files]
    assert said["text"].tolist() == bundle.predict(sounds)
    example = model.input_example
    assert len(model.predict(pd.DataFrame(example))) == 1
    for wrong, what in ((["*"], "not base64"), ([base64.b64encode(b"no").decode()], "not a WAV file")):
        with pytest.raises(MlflowException, match=what):
            model.predict(pd.DataFrame({"input": wrong}))


@pytest.mark.slow
def test_a_registered_language_model_is_only_put_into_a_model_of_speech(
    trained, small_recipe, small_store, tmp_path, silent
) -> None:
    recipe = small_recipe(training={"steps": 2}, evaluation={"every": 2})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    save_bundle(tmp_path / "b", "names", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"})
    names, speech = load_bundle(tmp_path / "b"), trained[1]
    with_language_model(speech, names)
    try:
        assert speech.task.scorer is not None
        row = next(reader_for(Path(speech.recipe["data"]["path"]), speech.recipe["data"]).inputs())
        assert isinstance(speech.predict([row.input])[0], str)
    finally:
        speech.task.scorer = None
    with pytest.raises(UserError, match="names isn't a speech model"):
        with_language_model(names, names)
    with pytest.raises(UserError, match="beeps isn't a language model"):
        with_language_model(speech, speech)
