"""Tokens ↔ ids: a bijection whose first four ids never move."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encodings.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary
from components.errors import UserError

counts = st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 9), max_size=20)


def test_the_specials_come_first_and_in_order():
    vocabulary = Vocabulary.build({"a": 1})
    assert [vocabulary.token(id) for id in (PAD, UNK, BOS, EOS)] == list(SPECIALS)
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)


@given(counts)
def test_every_token_comes_back_from_its_id(counted):
    vocabulary = Vocabulary.build(counted)
    assert len(vocabulary) == len(counted) + 4
    assert [vocabulary.token(vocabulary.id(token)) for token in counted] == list(counted)


@given(counts)
def test_the_order_of_counting_does_not_change_the_ids(counted):
    assert Vocabulary.build(counted) == Vocabulary.build(dict(reversed(counted.items())))


def test_the_commonest_come_first_and_equals_by_their_own_order():
    assert Vocabulary.build({"c": 1, "b": 1, "a": 1, "z": 5}).tokens[4:] == ("z", "a", "b", "c")


def test_the_rare_and_those_beyond_max_size_become_unknown():
    vocabulary = Vocabulary.build({"a": 3, "b": 2, "c": 1}, min_count=2, max_size=1)
    assert vocabulary.tokens[4:] == ("a",)
    assert vocabulary.ids(["a", "b", "c"]).tolist() == [4, UNK, UNK]
    assert vocabulary.ids([]).dtype == np.int64


def test_one_hot_rows_are_the_unit_vectors_of_the_ids():
    vocabulary = Vocabulary.build({"a": 1, "b": 1})
    rows = vocabulary.one_hot([4, 0, 5])
    assert rows.dtype == np.float32
    assert rows.shape == (3, 6)
    assert rows.argmax(axis=1).tolist() == [4, 0, 5]
    assert rows.sum() == 3


@given(counts)
def test_the_state_survives_json(counted):
    vocabulary = Vocabulary.build(counted)
    assert Vocabulary.from_state(json.loads(json.dumps(vocabulary.state()))) == vocabulary


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (None, "list of strings"),
        ({"a": 1}, "list of strings"),
        ([*SPECIALS, 5], "list of strings"),
        (["a", "b"], "must begin with"),
        ([*SPECIALS, "a", "a"], "'a' occurs twice"),
        ([*SPECIALS, "<PAD>", "<PAD>"], "'<PAD>' occurs twice"),
    ],
)
def test_a_damaged_state_is_refused_with_the_reason(state, what):
    with pytest.raises(UserError, match=what):
        Vocabulary.from_state(state)


def test_an_id_outside_is_an_error_and_not_the_last_token():
    vocabulary = Vocabulary.build({"a": 1})
    for id in (-1, 5):
        with pytest.raises(IndexError, match="outside"):
            vocabulary.token(id)


@given(st.lists(st.sampled_from([*SPECIALS, "a", "b"]), unique=True))
def test_a_token_called_like_a_special_is_another_token(names):
    vocabulary = Vocabulary.build(dict.fromkeys(names, 1))
    ids = vocabulary.ids(names)
    assert sorted(ids.tolist()) == list(range(4, 4 + len(names)))
    assert [vocabulary.token(int(id)) for id in ids] == names
    assert Vocabulary.from_state(vocabulary.state()).ids(names).tolist() == ids.tolist()
    assert set(vocabulary.ids([name for name in SPECIALS if name not in names]).tolist()) <= {UNK}, "none is PAD or EOS"
