"""Planned chorales: they have the bars that they begin with, and know how much is left and where home is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_chorale import plain, scores

from components.bounds import MOST_BARS
from components.encodings.base import encoding_from_state
from components.encodings.chorale.encoding import HIGHEST, LOWEST, VOICES, Chorale
from components.encodings.chorale.plan import MOST_LEFT
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.score import Note, Part

ENCODING = Chorale(planned=True)
LEFT, HOME = 6, 7  # columns of its context


def framed(score):
    return np.array([BOS, *ENCODING.encode(score), EOS])


def token(id):
    return ENCODING.vocabulary.token(int(id))


@settings(deadline=None, max_examples=40)
@given(score=scores())
def test_a_score_comes_back_and_the_grammar_allows_what_has_a_plan(score) -> None:
    ids = framed(score)
    assert ENCODING.decode(ids) == score
    whole = score.length_steps and not score.length_steps % score.bar_steps
    assert token(ids[3]) == (f"bars {score.length_steps // score.bar_steps}" if whole else "bars unplanned")
    for cut in range(1, len(ids) - 1):
        assert ENCODING.allowed(ids[:cut])[ids[cut]] == (whole or cut != 3)
    if whole:
        assert np.flatnonzero(ENCODING.allowed(ids[:-1])).tolist() == [EOS]


@settings(deadline=None, max_examples=40)
@given(score=scores())
def test_the_context_knows_the_plan_and_never_looks_ahead(score) -> None:
    ids = framed(score)
    context = ENCODING.context(ids)
    assert ((context >= 0) & (context < ENCODING.context_sizes)).all()
    assert not context[:3, LEFT:].any()
    for cut in range(1, len(ids)):
        assert (ENCODING.context(ids[:cut]) == context[:cut]).all()
    if token(ids[3]) != "bars unplanned":
        quarters = [-(-(score.length_steps - step) // 4) for step in range(score.length_steps + 1)]
        assert context[4:-1, LEFT][::4].tolist() == [min(left, MOST_LEFT) for left in quarters]
    plain_columns = Chorale().context(np.array([BOS, *Chorale().encode(score), EOS]))
    assert (context[5:, 1:LEFT] == plain_columns[3:, 1:]).all(), "what a chorale without a plan is told"


@settings(deadline=None, max_examples=40)
@given(ids=st.lists(st.integers(0, len(ENCODING.vocabulary) - 1), max_size=60))
def test_any_ids_have_a_context_and_a_grammar(ids) -> None:
    ids = np.array([BOS, *ids])
    context = ENCODING.context(ids)
    assert ((context >= 0) & (context < ENCODING.context_sizes)).all()
    assert ENCODING.allowed(ids).any()
    ENCODING.decode(ids)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_whatever_is_allowed_ends_with_the_bars_that_were_planned(seed) -> None:
    rng = np.random.default_rng(seed)
    ids = [BOS]
    while ids[-1] != EOS:
        allowed = np.flatnonzero(ENCODING.allowed(np.array(ids)))
        ids.append(int(rng.choice(allowed[:4] if len(ids) == 3 else allowed)))
    score = ENCODING.decode(ids)
    assert score.length_steps == score.bar_steps * int(token(ids[3]).removeprefix("bars "))
    assert ENCODING.encode(score)[4:].tolist() == ids[5:-1]


@pytest.mark.parametrize("shift", range(-3, 4))
def test_home_is_where_the_bass_ends_in_every_key(shift) -> None:
    pitches = tuple(pitch + shift for pitch in (72, 67, 64, 53))
    score = plain(pitches=pitches)
    score = replace(score, parts=(*score.parts[:3], Part("Bass", (Note(0, 8, 53 + shift), Note(8, 8, 48 + shift)))))
    ids = framed(score)
    assert token(ids[4]) == token(ENCODING.signs.home0 + shift % 12)
    assert ENCODING.context(ids)[8, HOME:].tolist() == [shift % 12 + 1, 1, 8, 5, 6]
    moved = ENCODING.augment(ids, np.random.default_rng(shift % 5))
    assert (moved == framed(ENCODING.decode(moved))).all(), "home is moved with the music"
    assert (ENCODING.context(moved)[:, HOME + 1 :] == ENCODING.context(ids)[:, HOME + 1 :]).all()


def test_under_a_melody_its_last_note_is_home_and_a_beginning_is_to_be_doubled() -> None:
    melody = replace(plain(), parts=(Part("Melody", (Note(0, 8, 71), Note(8, 8, 67))),))
    ids = ENCODING.with_melody(melody)
    assert [token(id) for id in ids[:4]] == ["metre 4/4", "upbeat 0", "bars 1", "home G"]
    assert (ids[4:].reshape(-1, 4)[:, 1:] == -1).all()
    begun = replace(plain(length=40), parts=(*plain(40).parts[:3], Part("Bass", (Note(0, 20, 50), Note(20, 20, 48)))))
    assert [token(id) for id in ENCODING.onwards(begun)[2:4]] == ["bars 5", "home D"]
    assert ENCODING.onwards(begun)[4:].tolist() == ENCODING.encode(begun)[4:].tolist()
    long = plain(length=16 * (MOST_BARS // 2 + 1))
    assert token(ENCODING.onwards(long)[2]) == "bars unplanned"


def test_so_many_bars_are_asked_for_after_what_is_begun() -> None:
    bars = ENCODING.vocabulary.id("bars 9")
    assert ENCODING.with_bars(9, np.zeros(0, dtype=np.int64)).tolist() == [-1, -1, bars]
    begun, _ = ENCODING.prompt("3/4 upbeat 4")
    assert ENCODING.with_bars(9, begun).tolist() == [*begun, bars]
    with pytest.raises(UserError, match="can't be given a length in bars"):
        Chorale().with_bars(9, begun)


def test_silence_is_at_home_on_c() -> None:
    score = replace(plain(), parts=tuple(Part(name, ()) for name in VOICES))
    assert token(ENCODING.encode(score)[3]) == "home C"


def test_an_encoding_without_a_plan_is_what_it_was() -> None:
    before = Chorale()
    assert len(before.vocabulary) == 4 + 2 + 3 + 24 + HIGHEST - LOWEST + 1
    state = before.state()
    del state["options"]["planned"]  # as stored before there were plans
    again = encoding_from_state(state)
    assert again.context_sizes == before.context_sizes == (98, 32, 74, 74, 74, 74)
    assert again.encode(plain()).tolist() == before.encode(plain()).tolist()
    assert encoding_from_state(ENCODING.state()).planned
