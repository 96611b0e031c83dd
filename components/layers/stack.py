"""A stack of recurrent layers of one cell, with dropout between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from components.kernels.sequence import zero_after_end
from components.layers.base import Recurrent, State, part_of
from components.layers.dropout import DropoutKind, make_dropout


class Stack(Recurrent):
    """Layer l reads the output of layer l − 1. State names begin with the layer: "0.h", "1.h" …

    `residual`: add a layer's input to its output (He et al. 2016; Wu et al. 2016 for recurrent layers), from the second
    layer on: the first one's input has another size, or is ids. `layer_norm`: normalise the input of each layer but the
    first, and the last output (Ba et al. 2016). The sums themselves aren't normalised: the pre-norm order, in which
    gradients pass the residual path unchanged (Xiong et al. 2020). `learn_initial_state`: make the initial states
    parameters, initialised to zero.
    """

    def __init__(
        self,
        layers: Sequence[Recurrent],
        /,
        *,
        dropout: float = 0.0,
        dropout_kind: DropoutKind = "plain",
        residual: bool = False,
        layer_norm: bool = False,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropout = make_dropout(dropout_kind, dropout)
        self.residual = residual
        self.norms = nn.ModuleList(nn.LayerNorm(layer.output_size) for layer in layers) if layer_norm else None
        self.causal = all(layer.causal for layer in layers)
        self.input_size, self.output_size = layers[0].input_size, layers[-1].output_size
        self.first_states: nn.ParameterList | None = None
        if learn_initial_state:
            self.first_states = nn.ParameterList(nn.Parameter(value) for value in self.initial_state(1).values())

    @classmethod
    def of(cls, make: Callable[[int], Recurrent], input_size: int, num_layers: int, /, **options: Any) -> Stack:
        """`num_layers` layers, each built by `make(input_size)`."""
        layers = [make(input_size)]
        while len(layers) < num_layers:
            layers.append(make(layers[-1].output_size))
        return cls(layers, **options)

    def initial_state(self, batch_size: int) -> State:
        state = {
            f"{index}.{name}": value
            for index, layer in enumerate(self.layers)
            for name, value in layer.initial_state(batch_size).items()
        }
        if self.first_states is not None:
            state = {
                name: first.expand(batch_size, *first.shape[1:]).contiguous()
                for name, first in zip(state, self.first_states, strict=True)
            }
        return state

    def forward(
        self, x_BTI: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        state = self.initial_state(x_BTI.shape[0]) if state is None else state
        y_BTO, state = self._through(lambda layer, x, part: layer(x, part, lengths_B), x_BTI, state)
        # a norm's bias would fill the padding
        return y_BTO if self.norms is None else zero_after_end(y_BTO, lengths_B), state

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        return self._through(lambda layer, x, part: layer.step(x, part), x_BI, state)

    def _through(self, run: Callable, x: Tensor, state: State) -> tuple[Tensor, State]:
        after: State = {}
        for index, layer in enumerate(self.layers):
            read = x if index == 0 else self.dropout(self._normed(index - 1, x))
            y, part = run(layer, read, part_of(state, str(index)))
            x = x + y if self.residual and index > 0 else y
            after |= {f"{index}.{name}": value for name, value in part.items()}
        return self._normed(-1, x), after

    def _normed(self, index: int, x: Tensor) -> Tensor:
        return x if self.norms is None else self.norms[index](x)
