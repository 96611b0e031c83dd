"""Attribution: how much each step of an input contributes to a model's outputs.

Shapes: N points of the path, T steps, I features of the first layer's input, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from components.errors import UserError
from components.models.backbone import Backbone
from components.models.ensemble import Ensemble

POINTS = (32, 128, 512, 2048)  # of the path: increased until the sums converge; max pooling has kinks, which need many
MOST_STEPS = 1 << 18  # limit of steps × points
CLOSE = 1e-3  # tolerance of the sum, relative to the sum of absolute contributions
NOISE = 1e-6  # float32 rounding, relative to the outputs
AT_ONCE = 1 << 23  # numbers in one batch


class Contributions(NamedTuple):
    """`values_OTI` sum to `sums_O`, approximately `at_input_O` − `at_zero_O`. All float64."""

    values_OTI: np.ndarray
    at_input_O: np.ndarray
    at_zero_O: np.ndarray

    @property
    def sums_O(self) -> np.ndarray:
        return self.values_OTI.sum(axis=(1, 2))


def first_inputs(model: Backbone | Ensemble, inputs: Tensor) -> Tensor:
    """The first layer's input, float [..., I]: embedded ids, one-hot vectors, or frames. For an ensemble, the embedded
    ids of all members, concatenated."""
    if isinstance(model, Ensemble):
        read = [first_inputs(member, inputs) for member in model.members]
        return torch.cat(read, dim=-1) if model.embeds else read[0]
    rows = model.rows(inputs)
    if rows.is_floating_point():
        return rows.detach()
    size = model.recurrent.input_size
    return torch.nn.functional.one_hot(rows, size).sum(dim=-2).to(next(model.parameters()).dtype)


def integrated_gradients(output: Callable[[Tensor], Tensor], x_TI: Tensor) -> Contributions:
    """Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv:1703.01365) along a straight line from zeros to the
    input: x · ∫ ∂F(αx)/∂x dα, α from 0 to 1, by Gauss–Legendre quadrature.

    `output` computes F, [N, O], for inputs [N, T, I]. The contributions of each output should sum to F(x) − F(0): if
    not, more points are used, up to a limit that depends on the input's length.

    Raises:
        UserError: they aren't finite numbers.
    """
    # cuDNN's recurrent layers have no backward pass in evaluation mode
    with torch.backends.cudnn.flags(enabled=False), np.errstate(invalid="ignore", over="ignore"):
        with torch.no_grad():
            ends_2O = output(torch.stack([torch.zeros_like(x_TI), x_TI])).double().cpu().numpy()
        for points in (points for points in POINTS if points == POINTS[0] or points * len(x_TI) <= MOST_STEPS):
            found = Contributions(_integral(output, x_TI, points, ends_2O.shape[1]), ends_2O[1], ends_2O[0])
            sizes_O, noise_O = np.abs(found.values_OTI).sum(axis=(1, 2)), NOISE * np.abs(ends_2O).max(axis=0)
            if (np.abs(found.sums_O - ends_2O[1] + ends_2O[0]) <= CLOSE * sizes_O + noise_O).all():
                break
    if not all(np.isfinite(array).all() for array in found):
        raise UserError(
            "the contributions are NaN or infinite", where="explain", hint="are the input's values too large?"
        )
    return found


def _integral(output: Callable[[Tensor], Tensor], x_TI: Tensor, points: int, outputs: int) -> np.ndarray:
    """[O, T, I], float64."""
    places, weights = np.polynomial.legendre.leggauss(points)  # on −1 … 1
    alphas_N = torch.from_numpy((places + 1) / 2).to(x_TI)
    weights_N = torch.from_numpy(weights / 2).to(x_TI.device)
    mean_OTI = torch.zeros(outputs, *x_TI.shape, dtype=torch.float64, device=x_TI.device)
    at_once = max(1, AT_ONCE // x_TI.numel())
    for start in range(0, points, at_once):
        part = slice(start, start + at_once)
        x_NTI = (alphas_N[part, None, None] * x_TI).requires_grad_()
        said_NO = output(x_NTI)
        for o in range(outputs):
            (gradient_NTI,) = torch.autograd.grad(said_NO[:, o].sum(), x_NTI, retain_graph=o + 1 < outputs)
            mean_OTI[o] += torch.einsum("n,nti->ti", weights_N, gradient_NTI.double())
    return (mean_OTI * x_TI.double()).cpu().numpy()
