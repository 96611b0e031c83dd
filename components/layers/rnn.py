"""The basic recurrent layer: h⟨t⟩ = g(W_ih x⟨t⟩ + b_ih + W_hh h⟨t−1⟩ + b_hh) (Elman 1990)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.layers.cell import Backend, Cell


class RNN(Cell):
    """g is tanh or relu."""

    gates = 1
    kernel = "rnn"

    def __init__(
        self,
        input_size: int,
        /,
        *,
        hidden_size: Annotated[int, Field(gt=0, le=16384)] = 256,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(input_size, hidden_size, backend)
        self.kernel_options = {"nonlinearity": nonlinearity}
        self.torch_name = f"rnn_{nonlinearity}"
