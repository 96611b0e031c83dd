"""‖∂L/∂h⟨t⟩‖ of every recurrent layer for any loss, recorded by the kernels' backward pass or computed step by step.

B batch, T time, H hidden.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from components.kernels.function import recurrent
from components.layers.base import Recurrent, State
from components.layers.cell import Cell

Way = Literal["by_hand", "steps"]
Run = tuple[Tensor, State]


def recurrent_layers(model: nn.Module) -> dict[str, Recurrent]:
    """The layers with a state, by their path in the model without common prefixes and suffixes."""
    found = {path: layer for path, layer in model.named_modules() if isinstance(layer, Recurrent) and _keeps(layer)}
    paths = [path.split(".") for path in found]
    while len(paths) > 1 and all(path[:1] == paths[0][:1] for path in paths):
        paths = [path[1:] for path in paths]
    while len(paths) > 1 and all(path[-1:] == paths[0][-1:] for path in paths):
        paths = [path[:-1] for path in paths]
    return dict(zip((".".join(path) for path in paths), found.values(), strict=True))


def probes(model: nn.Module) -> bool:
    """Whether the model can be probed: it has recurrent layers, none reads the future, and each reads a whole sequence
    at once."""
    layers = [module for module in model.modules() if isinstance(module, Recurrent)]
    return bool(layers) and all(layer.causal for layer in layers) and getattr(model, "at_once", True)


def state_gradients(
    model: nn.Module, loss: Callable[[], Tensor], *, way: Way | None = None
) -> dict[str, tuple[Way, np.ndarray]]:
    """‖∂L/∂h⟨t⟩‖ of every recurrent layer, over all paths from h⟨t⟩ to the loss: float [T, B].

    "by_hand" is recorded by the kernels' backward pass. "steps" runs a layer one step at a time, and autograd computes
    the gradient of a zero added to each h⟨t⟩. It is slower and works for any layer whose state has an h (otherwise its
    first entry is used). If a layer's output isn't its h, the path through the output of the same step is left out. For
    a layer that is called twice in one forward pass, the last call is recorded.
    """
    seen: dict[str, tuple[Way, Tensor, Tensor]] = {}  # way, the tensor to differentiate by, the tensor of the result

    def replace(name: str) -> Callable[..., Run]:
        def hook(layer: Recurrent, args: tuple, kwargs: dict[str, Any], _: Run) -> Run:
            call = inspect.signature(layer.forward).bind(*args, **kwargs)
            x, state, lengths = (*call.arguments.values(), None, None)[:3]
            own = way or ("by_hand" if isinstance(layer, Cell) else "steps")
            run = _by_hand if own == "by_hand" else _by_steps
            result, asked, answer = run(layer, x, state or layer.initial_state(len(x)), lengths)
            seen[name] = (own, asked, answer)
            return result

        return hook

    hooks = [
        layer.register_forward_hook(replace(name), with_kwargs=True) for name, layer in recurrent_layers(model).items()
    ]
    try:
        total = loss()
    finally:
        for handle in hooks:
            handle.remove()
    gradients = torch.autograd.grad(total, [asked for _, asked, _ in seen.values()], allow_unused=True)
    answers = [
        gradient.norm(dim=2) if own == "steps" and gradient is not None else answer
        for (own, _, answer), gradient in zip(seen.values(), gradients, strict=True)
    ]
    if not answers:
        return {}
    # read at once: each read synchronises with a GPU
    read = torch.cat([answer.detach().double().flatten() for answer in answers]).cpu()
    parts = read.split([answer.numel() for answer in answers])
    return {
        name: (own, part.view(answer.shape).numpy())
        for (name, (own, _, _)), answer, part in zip(seen.items(), answers, parts, strict=True)
    }


def _by_hand(layer: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Run, Tensor, Tensor]:
    record_TB = layer.weight_hh.new_zeros(x.shape[1], len(x))
    # requesting ∂L/∂h⟨0⟩ makes autograd run the backward pass even if no parameter is trained
    start = {name: value.detach().requires_grad_() for name, value in state.items()}
    result = recurrent(
        layer.kernel, x, start, layer.parameters_by_name, lengths, record=record_TB, **layer.kernel_options
    )
    return result, next(iter(start.values())), record_TB


def _by_steps(layer: Recurrent, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Run, Tensor, Tensor]:
    (B, T), main = x.shape[:2], "h" if "h" in state else next(iter(state))
    nudge_TBH = torch.zeros(T, *state[main].shape, dtype=state[main].dtype, device=x.device, requires_grad=True)
    outputs = []
    for t in range(T):
        alive_B = None if lengths is None else (lengths - t).clamp(0, 1)
        y_BTO, state = layer.forward(x[:, t : t + 1], state, alive_B)
        nudge_BH = nudge_TBH[t] if alive_B is None else nudge_TBH[t] * alive_B[:, None]
        h_BH = state[main] if alive_B is None else state[main] * alive_B[:, None]
        if y_BTO[:, 0].shape == h_BH.shape:
            is_h = (y_BTO[:, 0] == h_BH).all()  # kept as a tensor, to avoid synchronising with a GPU at every step
            y_BTO = y_BTO + nudge_BH[:, None] * is_h
        state = {**state, main: state[main] + nudge_BH}
        outputs.append(y_BTO)
    return (torch.cat(outputs, dim=1), state), nudge_TBH, nudge_TBH.new_zeros(T, B)


def _keeps(layer: Recurrent) -> bool:
    return not any(isinstance(part, Recurrent) for part in list(layer.modules())[1:])
