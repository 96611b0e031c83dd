"""Likelihoods against SciPy and torch, draws against the distributions that they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn.functional import softplus

from components.models.distributions import LEAST, LEVELS, OUTPUTS, Gaussian, NegativeBinomial, Quantiles, StudentT

REAL = st.floats(-4, 4)
ONE = torch.ones(1, 1, dtype=torch.float64)


def raw(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def soft(number: float) -> float:
    return float(softplus(raw(number)))


def counts_of(size: float, spread: float, scale: float) -> stats.rv_discrete:
    """m = scale · softplus(size), α = softplus(spread) / √scale."""
    mean, alpha = scale * soft(size), soft(spread) / scale**0.5
    return stats.nbinom(1 / alpha, 1 / (1 + alpha * mean))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(REAL, REAL, REAL, st.floats(-20, 20))
def test_likelihoods_are_those_of_torch_and_scipy(middle, width, freedom, value) -> None:
    y = raw(value)
    normal = torch.distributions.Normal(raw(middle), raw(soft(width) + LEAST))
    said = float(Gaussian().loss(raw(middle, width), y, ONE))
    assert said == pytest.approx(-float(normal.log_prob(y)), rel=1e-9, abs=1e-9)
    wanted = stats.t(2 + soft(freedom), middle, soft(width) + LEAST).logpdf(value)
    assert float(StudentT().loss(raw(middle, width, freedom), y, ONE)) == pytest.approx(-wanted, rel=1e-9, abs=1e-9)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-2, 4), st.floats(-2, 4), st.sampled_from([0.5, 1.0, 40.0, 30_000.0]))
def test_the_likelihood_of_counts_is_that_of_scipy(count, size, spread, scale) -> None:
    loss = NegativeBinomial().loss(raw(size, spread), raw(count / scale), torch.tensor(scale, dtype=torch.float64))
    assert float(loss) == pytest.approx(-counts_of(size, spread, scale).logpmf(count), rel=1e-7, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "student_t"])
def test_densities_integrate_to_one(name) -> None:
    y = torch.linspace(-400, 400, 80_001, dtype=torch.float64)
    output = OUTPUTS[name]()
    density = torch.exp(-output.loss(raw(0.7, 0.3, 2.0)[: output.parameters].expand(len(y), -1), y, ONE[0]))
    assert float(torch.trapezoid(density, y)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_the_chances_of_counts_sum_to_one(scale) -> None:
    counts = torch.arange(20_000, dtype=torch.float64)
    size = torch.tensor(scale, dtype=torch.float64)
    loss = NegativeBinomial().loss(raw(1.5, 0.5).expand(len(counts), -1), counts / scale, size)
    assert float(torch.exp(-loss).sum()) == pytest.approx(1, abs=1e-9)


def draws(name: str, numbers: torch.Tensor, scale: float = 1.0, count: int = 4000) -> np.ndarray:
    given = numbers.expand(1, count, -1)
    size = torch.tensor([[scale]], dtype=torch.float64)
    return OUTPUTS[name]().draw(given, size, np.random.default_rng(7))[0].numpy()


def test_draws_come_from_their_distribution() -> None:
    normal = stats.norm(1.5, soft(0.2) + LEAST)
    assert stats.kstest(draws("gaussian", raw(1.5, 0.2)), normal.cdf).pvalue > 0.01
    assert stats.kstest(draws("gaussian", raw(1.6, 0.2)), normal.cdf).pvalue < 0.01, "the test tells others apart"
    wide = stats.t(2 + soft(-1.0), -3, soft(1.0) + LEAST)
    assert stats.kstest(draws("student_t", raw(-3.0, 1.0, -1.0)), wide.cdf).pvalue > 0.01
    counts = draws("negative_binomial", raw(1.0, 0.4), scale=20.0) * 20
    assert np.abs(counts - np.round(counts)).max() < 1e-9
    assert counts.mean() == pytest.approx(counts_of(1.0, 0.4, 20.0).mean(), rel=0.05)
    assert counts.std() == pytest.approx(counts_of(1.0, 0.4, 20.0).std(), rel=0.08)


def test_counts_of_any_size_can_be_drawn() -> None:
    for size, spread, scale in ((4.0, -40.0, 1e30), (4.0, 40.0, 1e30), (-40.0, 40.0, 1.0)):
        drawn = draws("negative_binomial", raw(size, spread), scale=scale, count=50)
        assert np.isfinite(drawn).all()
        assert (drawn >= 0).all()


def test_quantiles_are_in_order_and_drawn_between() -> None:
    numbers = torch.randn(len(LEVELS), generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
    quantiles = Quantiles().of(numbers).numpy()
    assert (np.diff(quantiles) > 0).all()
    assert quantiles[LEVELS.index(0.5)] == float(numbers[LEVELS.index(0.5)])
    drawn = draws("quantiles", numbers, count=20_000)
    assert drawn.min() >= quantiles[0]
    assert drawn.max() <= quantiles[-1]
    below = [(drawn <= quantile).mean() for quantile in quantiles]
    assert below == pytest.approx(LEVELS, abs=0.012)


def test_the_loss_of_quantiles_is_least_where_that_share_lies_below() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=2000))
    numbers = torch.full((len(LEVELS),), -1.0, dtype=torch.float64)
    said = Quantiles().loss(numbers.expand(len(values), -1), values, ONE[0]).mean()

    def mean_loss(quantiles: np.ndarray) -> float:
        """Written out: 2 · (1[y < q] − level) · (q − y)."""
        y = values.numpy()[:, None]
        return float((2 * ((y < quantiles) - np.array(LEVELS)) * (quantiles - y)).mean())

    assert float(said) == pytest.approx(mean_loss(Quantiles().of(numbers).numpy()), rel=1e-6)
    best = np.quantile(values, LEVELS)
    for at in range(len(LEVELS)):
        for away in (-0.2, 0.2):
            assert mean_loss(best + away * (np.arange(len(LEVELS)) == at)) > mean_loss(best)


def test_a_row_is_drawn_alike_whatever_stands_beside_it() -> None:
    torch.manual_seed(0)
    for name, output in OUTPUTS.items():
        two, scale = torch.randn(2, 50, output().parameters), torch.tensor([[3.0], [50.0]], dtype=torch.float64)
        both = output().draw(two, scale, np.random.default_rng(1))
        alone = output().draw(two[1:], scale[1:], np.random.default_rng(1))
        assert torch.equal(both[1:], alone), name
