"""Spectral radius and largest singular value of recurrent weights.

H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from components.layers.base import Recurrent
from components.layers.cell import Cell

SQUARINGS = 12  # W^4096
CANDIDATE = {"rnn": 0, "gru": 2, "lstm": 2}  # the gate block of the candidate: the only one, n, g


def weight_figures(layer: Recurrent) -> dict[str, float]:
    """`spectral_radius`, `spectral_radius_max` and `singular_max` of a cell's W_hh. Empty for other layers and for
    non-finite weights (for which MKL would print messages)."""
    if not isinstance(layer, Cell) or not layer.weight_hh.isfinite().all():
        return {}
    blocks = layer.weight_hh.detach().double().chunk(layer.gates)
    singular_G = torch.stack([torch.linalg.matrix_norm(block, 2) for block in blocks])
    squared_G2S = torch.stack([_squared(block) for block in blocks])
    # read at once: each read synchronises with a GPU
    read = torch.cat([singular_G[:, None], squared_G2S.flatten(1)], dim=1).tolist()
    radii = [_radius(row[1 : SQUARINGS + 2], row[SQUARINGS + 2 :]) for row in read]
    figures = {"spectral_radius_max": max(radii), "singular_max": max(row[0] for row in read)}
    if layer.kernel in CANDIDATE:
        figures["spectral_radius"] = radii[CANDIDATE[layer.kernel]]
    return figures


def spectral_radius(matrix_HH: Tensor) -> float:
    """The largest |eigenvalue| by Gelfand's formula, ‖Wⁿ‖^(1/n) with n = 2¹². It is cheap, because it needs no
    eigendecomposition."""
    return _radius(*_squared(matrix_HH).tolist())


def _squared(matrix_HH: Tensor) -> Tensor:
    """The norms of W, W², W⁴ … [0], each power normalised before squaring, and their logarithms [1]."""
    power, norms = matrix_HH, []
    for _ in range(SQUARINGS + 1):
        norms.append(power.norm())
        power = power / norms[-1]  # prevents overflow
        power = power @ power
    norms_S = torch.stack(norms)
    return torch.stack([norms_S, norms_S.log()])


def _radius(norms: Sequence[float], logs: Sequence[float]) -> float:
    logarithm = 0.0
    for squaring, (norm, log) in enumerate(zip(norms, logs, strict=True)):
        if not norm > 0 or not math.isfinite(norm):
            return norm
        logarithm += log / 2**squaring
    return math.exp(logarithm)
