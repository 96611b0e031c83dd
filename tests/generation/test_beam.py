"""Beam search: against every sequence that there is, against the obvious greedy loop, and its own sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.encodings.base import Field
from components.encodings.vocabulary import BOS, EOS, PAD, SPECIALS, UNK
from components.generation.beam import Hypothesis, beam_search, penalised
from components.models.encoder_decoder import EncoderDecoder

V, LONGEST = len(SPECIALS) + 3, 3


def model_and_start(seed: int, rows: int = 3, **options) -> tuple[EncoderDecoder, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    options = {"kind": "gru", "hidden_size": 6, "backend": "torch", **options}
    model = EncoderDecoder(Field(size=9), V, **options).eval()
    with torch.no_grad():
        model.head.weight.mul_(6)  # far from uniform
        inputs = torch.randint(4, 9, (rows, 5, 1))
        return model, model(inputs, torch.tensor([5, 2, 3][:rows]))


def likelihood(model, start, row: int, ids) -> float:
    """The log-probability of the ids and EOS, by teacher forcing."""
    with torch.no_grad():
        state = {name: value[row : row + 1] for name, value in start.items()}
        y, _ = model.forced(state, torch.tensor([[BOS, *ids]]))
        logp = torch.log_softmax(model.head(y)[0].double(), dim=1)
    return float(sum(logp[u, token] for u, token in enumerate([*ids, EOS])))


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["none", "average", "wu"])
@pytest.mark.parametrize("feeding", [False, True])
def test_a_beam_as_wide_as_the_space_finds_the_best_sequence_there_is(penalty, feeding) -> None:
    model, start = model_and_start(1, input_feeding=feeding)
    found = beam_search(model.step, start, [LONGEST] * 3, beam_size=64, length_penalty=penalty, alpha=0.8)
    letters = range(len(SPECIALS), V)
    space = [ids for n in range(LONGEST + 1) for ids in itertools.product(letters, repeat=n)]
    assert len(space) == 40
    for row, hypotheses in enumerate(found):
        exact = {ids: likelihood(model, start, row, ids) for ids in space}
        ranked = sorted(space, key=lambda ids: -penalised(exact[ids], len(ids) + 1, penalty, 0.8))
        assert [tuple(one.ids.tolist()) for one in hypotheses] == ranked
        for one in hypotheses:
            assert one.log_probability == pytest.approx(exact[tuple(one.ids.tolist())], abs=1e-5)


def greedy(model, start, row: int, limit: int) -> list[int]:
    state = {name: value[row : row + 1] for name, value in start.items()}
    token, written = BOS, []
    while True:
        logits, state = model.step(torch.tensor([token]), state)
        logits[:, [PAD, UNK, BOS]] = -torch.inf
        token = EOS if len(written) == limit else int(logits.argmax())
        if token == EOS:
            return written
        written.append(token)


@pytest.mark.slow
@settings(max_examples=15)
@given(seed=st.integers(0, 40), limits=st.lists(st.integers(0, 6), min_size=3, max_size=3))
def test_a_beam_of_one_is_greedy_decoding(seed, limits) -> None:
    model, start = model_and_start(seed, attention="additive")
    found = beam_search(model.step, start, limits, beam_size=1)
    with torch.inference_mode():
        expected = [greedy(model, start, row, limit) for row, limit in enumerate(limits)]
    assert [one[0].ids.tolist() for one in found] == expected
    assert all(len(one) == 1 for one in found)


@pytest.mark.slow
@settings(max_examples=15)
@given(seed=st.integers(0, 40), size=st.integers(1, 6), limits=st.lists(st.integers(0, 8), min_size=3, max_size=3))
def test_scores_are_the_models_own_and_rows_do_not_know_of_each_other(seed, size, limits) -> None:
    model, start = model_and_start(seed)
    found = beam_search(model.step, start, limits, beam_size=size)
    for row, (hypotheses, limit) in enumerate(zip(found, limits, strict=True)):
        assert 1 <= len(hypotheses) <= size
        scores = [one.score for one in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(one.ids.tolist()) for one in hypotheses}) == len(hypotheses)
        alone = beam_search(model.step, {n: v[row : row + 1] for n, v in start.items()}, [limit], beam_size=size)[0]
        assert [one.ids.tolist() for one in alone] == [one.ids.tolist() for one in hypotheses]
        for one in hypotheses:
            assert len(one.ids) <= limit
            assert not np.isin(one.ids, [PAD, UNK, BOS, EOS]).any()
            assert one.log_probability == pytest.approx(likelihood(model, start, row, one.ids.tolist()), abs=1e-5)
            assert one.score == pytest.approx(penalised(one.log_probability, len(one.ids) + 1, "wu", 0.6))


def test_a_wider_beam_escapes_a_garden_path() -> None:
    a, b = len(SPECIALS), len(SPECIALS) + 1
    after = {BOS: {a: 0.6, b: 0.4}, a: {a: 0.34, b: 0.33, EOS: 0.33}, b: {EOS: 1.0}, EOS: {}}

    def step(tokens: torch.Tensor, state: dict) -> tuple[torch.Tensor, dict]:
        rows = [[after[int(token)].get(v, 1e-9) for v in range(b + 1)] for token in tokens]
        return torch.tensor(rows).log(), state

    def best(size: int) -> Hypothesis:
        return beam_search(step, {"h": torch.zeros(1, 1)}, [3], beam_size=size, length_penalty="none")[0][0]

    assert best(1).ids[0] == a
    assert best(2).ids.tolist() == [b]
    assert np.exp(best(2).log_probability) == pytest.approx(0.4, abs=1e-4)


def test_length_penalties_by_hand() -> None:
    assert penalised(-6.0, 3, "none", 9.0) == -6.0
    assert penalised(-6.0, 3, "average", 9.0) == -2.0
    assert penalised(-6.0, 7, "wu", 1.0) == pytest.approx(-6.0 / 2)
    assert penalised(-6.0, 7, "wu", 0.0) == -6.0
