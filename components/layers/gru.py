"""The gated recurrent unit (Cho et al. 2014), reset after the product as in cuDNN; gate order r z n."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from components.layers.cell import Backend, Cell


class GRU(Cell):
    """h⟨t⟩ = (1 − z) ∘ n + z ∘ h⟨t−1⟩."""

    gates = 3
    kernel = "gru"

    def __init__(
        self,
        input_size: int,
        /,
        *,
        hidden_size: Annotated[int, Field(gt=0, le=16384)] = 256,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(input_size, hidden_size, backend)
