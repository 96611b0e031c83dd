"""Transcription with a language model, and which texts a model of speech can be trained on and reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from test_transcription import ingested, recipe_for, task_for

from components.bundle import load_bundle, save_bundle
from components.datasets.base import Reader
from components.datasets.store import Examples, Sequences
from components.encodings.characters import Characters
from components.encodings.pair import Pair
from components.encodings.vocabulary import BOS, EOS, PAD
from components.encodings.words import Words
from components.errors import UserError
from components.models.sequence_model import SequenceModel
from components.registry import TABLE
from components.tasks.transcription import Transcription
from components.training.session import Session


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
        with pytest.raises(UserError, match="all texts have more tokens"):
            session.task.batches(session.store.split("train"), **options)
    else:
        session.task.batches(session.store.split("train"), **options)
        assert "9 of 10 texts" in caplog.text


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
    with pytest.raises(UserError, match="must be a model of single chars"):
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
    assert "6 different 3-grams" in note
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


def test_symbols_are_read_with_spaces_between_them() -> None:
    task = task_for({"kind": "symbols"})
    assert task.text(task.encoding.target.encode(["abc", "abc"])) == "abc abc"


def test_targets_that_are_no_texts_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="this task needs tokens"):
        Transcription(Pair(input={"kind": "frames"}, target={"kind": "frames"}), "sequences")
