"""Reading CTC: the beam's sums are those over all paths, written out."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.generation.ctc import aligned, collapse, greedy, prefix_beam_search

EVERYTHING = 10**6  # a beam that drops nothing


def frames(seed: int, T: int, V: int, sharpness: float = 1.0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).normal(size=(T, V))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def merged(path: tuple[int, ...]) -> tuple[int, ...]:
    """The text of a path, by the definition."""
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


def every_text(log_probs_TV: np.ndarray) -> dict[tuple[int, ...], float]:
    """log p of each text: the sum over all V^T paths."""
    T, V = log_probs_TV.shape
    sums: dict[tuple[int, ...], float] = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(V), repeat=T):
        log_p = sum(log_probs_TV[t, token] for t, token in enumerate(path))
        sums[merged(path)] = np.logaddexp(sums[merged(path)], log_p)
    return sums


@given(st.lists(st.integers(0, 3), max_size=12))
def test_a_path_collapses_to_its_text(path) -> None:
    assert tuple(collapse(path)) == merged(tuple(path))


def test_a_letter_is_doubled_only_over_a_blank() -> None:
    assert collapse([1, 1, 0, 1, 2, 2, 0]) == [1, 1, 2]
    assert collapse([2, 2, 2]) == [2]
    assert collapse([]) == []


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 4))
def test_with_a_beam_that_drops_nothing_every_text_has_its_probability(seed, T, V) -> None:
    log_probs_TV = frames(seed, T, V)
    wanted = every_text(log_probs_TV)
    found = prefix_beam_search(log_probs_TV, EVERYTHING)
    assert {reading.ids for reading in found} == set(wanted)
    assert len(found) == len(wanted)
    for reading in found:
        assert reading.log_probability == pytest.approx(wanted[reading.ids], abs=1e-9)
        assert reading.score == reading.log_probability
    assert np.logaddexp.reduce([reading.log_probability for reading in found]) == pytest.approx(0, abs=1e-9)
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)


def language(text: tuple[int, ...]) -> np.ndarray:
    """log p of what follows: a table of its own for every text."""
    logits = np.random.default_rng([len(text), *text]).normal(size=3) * 2
    return logits - np.logaddexp.reduce(logits)


@pytest.mark.slow
@given(st.integers(0, 10**6), st.floats(0.1, 2), st.floats(-1, 1), st.sampled_from([None, 0]))
def test_language_model_and_length_count_as_said(seed, weight, bonus, end) -> None:
    log_probs_TV = frames(seed, 4, 3)
    found = prefix_beam_search(log_probs_TV, EVERYTHING, scorer=language, weight=weight, bonus=bonus, end=end)
    texts = every_text(log_probs_TV)
    assert len(found) == len(texts)
    for reading in found:
        prior = sum(language(reading.ids[:i])[token] for i, token in enumerate(reading.ids))
        prior += language(reading.ids)[end] if end is not None else 0.0
        wanted = texts[reading.ids] + weight * prior + bonus * len(reading.ids)
        assert reading.score == pytest.approx(wanted, abs=1e-9)
        assert reading.log_probability == pytest.approx(texts[reading.ids], abs=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5))
def test_a_narrow_beam_gives_lower_bounds_and_no_more_than_it_follows(seed, T, beam_size) -> None:
    log_probs_TV = frames(seed, T, 3, sharpness=2.0)
    wanted = every_text(log_probs_TV)
    found = prefix_beam_search(log_probs_TV, beam_size)
    assert 1 <= len(found) <= beam_size
    assert all(reading.log_probability <= wanted[reading.ids] + 1e-9 for reading in found)


def test_the_beam_finds_a_text_that_the_likeliest_path_misses() -> None:
    # Graves 2006: blank is likeliest at both frames (0.6 · 0.6), but "a" has three paths (0.64)
    log_probs_TV = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert greedy(log_probs_TV) == []
    best = prefix_beam_search(log_probs_TV, 8)[0]
    assert best.ids == (1,)
    assert math.exp(best.log_probability) == pytest.approx(0.64)


def test_a_sure_model_is_read_the_same_way_by_both() -> None:
    path = [0, 3, 3, 0, 3, 1, 1, 0, 2]
    log_probs_TV = np.log(np.full((len(path), 4), 0.01) + 0.96 * np.eye(4)[path])
    assert greedy(log_probs_TV) == list(prefix_beam_search(log_probs_TV, 4)[0].ids) == [3, 3, 1, 2]


def test_tokens_that_can_never_be_said_are_not() -> None:
    log_probs_TV = frames(3, 5, 4)
    log_probs_TV[:, 2] = -np.inf
    found = prefix_beam_search(log_probs_TV, EVERYTHING)
    assert found
    assert all(2 not in reading.ids and np.isfinite(reading.score) for reading in found)


def test_no_frames_say_nothing() -> None:
    assert [reading.ids for reading in prefix_beam_search(np.zeros((0, 3)), 4)] == [()]
    assert greedy(np.zeros((0, 3))) == []


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 4))
def test_tokens_are_said_when_the_likeliest_path_of_the_text_says_them(seed, T, V) -> None:
    """Against all V^T paths: where each token stands on the likeliest of those that are the text."""
    log_probs_TV = frames(seed, T, V)
    likelihood = {path: log_probs_TV[np.arange(T), path].sum() for path in itertools.product(range(V), repeat=T)}
    for text in {merged(path) for path in likelihood}:
        best = max((path for path in likelihood if merged(path) == text), key=likelihood.__getitem__)
        runs, at = [], 0
        for token, same in itertools.groupby(best):
            length = len(list(same))
            if token:
                runs.append((at, at + length))
            at += length
        assert aligned(log_probs_TV, text) == runs


def test_a_text_that_is_longer_than_its_frames_has_no_times() -> None:
    with pytest.raises(ValueError, match="3 tokens can't be aligned with only 2 frames"):
        aligned(frames(0, 2, 4), [1, 2, 3])
    with pytest.raises(ValueError, match="can't be aligned"):
        aligned(frames(0, 2, 4), [1, 1])
    assert aligned(frames(0, 2, 4), []) == []
