"""A model's hidden states: the inputs and outputs of its layers.

Shapes: T steps, E features of the first layer's input, H outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from torch import Tensor, nn

from components.layers.stack import Stack
from components.models.backbone import Backbone
from components.models.pooled import Pooled


def has_states(model: nn.Module) -> bool:
    """Whether `watched` supports the model. Graphs aren't supported."""
    reader = getattr(model, "encoder", model)
    return isinstance(reader, Backbone) and isinstance(reader.recurrent, Stack)


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """While the context is open, record by name what the model computes for one sequence: `embedding` [T, E], the first
    layer's input (not for one-hot ids); `layer_1` … [T, H], the hidden states of each layer (forward, then backward, if
    bidirectional); `pooled` [H], the vector of the whole sequence, if the model computes one. For an encoder-decoder,
    those of the encoder.
    """
    reader = getattr(model, "encoder", model)
    found: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        if value.is_floating_point() and name not in found:
            found[name] = value[0].detach()

    hooks = [reader.recurrent.register_forward_pre_hook(lambda _, given: keep("embedding", given[0]))]
    for number, layer in enumerate(reader.recurrent.layers, 1):
        name = f"layer_{number}"
        hooks.append(layer.register_forward_hook(lambda _, given, made, name=name: keep(name, made[0])))
    if isinstance(reader, Pooled):
        hooks.append(reader.head.register_forward_pre_hook(lambda _, given: keep("pooled", given[0])))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def arrays(found: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The tensors recorded by `watched`, as float32 arrays."""
    return {name: value.float().cpu().numpy() for name, value in found.items()}
