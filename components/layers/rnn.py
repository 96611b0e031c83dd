"""The basic recurrent layer: h⟨t⟩ = g(W_ih x⟨t⟩ + b_ih + W_hh h⟨t−1⟩ + b_hh) (Elman 1990)."""

from __future__ import annotations

from typing import Any, Literal

from components.layers.cell import Cell


class RNN(Cell):
    """`nonlinearity`: the function g, tanh or relu."""

    gates = 1
    kernel = "rnn"
    backends = ("torch", "by_hand", "native")

    def __init__(
        self,
        input_size: int,
        /,
        *,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        backend: Literal["auto", "torch", "by_hand", "native"] = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(input_size, backend=backend, **settings)
        self.kernel_options = {"nonlinearity": nonlinearity}
        self.torch_name = f"rnn_{nonlinearity}"
