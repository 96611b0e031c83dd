"""Sampling: what may be drawn, with which probability, and always the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from components.encodings.characters import Characters
from components.encodings.chorale.encoding import Chorale
from components.encodings.copying import Copying
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.vocabulary import BOS, EOS, PAD, UNK
from components.generation.draft import Draft
from components.generation.sampling import distribution, draw, sample
from components.generation.settings import Settings
from components.models.sequence_model import SequenceModel

logits = arrays(np.float32, 12, elements=st.floats(-30, 30, width=32))
masks = arrays(bool, 12).filter(lambda mask: mask.any())
settings = st.builds(
    Settings,
    temperature=st.sampled_from([0.0, 0.1, 0.7, 1.0, 5.0]),
    top_k=st.integers(0, 15),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
)


@pytest.mark.slow
@given(logits, masks, settings)
def test_a_distribution_sums_to_one_over_what_is_allowed(logits, allowed, settings) -> None:
    p = distribution(logits, allowed, settings)
    assert p.sum() == pytest.approx(1.0)
    assert (p >= 0).all()
    assert (p[~allowed] == 0).all()
    # of tokens whose probabilities are equal in float64 one stays, whichever logit is larger by less than that
    likeliest = logits[p > 0].max()
    assert likeliest == pytest.approx(logits[allowed].max(), abs=1e-9), "the likeliest token always stays"


@pytest.mark.slow
@given(logits)
def test_without_restrictions_it_is_the_softmax(logits) -> None:
    p = distribution(logits, np.ones(12, bool), Settings())
    np.testing.assert_allclose(p, torch.softmax(torch.tensor(logits).double(), 0).numpy(), atol=1e-12)


@given(logits, st.integers(1, 12))
def test_top_k_keeps_the_k_likeliest(logits, k) -> None:
    p = distribution(logits, np.ones(12, bool), Settings(top_k=k))
    kept = np.flatnonzero(p > 0)
    assert set(logits[kept]) >= {max(logits)}
    assert len(kept) >= min(k, (p > 0).sum())
    assert min(logits[kept]) >= np.sort(logits)[-k]


@given(logits, st.floats(0.05, 0.99))
def test_top_p_keeps_the_fewest_that_hold_p(logits, top_p) -> None:
    whole = distribution(logits, np.ones(12, bool), Settings())
    kept = distribution(logits, np.ones(12, bool), Settings(top_p=top_p)) > 0
    assert whole[kept].sum() >= top_p - 1e-9
    weakest = whole[kept].min()
    assert whole[kept].sum() - weakest < top_p + 1e-9


@given(
    arrays(np.float64, 6, elements=st.floats(0, 1)).filter(lambda p: p.sum() > 0.1), st.floats(0, 1, exclude_max=True)
)
def test_nothing_of_probability_zero_is_drawn(p, uniform) -> None:
    assert p[draw(p / p.sum(), uniform)] > 0


@pytest.mark.slow
def test_draws_follow_the_distribution() -> None:
    p = np.array([0.5, 0.0, 0.3, 0.2])
    rng = np.random.default_rng(0)
    counts = np.bincount([draw(p, rng.random()) for _ in range(20_000)], minlength=4) / 20_000
    np.testing.assert_allclose(counts, p, atol=0.012)


def text_model(**options) -> tuple[SequenceModel, Characters]:
    torch.manual_seed(0)
    encoding = Characters()
    encoding.fit(["abcdefgh "])
    model = SequenceModel(len(encoding.vocabulary), kind="lstm", hidden_size=16, num_layers=2, **options).eval()
    with torch.no_grad():
        model.head.weight.mul_(8)  # opinions strong enough to make sequences differ
    return model, encoding


@pytest.mark.parametrize("input", ["embedding", "one_hot"])
def test_greedy_sampling_is_what_the_whole_sequence_model_says(input) -> None:
    model, encoding = text_model(input=input)
    prompt = encoding.encode("abc").tolist()
    made = sample(model, Draft(encoding, prompt, Settings(count=2, max_length=20, temperature=0), seed=0, framed=False))
    ids = torch.tensor(made[0].ids)
    with torch.no_grad():
        logits, _ = model(ids[None, :-1, None])
    logits[..., [PAD, UNK, BOS, EOS]] = -torch.inf
    assert (logits[0, 2:].argmax(-1) == ids[3:]).all()
    assert (made[0].ids == made[1].ids).all()
    assert len(ids) == 23


def test_same_seed_same_sequences_and_each_sequence_has_its_own_stream() -> None:
    model, encoding = text_model()

    def run(seed: int, count: int) -> list[list[int]]:
        made = sample(model, Draft(encoding, [5], Settings(count=count, max_length=30), seed=seed, framed=False))
        return [one.ids.tolist() for one in made]

    assert run(1, 3) == run(1, 3)
    assert run(1, 3) != run(2, 3)
    assert len({tuple(ids) for ids in run(1, 3)}) == 3
    assert run(1, 2) == run(1, 3)[:2], "how many are asked for doesn't change the first ones"


def test_sequences_end_at_eos_or_at_max_length_and_hold_no_specials() -> None:
    model, encoding = text_model()
    made = sample(model, Draft(encoding, [], Settings(count=40, max_length=25), seed=3, framed=True))
    assert {one.ended for one in made} == {True, False}
    for one in made:
        assert not set(one.ids.tolist()) & {PAD, UNK, BOS, EOS}
        assert len(one.ids) == 25 or one.ended
        assert one.nats_per_token > 0


def test_surprise_is_the_models_own_whatever_the_temperature() -> None:
    model, encoding = text_model()
    settings = Settings(count=1, max_length=15, temperature=0.3)
    (made,) = sample(model, Draft(encoding, [5], settings, seed=0, framed=False))
    ids = torch.tensor(made.ids)
    with torch.no_grad():
        logits, _ = model(ids[None, :-1, None])
    expected = torch.nn.functional.cross_entropy(logits[0].double(), ids[1:]).item()
    assert made.nats_per_token == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_an_untrained_model_still_writes_chorales_of_the_grammar() -> None:
    torch.manual_seed(0)
    encoding = Chorale()
    model = SequenceModel(len(encoding.vocabulary), encoding.context_sizes, kind="gru", hidden_size=8)
    for one in sample(model, Draft(encoding, [], Settings(count=4, max_length=400), seed=0, framed=True)):
        score = encoding.decode(one.ids)
        whole_frames = one.ids[: 2 + 4 * score.length_steps]
        assert (encoding.encode(score) == whole_frames).all()
        assert not one.ended or score.length_steps >= score.bar_steps


@pytest.mark.parametrize("copies", [False, True], ids=["engine", "plain"])
def test_what_a_piece_begins_with_varies_as_in_training_whatever_the_temperature(copies) -> None:
    torch.manual_seed(0)
    encoding = Copying(LeadSheet(planned=True)) if copies else Chorale(planned=True)
    model = SequenceModel(
        len(encoding.vocabulary), encoding.context_sizes, len(encoding.copy_lags) * copies, kind="gru", hidden_size=8
    )

    def different(**how: float) -> list[int]:
        """Of each of the first places, how many tokens 40 pieces have there."""
        some = Settings(count=40, max_length=encoding.prefix + 1, **how)
        made = sample(model.eval(), Draft(encoding, [], some, seed=0, framed=True))
        return [len({int(one.ids[place]) for one in made}) for place in range(encoding.prefix + 1)]

    first, *_, last, after = different(temperature=0.01, top_k=1)
    assert min(first, last) > 2
    assert after < different(temperature=1.0)[-1], "from there on the settings hold"
    assert different(temperature=0.0) == [1] * (encoding.prefix + 1)


def test_a_stream_without_a_prompt_is_a_programming_error() -> None:
    model, encoding = text_model()
    with pytest.raises(ValueError, match="prompt"):
        sample(model, Draft(encoding, [], Settings(count=1), seed=0, framed=False))
