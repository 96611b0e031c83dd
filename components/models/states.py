"""What a model computes on the way to its answer: the vectors that its layers read and write.

Shapes: T steps, E features that the first layer reads, H outputs of a layer.
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
    """Whether `watched` can tell: of a graph it can't."""
    reader = getattr(model, "encoder", model)
    return isinstance(reader, Backbone) and isinstance(reader.recurrent, Stack)


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """While the context is open, what a model that reads one sequence at a time computes is kept by name: `embedding`
    [T, E], what the first layer reads (none of one-hot ids: they are no vectors); `layer_1` … [T, H], what each layer
    writes, its hidden states (of two directions forward's, then backward's); `pooled` [H], the one vector of the whole
    sequence, where the model makes one. Of an encoder-decoder they are the encoder's.
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
    """What `watched` kept, as float32 arrays."""
    return {name: value.float().cpu().numpy() for name, value in found.items()}
