"""The mixture of where a pen goes: its likelihood against torch's distributions, its draws against itself; the window
over a text, which goes one way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, MultivariateNormal

from components.models.distributions import LEAST_OF_PEN, PenMixture
from components.models.stroke_model import AT, SEEN, SoftWindow, StrokeModel

M = 3
MIXTURE = PenMixture(M)


def raws(rows: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(
        rows, MIXTURE.parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )


def by_torch(raw: Tensor, points: Tensor) -> Tensor:
    """−log p, put together from torch's distributions."""
    log_weights, mean, deviation, correlation, lift, end = MIXTURE.of(raw)
    covariance = torch.diag_embed(deviation**2)
    covariance[..., 0, 1] = covariance[..., 1, 0] = correlation * deviation.prod(dim=-1)
    where = MixtureSameFamily(Categorical(logits=log_weights), MultivariateNormal(mean, covariance))
    chances = Bernoulli(logits=lift).log_prob(points[:, 2]) + points[:, 2] * Bernoulli(logits=end).log_prob(
        points[:, 3]
    )
    return -where.log_prob(points[:, :2]) - chances


def test_the_likelihood_is_that_of_torchs_distributions() -> None:
    raw = raws(50)
    points = torch.cat([raws(50)[:, :2], torch.tensor([[0, 0], [1, 0], [1, 1]] * 17)[:50].double()], dim=1)
    torch.testing.assert_close(MIXTURE.loss(raw, points), by_torch(raw, points))


def test_the_density_integrates_to_one() -> None:
    """Over the plane, a lift or none, the end or none."""
    axis = torch.linspace(-12, 12, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    total = 0.0
    for pen in ((0, 0), (1, 0), (1, 1)):
        points = torch.cat([grid, torch.tensor([pen]).double().expand(len(grid), 2)], dim=1)
        density = torch.exp(-MIXTURE.loss(0.6 * raws(1).expand(len(grid), -1), points))
        total += float(density.sum()) * float(axis[1] - axis[0]) ** 2
    assert total == pytest.approx(1, abs=1e-3)


def test_gradients_are_those_of_differences_and_stay_finite_far_away() -> None:
    raw, points = raws(4).requires_grad_(), torch.cat([raws(4)[:, :2], torch.ones(4, 2).double()], dim=1)
    assert torch.autograd.gradcheck(lambda raw: MIXTURE.loss(raw, points), (raw,))
    extreme = (1e3 * torch.sign(raws(8))).float().requires_grad_()
    loss = MIXTURE.loss(extreme, torch.tensor([[1e3, -1e3, 1.0, 0.0]]).expand(8, 4))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert extreme.grad.isfinite().all()


def test_draws_have_the_moments_of_the_mixture_and_a_bias_draws_them_in() -> None:
    raw = raws(1)[0]
    log_weights, mean, deviation, correlation, lift, end = (part.numpy() for part in MIXTURE.of(raw))
    weights = np.exp(log_weights)
    middle = weights @ mean
    own = np.zeros((M, 2, 2))
    own[:, 0, 0], own[:, 1, 1] = deviation.T**2
    own[:, 0, 1] = own[:, 1, 0] = correlation * deviation.prod(axis=1)
    away = mean - middle
    covariance = np.einsum("m,mij->ij", weights, own + away[:, :, None] * away[:, None, :])
    rng = np.random.default_rng(0)
    drawn = np.array([MIXTURE.draw(raw, rng) for _ in range(6000)])
    error = np.sqrt(np.diag(covariance) / len(drawn))
    assert (np.abs(drawn[:, :2].mean(axis=0) - middle) < 4 * error).all()
    assert np.cov(drawn[:, :2].T) == pytest.approx(covariance, rel=0.1, abs=0.05)
    chance = 1 / (1 + math.exp(-lift))
    assert drawn[:, 2].mean() == pytest.approx(chance, abs=0.03)
    assert drawn[:, 3].mean() == pytest.approx(chance / (1 + math.exp(-end)), abs=0.03)
    neat = np.array([MIXTURE.draw(raw, rng, bias=15.0) for _ in range(200)])
    assert np.abs(neat[:, :2] - mean[weights.argmax()]).max() < 1e-5


def test_no_deviation_is_so_small_that_a_place_is_guessed_exactly() -> None:
    _, _, deviation, correlation, *_ = MIXTURE.of(torch.full((MIXTURE.parameters,), -1e4))
    assert deviation.min() >= LEAST_OF_PEN
    assert correlation.abs().max() < 1


def test_the_window_goes_forwards_only_and_sees_what_is_there() -> None:
    torch.manual_seed(0)
    window, text = SoftWindow(8, 4), torch.eye(6).expand(2, 6, 6)
    at, before = torch.zeros(2, 4), torch.zeros(2, 4)
    for _ in range(30):
        seen, at, phi = window(5 * torch.randn(2, 8), at, text)
        assert (at > before).all()
        torch.testing.assert_close(seen, phi)  # of the identity the row of weights
        before = at


def test_a_piece_is_read_as_its_steps_are_and_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = StrokeModel(7, kind="gru", num_layers=2, gaussians=2, window_gaussians=3, hidden_size=8).eval()
    points, text = torch.randn(2, 6, 3), torch.tensor([[4, 5, 6], [6, 4, 0]])
    whole = model(points, text)
    state, letters, found = model.initial_state(2), model.letters(text), []
    for point in points.unbind(1):
        raw, state, phi = model.step(point, state, letters)
        found.append(raw)
    torch.testing.assert_close(torch.stack(found, dim=1), whole)
    assert phi.shape == (2, 4)
    assert state[AT].shape == (2, 3)
    assert (state[SEEN][1, 0] == 0).all(), "what is beyond a text's end isn't seen"
    torch.testing.assert_close(model(points[1:], text[1:, :2]), whole[1:])
