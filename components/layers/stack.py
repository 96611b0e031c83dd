"""Deep: layers of one cell on top of each other, with dropout between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from components.layers.base import Recurrent, State


class Stack(Recurrent):
    """Layer l reads what layer l − 1 writes. State names carry the layer: "0.h", "1.h" …"""

    def __init__(self, layers: Sequence[Recurrent], /, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)
        self.input_size, self.output_size = layers[0].input_size, layers[-1].output_size

    @classmethod
    def of(
        cls, make: Callable[[int], Recurrent], input_size: int, num_layers: int, /, *, dropout: float = 0.0
    ) -> Stack:
        """`num_layers` layers that `make(input_size)` builds."""
        layers = [make(input_size)]
        while len(layers) < num_layers:
            layers.append(make(layers[-1].output_size))
        return cls(layers, dropout=dropout)

    def initial_state(self, batch_size: int) -> State:
        return {
            f"{index}.{name}": value
            for index, layer in enumerate(self.layers)
            for name, value in layer.initial_state(batch_size).items()
        }

    def forward(
        self, x_BTI: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return self._through(lambda layer, x, part: layer(x, part, lengths_B), x_BTI, state)

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        return self._through(lambda layer, x, part: layer.step(x, part), x_BI, state)

    def _through(self, run: Callable, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        after: State = {}
        for index, layer in enumerate(self.layers):
            prefix = f"{index}."
            part = None
            if state is not None:
                part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            x, part = run(layer, x if index == 0 else self.dropout(x), part)
            after |= {prefix + name: value for name, value in part.items()}
        return x, after
