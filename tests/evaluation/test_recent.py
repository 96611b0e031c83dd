"""Figures of a model that remembers, or goes on learning from, the text that it's tested on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from components.datasets.batches.truncated import batches
from components.datasets.store import Sequences
from components.encodings.characters import Characters
from components.errors import UserError
from components.evaluation.cache import cache_probabilities, mixed, read
from components.evaluation.dynamic import Adaptation, dynamic_nats, gradient_sizes
from components.models.sequence_model import SequenceModel
from components.tasks.surprise import surprise
from components.training.session import Session

V = 9
ENCODING = Characters()


@pytest.fixture
def model() -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(V, kind="lstm", hidden_size=12, learn_initial_state=True).eval()


def text(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(4, V, length)


def rows(ids: np.ndarray, window: int):
    whole = Sequences(ids, np.array([0, len(ids)]))
    return batches("stream", whole, ENCODING, batch_size=1, window=window, seed=0, training=False)


def test_the_cache_is_a_distribution_over_what_came_before_and_ignores_what_comes(model) -> None:
    ids = text(1200)  # more than one chunk
    nats, y, targets = read(model, rows(ids, 100))
    np.testing.assert_allclose(nats.numpy(), surprise(model, ENCODING, ids), rtol=1e-4, atol=1e-5)
    total = sum(cache_probabilities(y, targets, torch.full_like(targets, w), size=700, flatness=2.0) for w in range(V))
    torch.testing.assert_close(total[1:], torch.ones(len(y) - 1))
    assert total[0] == 0
    t, size = 900, 5  # by hand
    likeness = torch.exp(2.0 * y[t - size : t] @ y[t])
    wanted = likeness[targets[t - size : t] == targets[t]].sum() / likeness.sum()
    found = cache_probabilities(y, targets, size=size, flatness=2.0)
    torch.testing.assert_close(found[t], wanted)
    before = mixed(nats, found, 0.3)
    assert float(before[0]) == pytest.approx(float(nats[0]))
    changed = ids.copy()
    changed[t + 1 :] = text(len(ids), seed=1)[t + 1 :]
    nats, y, targets = read(model, rows(changed, 100))
    after = mixed(nats, cache_probabilities(y, targets, size=size, flatness=2.0), 0.3)
    assert torch.equal(before[:t], after[:t])
    assert not torch.allclose(before[t:], after[t:])


def test_dynamic_evaluation_counts_a_window_before_it_learns_it_and_gives_the_weights_back(model) -> None:
    ids = np.tile(text(6), 30)
    sizes = gradient_sizes(model, rows(text(200), 10))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    still = dynamic_nats(model, rows(ids, 10), Adaptation(sizes, 0.0, 0.0))
    np.testing.assert_allclose(still.numpy(), surprise(model, ENCODING, ids), rtol=1e-4, atol=1e-5)
    learned = dynamic_nats(model, rows(ids, 10), Adaptation(sizes, 0.01, 1e-3))
    assert torch.equal(learned[:10], still[:10]), "the first window is counted with the trained weights"
    assert learned[90:].mean() < still[90:].mean() - 0.2
    pulled = dynamic_nats(model, rows(ids, 10), Adaptation(sizes, 0.01, 1e9))  # back to where it was, wherever s > 0
    assert abs(pulled.mean() - still.mean()) < abs(learned.mean() - still.mean())
    changed = ids.copy()
    changed[100:] = 4
    assert torch.equal(dynamic_nats(model, rows(changed, 10), Adaptation(sizes, 0.01, 1e-3))[:99], learned[:99])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_a_session_chooses_on_val_and_reports_beside_the_static_figures(small_recipe, small_store) -> None:
    recipe = small_recipe("stream", evaluation={"cache": 50, "dynamic": True, "dynamic_window": 8})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    test = session.final_metrics("test")
    assert test["dynamic/nats_per_char"] < test["nats_per_char"], "of an untrained model"
    for way in ("cache", "dynamic"):
        assert test[f"{way}/perplexity"] == pytest.approx(math.exp(test[f"{way}/nats_per_char"]))
    assert test["perplexity"] == session.evaluate("test")["perplexity"]


def test_what_has_no_recent_text_is_refused(small_recipe) -> None:
    with pytest.raises(UserError, match=r"evaluation.cache: only works for a language model of one long text"):
        small_recipe("sequences", evaluation={"cache": 10})
