"""The interface of recurrent layers.

Shapes: B batch, T time, I input features, O output features, S one-hot streams. A state is a flat dict of batch-first
tensors. Beam search can reorder it, truncated backpropagation can detach it, and a server can store it without knowing
the cell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


def detach(state: State) -> State:
    """Detach the state from the graph: the truncation of truncated backpropagation through time."""
    return {name: value.detach() for name, value in state.items()}


def part_of(state: State | None, name: str) -> State | None:
    """The state of one part of a composite layer: the entries under "name.", without that prefix."""
    prefix = f"{name}."
    return None if state is None else {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


class Recurrent(nn.Module, ABC):
    """Base class of recurrent layers: a map from a sequence and a state to a sequence and a state.

    Inputs are floats x_BTI, or int64 ids_BTS: S one-hot vectors stacked into one of size `input_size`, given by
    the index of each 1. One-hot products are computed as row look-ups.

    Requirements (tests/layers/test_recurrent_contract.py checks every registered cell): a whole sequence gives the same
    as its steps; a cut anywhere with the state carried over changes nothing; a given state is used; padding changes
    nothing, the final state included; outputs don't depend on the future; rows are independent; every parameter gets a
    gradient; gradients equal finite differences. A layer that reads the future has `causal = False`: it has no `step`,
    and a cut changes its outputs.
    """

    causal: bool = True
    backends: tuple[str, ...] = ()  # implementations to choose from, if there are several
    input_size: int
    output_size: int

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state before the first step, on the parameters' device."""

    @abstractmethod
    def forward(
        self, x_BTI: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """y_BTO and the state after each row's last step.

        `lengths_B` (0 to T) marks the end of each row: outputs after it are 0, and the state is the one at the row's
        end. Without it every row is T long.
        """

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        """One time step: y_BO and the next state."""
        y_BTO, state = self.forward(x_BI.unsqueeze(1), state)
        return y_BTO.squeeze(1), state


def check_settings(cell: Callable[..., Recurrent], settings: Mapping[str, Any]) -> None:
    """Build a cell on the meta device, to check its settings.

    Raises:
        UserError: the cell rejects its settings.
    """
    with torch.device("meta"):
        cell(1, **settings)


def zeros_like_parameters(module: nn.Module, batch_size: int, size: int) -> Tensor:
    """A zero state [batch_size, size] with the module's type and device."""
    parameter = next(module.parameters())
    return torch.zeros(batch_size, size, dtype=parameter.dtype, device=parameter.device)


def product(x_BTI: Tensor, weight_ih: Tensor, bias_ih: Tensor) -> Tensor:
    """W_ih x⟨t⟩ + b_ih of all steps, [T, B, G]; for ids, by row look-up."""
    if x_BTI.is_floating_point():
        return nn.functional.linear(x_BTI.transpose(0, 1), weight_ih, bias_ih)
    B, T = x_BTI.shape[:2]
    ids_NS = x_BTI.transpose(0, 1).reshape(T * B, -1)
    rows_NG = nn.functional.embedding_bag(ids_NS, weight_ih.t().contiguous(), mode="sum")
    return rows_NG.view(T, B, -1) + bias_ih


def one_hot(ids: Tensor, size: int, like: Tensor) -> Tensor:
    """The one-hot vectors of ids [..., S], stacked: [..., size], with the type and device of `like`."""
    return like.new_zeros(*ids.shape[:-1], size).scatter_(-1, ids, 1.0)


def widen_one_hot(layer: nn.Module) -> None:
    """Initialise the input weights of a layer that reads one-hot vectors uniformly in ±1. Only one entry of each is 1:
    the fan-in is the number of streams, not the vocabulary's size."""
    for name, parameter in layer.named_parameters():
        if name.endswith("weight_ih"):
            nn.init.uniform_(parameter, -1.0, 1.0)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to a device. Copies from the CPU to a GPU use pinned memory, so the CPU doesn't wait."""
    pinned = device.type == "cuda" and tensor.device.type == "cpu"
    return tensor.pin_memory().to(device, non_blocking=True) if pinned else tensor.to(device)


def steps_where(y_BTX: Tensor, mask_BT: Tensor) -> Tensor:
    """The steps [N, X] of a sequence, on any device, where a mask on the CPU is true. With a mask on a GPU, the CPU
    would have to wait to know N."""
    return y_BTX[moved(mask_BT.nonzero(), y_BTX.device).unbind(1)]
