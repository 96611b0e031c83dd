"""The counted language model: its probabilities by hand, and what a beam search makes of them."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encodings.vocabulary import BOS, EOS, PAD, SPECIALS, UNK
from components.generation.ctc import prefix_beam_search
from components.generation.ngram import NGrams

A, B = len(SPECIALS), len(SPECIALS) + 1
SIZE = len(SPECIALS) + 2
SAID = (EOS, A, B)


def by_definition(order: int, texts: list[tuple[int, ...]], history: tuple[int, ...], token: int) -> float:
    """p(token | history), recursively, from the texts themselves."""
    lines = [(*[BOS] * (order - 1), *text, EOS) for text in texts]

    def p(h: tuple[int, ...]) -> float:
        after = [line[i] for line in lines for i in range(order - 1, len(line)) if tuple(line[i - len(h) : i]) == h]
        shorter = p(h[1:]) if h else 1 / len(SAID)
        if not after:
            return shorter
        kinds = len(set(after))
        return (after.count(token) + kinds * shorter) / (len(after) + kinds)

    whole = (*[BOS] * (order - 1), *history)
    return p(whole[len(whole) - order + 1 :])


TEXTS = st.lists(st.lists(st.sampled_from([A, B]), max_size=4).map(tuple), max_size=5)


@given(st.integers(1, 4), TEXTS, st.lists(st.sampled_from([A, B]), max_size=5).map(tuple))
def test_probabilities_are_those_of_the_definition_and_add_up_to_1(order, texts, history) -> None:
    log_p_V = NGrams.of(order, SIZE, texts)(history)
    assert np.exp(log_p_V).sum() == pytest.approx(1.0)
    assert all(log_p_V[never] == -math.inf for never in (PAD, UNK, BOS))
    for token in SAID:
        assert math.exp(log_p_V[token]) == pytest.approx(by_definition(order, texts, history, token))


def test_probabilities_by_hand() -> None:
    # "ab" twice, "b" once; after a: b twice, one kind; in all: a 2, b 3, the end 3, three kinds
    model = NGrams.of(2, SIZE, [(A, B), (A, B), (B,)])
    alone_b = (3 + 3 * (1 / 3)) / (8 + 3)
    assert math.exp(model((A,))[B]) == pytest.approx((2 + alone_b) / (2 + 1))


@given(st.integers(1, 4), TEXTS, st.lists(st.sampled_from([A, B]), max_size=5).map(tuple))
def test_what_is_kept_as_json_is_the_same_model(order, texts, history) -> None:
    model = NGrams.of(order, SIZE, texts)
    again = NGrams(order, SIZE, json.loads(json.dumps(model.state())))
    np.testing.assert_array_equal(model(history), again(history))


def test_histories_that_are_forgotten_are_computed_again() -> None:
    model = NGrams.of(3, SIZE, [(A, B)])
    first = model((A,))
    model.remembered = 2
    for text in itertools.product([A, B], repeat=3):
        model(text)
    np.testing.assert_array_equal(model((A,)), first)


@pytest.mark.slow
@given(st.integers(0, 10**6), st.floats(0.1, 2))
def test_the_beam_finds_the_text_that_is_best_of_all(seed, weight) -> None:
    """Against every text of up to four frames, each with the sum over all its paths."""
    logits = np.random.default_rng(seed).normal(size=(4, SIZE))
    logits[:, [UNK, BOS, EOS]] = -np.inf
    log_probs_TV = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    model = NGrams.of(3, SIZE, [(A, B), (A, B), (B, A, A)])
    sums: dict[tuple[int, ...], float] = {}
    for path in itertools.product((PAD, A, B), repeat=4):
        text = tuple(token for token, _ in itertools.groupby(path) if token != PAD)
        sums[text] = np.logaddexp(sums.get(text, -math.inf), log_probs_TV[np.arange(4), path].sum())

    def score(text: tuple[int, ...]) -> float:
        said = [by_definition(3, [(A, B), (A, B), (B, A, A)], text[:i], id) for i, id in enumerate((*text, EOS))]
        return sums[text] + weight * sum(math.log(p) for p in said)

    found = prefix_beam_search(log_probs_TV, 10**6, scorer=model, weight=weight, end=EOS)
    assert len(found) == len(sums)
    assert found[0].score == pytest.approx(max(map(score, sums)))
    assert all(reading.score == pytest.approx(score(reading.ids)) for reading in found)
