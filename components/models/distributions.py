"""Output distributions of values and pen points, parameterised by a network; and quantiles.

Shapes: B rows, T steps, P parameters, S samples, Q levels. Values are scaled; `scale` is the unscaled value of 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

LEAST = 1e-4  # minimum deviation, in scaled values: bounds the density of an exact prediction
LEAST_OF_PEN = 1e-2  # the same for pen offsets: drawings lie on a grid, which could be predicted exactly
MOST_CORRELATION = 0.999
# levels of the predicted quantiles; samples interpolate linearly between them
LEVELS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class Distribution(ABC):
    """Base class. The last axis of `raw` holds the network's P unconstrained outputs for a step."""

    parameters: int
    unit = "nats"
    counts = False  # whether values are non-negative integers
    location: int | None = 0  # the output that moves the whole distribution by as much, if one does

    @abstractmethod
    def loss(self, raw: Tensor, values: Tensor, scale: Tensor) -> Tensor:
        """−log p of each value [...], given raw [..., P]; `scale` [..., 1] broadcasts over the leading axes."""

    @abstractmethod
    def draw(self, raw: Tensor, scale: Tensor, rng: np.random.Generator) -> Tensor:
        """Samples, scaled, [B, S], given raw [B, S, P] and scale [B, 1]. All rows use the same random numbers, so that
        a row's result doesn't depend on its batch."""


class Gaussian(Distribution):
    """Mean and standard deviation (softplus)."""

    parameters = 2

    def loss(self, raw: Tensor, values: Tensor, scale: Tensor) -> Tensor:
        mean, deviation = raw[..., 0], _positive(raw[..., 1])
        return 0.5 * ((values - mean) / deviation) ** 2 + deviation.log() + 0.5 * math.log(2 * math.pi)

    def draw(self, raw: Tensor, scale: Tensor, rng: np.random.Generator) -> Tensor:
        noise_S = torch.from_numpy(rng.standard_normal(raw.shape[1])).to(raw)
        return raw[..., 0] + _positive(raw[..., 1]) * noise_S


class StudentT(Distribution):
    """Location, scale and degrees of freedom (above 2, for a finite variance): less sensitive to outliers than a
    Gaussian."""

    parameters = 3

    def loss(self, raw: Tensor, values: Tensor, scale: Tensor) -> Tensor:
        mean, width, freedom = raw[..., 0], _positive(raw[..., 1]), 2 + softplus(raw[..., 2])
        half = (freedom + 1) / 2
        norm = torch.lgamma(freedom / 2) - torch.lgamma(half) + 0.5 * (freedom * math.pi).log() + width.log()
        return norm + half * torch.log1p(((values - mean) / width) ** 2 / freedom)

    def draw(self, raw: Tensor, scale: Tensor, rng: np.random.Generator) -> Tensor:
        """Bailey's polar method (1994): two uniform numbers per value, without rejection."""
        radius, angle = torch.from_numpy(1 - rng.random((2, raw.shape[1]))).to(raw.device)
        freedom = 2 + softplus(raw[..., 2].double())
        polar = (freedom * torch.expm1(-2 / freedom * radius.log())).sqrt() * torch.cos(2 * math.pi * angle)
        return raw[..., 0] + _positive(raw[..., 1]) * polar.to(raw)


