"""The gated recurrent unit (Cho et al. 2014); gate order r z n."""

from __future__ import annotations

from typing import Any

from components.errors import UserError
from components.layers.cell import Cell


class GRU(Cell):
    """h⟨t⟩ = (1 − z) ∘ n + z ∘ h⟨t−1⟩.

    `reset_after`: where the reset gate acts: on the product W_hn h⟨t−1⟩ (torch and cuDNN) or, if false, on h⟨t−1⟩, as
    in the published paper and the course; only the backends by_hand and triton support the latter.
    """

    gates = 3
    kernel = "gru"

    def __init__(self, input_size: int, /, *, reset_after: bool = True, **settings: Any) -> None:
        super().__init__(input_size, **settings)
        self.kernel_options = {"reset_after": reset_after}
        if not reset_after:
            self.backends = ("by_hand", "triton")
        if self.backend not in ("auto", *self.backends):
            raise UserError(
                f"the backend {self.backend} doesn't support reset_after: false",
                where="model.backend",
                hint="set model.backend: auto, by_hand or triton, or model.reset_after: true",
            )
