"""What the recurrent weights alone say about the gradient: spectral radius and largest singular value.

H hidden.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from components.layers.base import Recurrent
from components.layers.cell import Cell

SQUARINGS = 12  # W^4096
CANDIDATE = {"rnn": 0, "gru": 2, "lstm": 2}  # the gate block that writes new content: all of it, n, g


def weight_figures(layer: Recurrent) -> dict[str, float]:
    """`spectral_radius`, `spectral_radius_max` and `singular_max` of a cell's W_hh; nothing of other layers, and of
    weights that aren't finite, about which MKL would print lines of its own."""
    if not isinstance(layer, Cell) or not layer.weight_hh.isfinite().all():
        return {}
    blocks = layer.weight_hh.detach().double().chunk(layer.gates)
    radii = [spectral_radius(block) for block in blocks]
    singular = max(float(torch.linalg.matrix_norm(block, 2)) for block in blocks)
    figures = {"spectral_radius_max": max(radii), "singular_max": singular}
    if layer.kernel in CANDIDATE:
        figures["spectral_radius"] = radii[CANDIDATE[layer.kernel]]
    return figures


def spectral_radius(matrix_HH: Tensor) -> float:
    """The largest |eigenvalue| by Gelfand's formula, ‖Wⁿ‖^(1/n) with n = 2¹²: no eigendecomposition, so it is cheap."""
    power, logarithm = matrix_HH, 0.0
    for squaring in range(SQUARINGS + 1):
        norm = power.norm()
        if not norm > 0 or not torch.isfinite(norm):
            return float(norm)
        logarithm += float(norm.log()) / 2**squaring
        power = power / norm  # else it would overflow
        power = power @ power
    return math.exp(logarithm)