class NegativeBinomial(Distribution):
    """Counts with mean m = scale · softplus, α = softplus / √scale and variance m + α m² (Salinas et al. 2020)."""

    parameters = 2
    counts = True
    location = None

    def loss(self, raw: Tensor, values: Tensor, scale: Tensor) -> Tensor:
        counts = (values.double() * scale).round()  # float32 is too imprecise for lgamma of large counts
        mean, alpha = self._of(raw, scale)
        size, more = 1 / alpha, alpha * mean
        log_p = torch.lgamma(counts + size) - torch.lgamma(size) - torch.lgamma(counts + 1)
        log_p = log_p - size * torch.log1p(more) + counts * (more.log() - torch.log1p(more))
        return -log_p.to(raw.dtype)

    def draw(self, raw: Tensor, scale: Tensor, rng: np.random.Generator) -> Tensor:
        mean, alpha = (part.cpu().numpy() for part in self._of(raw, scale))
        seed = int(rng.integers(2**63))
        # NumPy's Poisson sampler is limited to 2⁶³: bound the mean
        chance = 1 / (1 + np.minimum(alpha * mean, 1e17 * np.minimum(alpha, 1)))
        rows = [np.random.default_rng(seed).negative_binomial(1 / a, p) for a, p in zip(alpha, chance, strict=True)]
        return (torch.from_numpy(np.stack(rows)).to(scale.device) / scale).to(raw)

    def _of(self, raw: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        mean, alpha = softplus(raw.double()).clamp(1e-9, 1e9).unbind(-1)
        return mean * scale, (alpha / scale.sqrt()).clamp(min=1e-6)


class Quantiles(Distribution):
    """The quantiles at LEVELS: the median, and non-negative steps away from it. The loss is twice the mean pinball
    loss: for a median, the absolute error. Samples interpolate linearly between quantiles, and never lie outside
    them."""

    parameters = len(LEVELS)
    unit = "scaled quantile loss"
    location = LEVELS.index(0.5)

    def loss(self, raw: Tensor, values: Tensor, scale: Tensor) -> Tensor:
        short = values.unsqueeze(-1) - self.of(raw)
        levels = torch.tensor(LEVELS, device=raw.device)
        return 2 * torch.maximum(levels * short, (levels - 1) * short).mean(dim=-1)

    def draw(self, raw: Tensor, scale: Tensor, rng: np.random.Generator) -> Tensor:
        chance_S = np.clip(rng.random(raw.shape[1]), LEVELS[0], LEVELS[-1])
        above_S = np.clip(np.searchsorted(LEVELS, chance_S), 1, len(LEVELS) - 1)
        levels = np.array(LEVELS)
        share_S = (chance_S - levels[above_S - 1]) / (levels[above_S] - levels[above_S - 1])
        at_1S1 = torch.from_numpy(above_S).to(raw.device)[None, :, None].expand(*raw.shape[:2], 1)
        quantiles = self.of(raw)
        low, high = (quantiles.gather(2, at).squeeze(2) for at in (at_1S1 - 1, at_1S1))
        return low + torch.from_numpy(share_S).to(raw) * (high - low)

    def of(self, raw: Tensor) -> Tensor:
        """The quantiles [..., Q], increasing."""
        middle = LEVELS.index(0.5)
        steps = softplus(raw)
        below = steps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        above = steps[..., middle + 1 :].cumsum(-1)
        median = raw[..., middle : middle + 1]
        return torch.cat([median - below, median, median + above], dim=-1)


OUTPUTS: dict[str, type[Distribution]] = {
    "student_t": StudentT,
    "gaussian": Gaussian,
    "negative_binomial": NegativeBinomial,
    "quantiles": Quantiles,
}


def _positive(raw: Tensor) -> Tensor:
    return nn.functional.softplus(raw) + LEAST


class PenMixture:
    """The next pen point and pen lift: a mixture of M bivariate Gaussians with correlation, and two probabilities
    (Graves 2013, eq. 23 to 25): that the pen is lifted after the point, and, given a lift, that the piece ends.

    `raw` [..., 6 M + 2], unconstrained: M logits of the weights; 2 M means, 2 M deviations (softplus) and M
    correlations (tanh); the logits of the two probabilities.
    """

    def __init__(self, gaussians: int) -> None:
        self.gaussians, self.parameters = gaussians, 6 * gaussians + 2

    def loss(self, raw: Tensor, points: Tensor) -> Tensor:
        """−log p of points [..., 4]: dx, dy, lifted, last; float32 [...]. In nats, of the density in the points' unit.

        The term of the end counts only at lifts: a piece can't end elsewhere."""
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        log_weights, mean, deviation, correlation, lift, end = self.of(raw)
        away = (points[..., None, :2] - mean) / deviation
        # by the Cholesky factor: the quadratic form is a sum of squares, stable for correlations near 1
        left = torch.sqrt((1 - correlation) * (1 + correlation))
        across = (away[..., 1] - correlation * away[..., 0]) / left
        log_p = -0.5 * (away[..., 0] ** 2 + across**2) - deviation.log().sum(-1) - left.log() - math.log(2 * math.pi)
        lifted, last = points[..., 2], points[..., 3]
        chances = softplus(lift) - lifted * lift + lifted * (softplus(end) - last * end)
        return chances - torch.logsumexp(log_weights + log_p, dim=-1)

    def of(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Log weights [..., M], means and deviations [..., M, 2], correlations [..., M], and the logits [...] of a lift
        and of the end."""
        M = self.gaussians
        weights, mean, deviation, correlation, chances = raw.split([M, 2 * M, 2 * M, M, 2], dim=-1)
        return (
            torch.log_softmax(weights, dim=-1),
            mean.unflatten(-1, (M, 2)),
            softplus(deviation.unflatten(-1, (M, 2))) + LEAST_OF_PEN,
            MOST_CORRELATION * torch.tanh(correlation),
            *chances.unbind(-1),
        )

    def draw(self, raw_P: Tensor, rng: np.random.Generator, bias: float = 0.0) -> np.ndarray:
        """Sample a point, float64 [4]: dx, dy, lifted, last. A `bias` above 0 favours likely points (Graves 2013, eq.
        61 and 62): the logits of the weights are multiplied by 1 + bias, the deviations by e^−bias."""
        parts = [part.cpu().numpy() for part in self.of(raw_P.detach().double().cpu())]
        log_weights, mean, deviation, correlation, lift, end = parts
        weights = np.exp((1 + bias) * (log_weights - log_weights.max()))
        # always draw the same number of random numbers
        chosen, lifted, last = rng.random(3)
        first, second = rng.standard_normal(2)
        m = min(int(np.searchsorted(np.cumsum(weights) / weights.sum(), chosen, side="right")), self.gaussians - 1)
        rho = correlation[m]
        noise = np.array([first, rho * first + math.sqrt((1 - rho) * (1 + rho)) * second])
        place = mean[m] + math.exp(-bias) * deviation[m] * noise
        lift, end = 0.5 + 0.5 * np.tanh(0.5 * np.array([lift, end]))  # σ, in a form that can't overflow
        return np.array([*place, lifted < lift, lifted < lift and last < end], dtype=np.float64)
