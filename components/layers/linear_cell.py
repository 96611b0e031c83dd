"""The base class of minGRU and minLSTM, whose gates depend on the input only: all steps are computed in parallel.

The state follows h⟨t⟩ = a⟨t⟩ ∘ h⟨t−1⟩ + b⟨t⟩, where a and b don't depend on h: one product for the whole sequence, then
a scan (L. Feng et al., "Were RNNs all we needed?", arXiv:2410.01201). The gates see earlier steps only through the
layer below, so these cells need at least two layers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from components.kernels.backends import triton_applies, triton_measured
from components.kernels.sequence import steps_alive, zero_after_end
from components.layers.base import Recurrent, State, product, zeros_like_parameters
from components.layers.cell import Size
from components.layers.scan import linear_scan

Backend = Literal["auto", "torch", "triton"]


class LinearCell(Recurrent):
    """G = gates × hidden_size rows of weight_ih [G, I] and bias_ih [G]; state h.

    `hidden_size`: size of h, which is the output at each step. `backend`: implementation of the scan: torch, or triton,
    one kernel for all steps on a GPU (needs `pip install triton`); auto takes the one measured faster.
    """

    gates: ClassVar[int]
    backends = ("torch", "triton")  # in addition to auto

    def __init__(self, input_size: int, /, *, hidden_size: Size = 256, backend: Backend = "auto") -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.backend = backend
        self.weight_ih = nn.Parameter(torch.empty(self.gates * hidden_size, input_size))
        self.bias_ih = nn.Parameter(torch.empty(self.gates * hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/√I, as in torch.nn.Linear."""
        bound = 1 / math.sqrt(self.input_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    @abstractmethod
    def coefficients(self, gates: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """a and b of all steps, given the input products, one [T, B, H] per gate."""

    def initial_state(self, batch_size: int) -> State:
        return {"h": zeros_like_parameters(self, batch_size, self.hidden_size)}

    def forward(
        self, x_BTI: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        h_BH = (self.initial_state(x_BTI.shape[0]) if state is None else state)["h"]
        # the state's precision: under autocast the product is in half precision
        gates_TBG = product(zero_after_end(x_BTI, lengths_B), self.weight_ih, self.bias_ih).to(h_BH.dtype)
        a_TBH, b_TBH = self.coefficients(gates_TBG.chunk(self.gates, dim=2))
        alive_TB1 = steps_alive(lengths_B, x_BTI.shape[1])
        if alive_TB1 is not None:  # the state of an ended row doesn't change
            a_TBH, b_TBH = a_TBH.masked_fill(~alive_TB1, 1), b_TBH.masked_fill(~alive_TB1, 0)
        h_TBH = self._scan(a_TBH, b_TBH, h_BH)
        y_BTH = zero_after_end(h_TBH.transpose(0, 1), lengths_B)
        return y_BTH, {"h": h_TBH[-1] if len(h_TBH) else h_BH}

    def _scan(self, a_TBH: Tensor, b_TBH: Tensor, h_BH: Tensor) -> Tensor:
        chosen = self.backend == "triton" and triton_applies(h_BH.device, self.training)
        if chosen or (self.backend == "auto" and triton_measured(h_BH.device, h_BH.dtype, "scan")):
            from components.kernels import triton_scan

            return triton_scan.linear_scan(a_TBH, b_TBH, h_BH)
        return linear_scan(a_TBH, b_TBH, h_BH)


def positive(x: Tensor) -> Tensor:
    """The paper's g: x + ½ where x ≥ 0, else σ(x). Keeps candidates positive (its appendix B)."""
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))
