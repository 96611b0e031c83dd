"""Transcription by CTC: the loss is the sum over alignments, errors are counted as by hand, a small one is learned and
asked through files and through MLflow."""

from __future__ import annotations

import base64
import csv
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Silent

from components.bundle import Bundle, load_bundle, save_bundle
from components.datasets.base import Reader
from components.datasets.examples import ExampleBatch
from components.datasets.ingest import ingest
from components.datasets.store import Examples, Sequences, Store
from components.encodings.characters import Characters
from components.encodings.pair import Pair
from components.encodings.vocabulary import BOS, EOS, PAD
from components.encodings.words import Words
from components.errors import UserError
from components.models.sequence_model import SequenceModel
from components.recipe import Recipe
from components.registry import TABLE
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


class Short(Reader):
    """Texts of three letters over `frames` frames, and one over more."""

    framing, pairs, own = "sequences", True, True

    def __init__(self, files, /, *, frames: int = 2) -> None:
        super().__init__(files)
        self.frames = frames

    def items(self) -> Iterator[tuple]:
        for number in range(10):
            yield np.full((self.frames if number else 2 * self.frames, 1), number), "abc"

    def digest(self) -> str:
        return f"{self.frames}"


@pytest.mark.parametrize(("frames", "refused"), [(1, True), (2, False)])
def test_texts_longer_than_their_frames_are_told_and_all_of_them_refused(
    frames, refused, tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setitem(TABLE["reader"], "short", f"{__name__}:Short")
    recipe = recipe_for(
        tmp_path,
        data={"reader": "short", "frames": frames, "split": [1.0, 0.0, 0.0]},
        encoding={"kind": "pair", "input": {"kind": "frames"}, "target": {"kind": "characters"}},
    )
    session = Session(recipe, ingested(recipe, tmp_path), "cpu", 1)
    options = {"batch_size": 4, "window": 0, "seed": 0, "training": True}
    if refused:
        with pytest.raises(UserError, match="every text is longer"):
            session.task.batches(session.store.split("train"), **options)
    else:
        session.task.batches(session.store.split("train"), **options)
        assert "9 of 10 texts" in caplog.text


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


def test_a_language_model_that_is_put_in_changes_what_is_read() -> None:
    task = task_for(language_model_weight=1.0)
    a, b = (int(id) for id in task.encoding.target.encode("ab"))
    log_probs_TV = np.full((1, 7), -20.0)
    log_probs_TV[0, [a, b]] = np.log([0.6, 0.4])
    assert task.read(log_probs_TV)[0].ids == (a,)

    def only_b(text: tuple[int, ...]) -> np.ndarray:
        scores = np.full(7, -5.0)
        scores[EOS if text else b] = -0.1
        return scores

    task.scorer = only_b
    assert task.read(log_probs_TV)[0].ids == (b,)


def test_a_trained_language_model_scores_texts_as_it_would_write_them() -> None:
    # untrained weights do as well: its tokens have other ids than the texts' here
    known = Characters()
    known.fit(["cbaabx"])
    torch.manual_seed(0)
    model = SequenceModel(len(known.vocabulary), hidden_size=8, num_layers=2).eval()
    task = task_for()
    task.use_language_model(model, known)
    ids = tuple(int(id) for id in task.encoding.target.encode("abca"))
    inputs = torch.tensor([[[BOS], *([int(id)] for id in known.encode("abca"))]])
    logits, _ = model(inputs)
    logits[..., [PAD, BOS]] = -torch.inf
    wanted = logits[0].log_softmax(dim=1).detach().numpy()
    for length in (4, 0, 2, 3, 1):  # in any order, forgotten or not
        task.scorer.remembered = 0 if length == 2 else 1 << 16
        scores = task.scorer(ids[:length])
        for letter in "abc":
            mine, its = (int(e.encode(letter)[0]) for e in (task.encoding.target, known))
            assert scores[mine] == pytest.approx(wanted[length, its], abs=1e-5)
        assert scores[EOS] == pytest.approx(wanted[length, EOS], abs=1e-5)
    with pytest.raises(UserError, match="doesn't generate single chars"):
        task.use_language_model(model, Words())


def test_texts_of_training_are_read_rather_than_others(tmp_path: Path) -> None:
    """Counted in training, kept with the model, and counted by its weight."""
    recipe = recipe_for(tmp_path, task={"kind": "transcription", "ngrams": 3, "language_model_weight": 1.0})
    pair = Pair(input={"kind": "frames"}, target={"kind": "characters"})
    pair.fit([(np.zeros((4, 2)), "ab"), (np.zeros((4, 2)), "ba")])
    task = Transcription(pair, "sequences", ngrams=3, language_model_weight=1.0)
    a, b = (int(id) for id in pair.target.encode("ab"))
    texts = Sequences(np.array([a, b, a, b, b, a]), np.array([0, 2, 4, 6]))
    (note,) = task.prepare(Examples({"target": texts}))
    assert "6 different runs of 3 tokens" in note
    logits_TV = np.full((2, 6), -20.0)
    logits_TV[0, a], logits_TV[1, [a, PAD]] = 0.0, [-0.5, -0.1]  # "a" by the frames alone; "aa" isn't possible
    logits_TV[1, b] = -1.0
    assert task.text(task.read(logits_TV)[0].ids) == "ab"
    model = task.build_model(recipe.model)
    facts = {"framing": "sequences", "learned": task.learned()}
    save_bundle(tmp_path / "kept", "beeps", model, pair, recipe.as_dict(), facts)
    again = load_bundle(tmp_path / "kept").task
    for text in ((), (a,), (a, b), (b, b)):
        np.testing.assert_array_equal(task.scorer(text), again.scorer(text))
    save_bundle(tmp_path / "lost", "beeps", model, pair, recipe.as_dict(), {"framing": "sequences"})
    with pytest.raises(UserError, match="ngrams"):
        load_bundle(tmp_path / "lost")
    task.scorer = None
    assert task.text(task.read(logits_TV)[0].ids) == "a"


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
    with pytest.raises(UserError, match="names: reads no speech"):
        with_language_model(names, names)
    with pytest.raises(UserError, match="beeps writes no text"):
        with_language_model(speech, speech)


def test_symbols_are_read_with_spaces_between_them() -> None:
    task = task_for({"kind": "symbols"})
    assert task.text(task.encoding.target.encode(["abc", "abc"])) == "abc abc"


def test_targets_that_are_no_texts_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="targets are tokens"):
        Transcription(Pair(input={"kind": "frames"}, target={"kind": "frames"}), "sequences")


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
        "problem": "cut off: its header promises more sound than there is",
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
