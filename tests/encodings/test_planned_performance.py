"""Planned performances: a piece begins with its length, hears how much is left, and ends there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.datasets.made.piano import MadePiano
from components.encodings.base import encoding_from_state
from components.encodings.chorale.encoding import Chorale
from components.encodings.performance import FIRST, OFF, ON, Performance
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.generation.settings import Settings
from components.score import Note, Part, Score
from components.tasks.language_model import LanguageModel
from components.tasks.music import Music, MusicSettings

ENCODING, PLAIN = Performance(planned=True), Performance()
PIECE = MadePiano().item(4)


def long(seconds: float) -> Score:
    return Score((Part("Piano", (Note(0, round(100 * seconds), 60, 64),)),), 100, (1, 4), 0, 0, 60.0, timing="seconds")


def test_a_piece_says_its_length_first_and_is_the_same_music() -> None:
    ids = np.array([BOS, *ENCODING.encode(PIECE), EOS])
    assert [ENCODING.vocabulary.token(int(id)) for id in ids[1:3]] == ["minutes 0", "seconds 18"]
    assert ENCODING.decode(ids) == PLAIN.decode(PLAIN.encode(PIECE))
    for t in range(1, len(ids), 2):
        assert ENCODING.allowed(ids[:t])[ids[t]], ENCODING.label(int(ids[t]))
    left = ENCODING.context(ids)[:, -1]
    assert left[:3].tolist() == [0, 0, 1 + 18]
    assert (np.diff(left[2:]) <= 0).all()
    assert left[-1] == 1 + 1, "the last second"
    assert not ENCODING.allowed(ids[:-40])[EOS]


@pytest.mark.parametrize(("seconds", "said"), [(0.99, "0 1"), (60, "1 0"), (60.01, "1 1"), (3599.5, "more 0")])
def test_lengths_are_said_to_the_second_up_to_an_hour(seconds, said) -> None:
    ids = ENCODING.encode(long(seconds))
    names = [ENCODING.vocabulary.token(int(id)).split()[1] for id in ids[:2]]
    assert " ".join(names) == said
    whole = np.array([BOS, *ids, EOS])
    assert all(ENCODING.allowed(whole[:t])[whole[t]] for t in (1, 2, 3, len(ids), len(ids) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 3])
def test_whatever_is_allowed_ends_in_the_planned_second_with_all_keys_up(seconds) -> None:
    rng = np.random.default_rng(seconds)
    ids = [BOS, *ENCODING.with_seconds(seconds)]
    while ids[-1] != EOS:
        ids.append(int(rng.choice(np.flatnonzero(ENCODING.allowed(np.array(ids))))))
        assert len(ids) < 2000
    down = np.array([ON <= id < OFF for id in ids]).sum()
    up = np.array([OFF <= id < OFF + OFF - ON for id in ids]).sum()
    assert down == up > 0
    assert 100 * (seconds - 1) < ENCODING.decode(ids).length_steps <= 100 * seconds


@pytest.mark.slow
def test_a_model_plays_for_as_long_as_it_is_told() -> None:
    torch.manual_seed(0)
    task = LanguageModel(ENCODING, "sequences")
    model = task.build_model({"kind": "gru", "hidden_size": 4})
    made = task.generate(model, Settings(count=2, max_length=1500, seconds=2), seed=0)
    assert all(100 < item.length_steps <= 200 for item in made.items)
    assert made.warnings == []
    cut = task.generate(model, Settings(count=1, max_length=9, seconds=2), seed=0)
    assert len(cut.warnings) == 1
    given = tuple(ENCODING.onwards(PIECE)[:20].tolist())
    assert ENCODING.vocabulary.token(given[1]) == "seconds 36", "twice its length"
    with pytest.raises(UserError, match="together with a file"):
        task.generate(model, Settings(count=1, seconds=2, given=given), seed=0)


@pytest.mark.parametrize("encoding", [PLAIN, Chorale(planned=True)], ids=["performance", "chorale"])
def test_a_model_without_such_a_plan_says_so(encoding) -> None:
    tasks = (LanguageModel(encoding, "sequences"), Settings), (Music(encoding, "sequences"), MusicSettings)
    for task, settings in tasks:
        with pytest.raises(UserError, match="can't be given a length in seconds"):
            task.rehearse(settings(seconds=20, bars=8 * (encoding is not PLAIN)))


def test_without_the_setting_the_vocabulary_is_what_it_was() -> None:
    state = PLAIN.state()
    del state["options"]["planned"]
    old = encoding_from_state(state)
    assert old.vocabulary == PLAIN.vocabulary
    assert old.context_sizes == PLAIN.context_sizes == ENCODING.context_sizes[:-1]
    assert PLAIN.minutes == len(PLAIN.vocabulary)
    assert FIRST < ENCODING.minutes < len(ENCODING.vocabulary)
