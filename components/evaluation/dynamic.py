"""Dynamic evaluation: the model keeps learning from the test text, from each part after it was scored (Krause et al.
2018, arXiv:1709.07432).

θ ← θ − rate · g / (s + s̄) + decay · s / s̄ · (θ₀ − θ), with g the gradient of the part just scored, θ₀ the trained
weights, s the root mean square of each weight's gradient over the training data, and s̄ its mean over all weights. The
paper divides by s + ε, with a constant ε; here the scale of the gradients sets it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.batches.truncated import Batch, Batches
from components.encodings.vocabulary import PAD
from components.layers.base import State, detach
from components.tasks.base import to_device
from components.tasks.surprise import judged

MOST_WINDOWS = 100  # of the training data, evenly spaced, to estimate gradient sizes


class Adaptation(NamedTuple):
    """Settings: the rate, the decay towards the trained weights, and `sizes`, s of each trained parameter."""

    sizes: list[Tensor]
    rate: float
    decay: float


def trained_parameters(model: nn.Module) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def gradient_sizes(model: nn.Module, batches: Batches) -> list[Tensor]:
    """The root mean square of each parameter's gradient over windows of the training data. States are carried between
    adjacent windows only."""
    parameters, count = trained_parameters(model), batches.count(0)
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    chosen = sorted({round(at) for at in np.linspace(0, count - 1, min(count, MOST_WINDOWS))})
    for index in chosen:
        gradients, _, _ = _window(model, batches.at(0, index), None, parameters)
        torch._foreach_addcmul_(sums, gradients, gradients)
    return [(total / len(chosen)).sqrt() for total in sums]


def dynamic_nats(model: nn.Module, batches: Batches, adaptation: Adaptation) -> Tensor:
    """Nats, float64 [N], of each token of a text, read as one row. Each window is scored with the weights adapted to
    the windows before it, and then learned. The model's weights are restored at the end."""
    parameters = trained_parameters(model)
    trained = [parameter.detach().clone() for parameter in parameters]
    mean = sum(size.sum() for size in adaptation.sizes) / sum(size.numel() for size in adaptation.sizes)
    scales = [1 / (size + mean) for size in adaptation.sizes]
    pulls = [(adaptation.decay * size / mean).clamp(max=1.0) for size in adaptation.sizes]
    found: list[Tensor] = []
    state: State | None = None
    try:
        for batch in batches.epoch():
            gradients, nats_N, state = _window(model, batch, state, parameters)
            found.append(nats_N)
            with torch.no_grad():
                away = torch._foreach_sub(trained, parameters)
                torch._foreach_addcmul_(parameters, gradients, scales, value=-adaptation.rate)
                torch._foreach_addcmul_(parameters, away, pulls)
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, trained)
    return torch.cat(found).double()


def _window(
    model: nn.Module, batch: Batch, state: State | None, parameters: list[Tensor]
) -> tuple[list[Tensor], Tensor, State]:
    """The gradients of the mean nats of a window's counted tokens, these nats, and the next state."""
    inputs_BTS, targets_BT = to_device(batch.inputs_BTS, model), to_device(batch.targets_BT, model)
    with torch.enable_grad():
        nats_BT, _, state = judged(model, inputs_BTS, targets_BT, state)
        nats_N = nats_BT[targets_BT != PAD]
        gradients = torch.autograd.grad(nats_N.mean(), parameters, allow_unused=True, materialize_grads=True)
    return list(gradients), nats_N.detach(), detach(state)
