"""What the RNN, GRU and LSTM layers share: parameters named and ordered as in torch.nn, and three backends.

`torch` runs torch's own kernels (oneDNN or MKL on CPU, cuDNN on GPU); `by_hand` runs components.kernels, which can be
read and takes one-hot inputs as row look-ups; `native` runs the same mathematics compiled from C++ (float32 on CPU);
`auto` takes native where it applies and can be compiled, else torch, and by_hand for one-hot inputs, which torch
would need written out.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from components.kernels.backends import native_applies
from components.kernels.function import recurrent
from components.layers.base import Recurrent, State, zeros_like_parameters

Backend = Literal["auto", "torch", "by_hand", "native"]


class Cell(Recurrent):
    """One layer of one recurrent cell. G = gates × hidden_size rows, in torch.nn's order."""

    gates: ClassVar[int]
    kernel: ClassVar[str]  # its name in components.kernels
    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, input_size: int, hidden_size: int, backend: Backend) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.backend = backend
        self.kernel_options: dict[str, str] = {}
        self.torch_name = self.kernel  # of torch's function: lstm, gru, rnn_tanh, rnn_relu
        rows = self.gates * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/√H, as torch.nn; the recurrent matrices orthogonal, so that early gradients keep their
        norm over time (Saxe et al. 2014; Le et al. 2015)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            for block in self.weight_hh.chunk(self.gates):
                nn.init.orthogonal_(block)

    @property
    def parameters_by_name(self) -> dict[str, Tensor]:
        """weight_ih [G, I], weight_hh [G, H], bias_ih [G], bias_hh [G]: the order torch's functions take them in."""
        return dict(self.named_parameters(recurse=False))

    def initial_state(self, batch_size: int) -> State:
        return {name: zeros_like_parameters(self, batch_size, self.hidden_size) for name in self.state_names}

    def forward(
        self, x_BTI: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        state = self.initial_state(x_BTI.shape[0]) if state is None else state
        backend = self._backend_for(x_BTI)
        if backend == "torch":
            return self._torch(x_BTI, state) if lengths_B is None else self._torch_ragged(x_BTI, state, lengths_B)
        options = self.kernel_options
        return recurrent(self.kernel, x_BTI, state, self.parameters_by_name, lengths_B, backend=backend, **options)

    def _backend_for(self, x_BTI: Tensor) -> str:
        if self.backend == "native" and x_BTI.shape[1] == 1:
            return "by_hand"  # a single step; packing the weights for it would cost more than the step
        if self.backend == "auto" and native_applies(x_BTI, self.parameters_by_name, self.kernel_options):
            return "native"
        if self.backend in ("auto", "torch"):
            return "torch" if x_BTI.is_floating_point() else "by_hand"
        return self.backend

    def _torch(self, x_BTI: Tensor, state: State) -> tuple[Tensor, State]:
        hx = [state[name].unsqueeze(0) for name in self.state_names]
        hx = hx if len(hx) > 1 else hx[0]
        run, parameters = getattr(torch, self.torch_name), tuple(self.parameters_by_name.values())
        y_BTH, *last = run(x_BTI, hx, parameters, True, 1, 0.0, self.training, False, True)
        return y_BTH, {name: value.squeeze(0) for name, value in zip(self.state_names, last, strict=True)}

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        if self._backend_for(x_BI.unsqueeze(1)) != "torch":
            return super().step(x_BI, state)
        hx = [state[name] for name in self.state_names]
        # torch's function for one step has a third of the whole-sequence function's overhead
        run = getattr(torch, f"{self.torch_name}_cell")
        after = run(x_BI, hx if len(hx) > 1 else hx[0], *self.parameters_by_name.values())
        after = after if isinstance(after, tuple) else (after,)
        return after[0], dict(zip(self.state_names, after, strict=True))

    def _torch_ragged(self, x_BTI: Tensor, state: State, lengths_B: Tensor) -> tuple[Tensor, State]:
        # torch packs rows of at least one step, longest first; an empty row keeps its state and outputs zeros
        lengths = lengths_B.to("cpu", torch.int64)
        order = torch.argsort(lengths, descending=True, stable=True)
        inverse = torch.argsort(order).to(x_BTI.device)
        rows = order.to(x_BTI.device)
        packed = nn.utils.rnn.pack_padded_sequence(x_BTI[rows], lengths[order].clamp(min=1), batch_first=True)
        hx = [state[name][rows].unsqueeze(0) for name in self.state_names]
        hx = hx if len(hx) > 1 else hx[0]
        run, parameters = getattr(torch, self.torch_name), tuple(self.parameters_by_name.values())
        data, *last = run(packed.data, packed.batch_sizes, hx, parameters, True, 1, 0.0, self.training, False)
        packed = nn.utils.rnn.PackedSequence(data, packed.batch_sizes)
        y_BTH, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=x_BTI.shape[1])
        empty_B1 = (lengths == 0).to(x_BTI.device).unsqueeze(1)
        y_BTH = y_BTH[inverse].masked_fill(empty_B1.unsqueeze(2), 0.0)
        after = {
            name: torch.where(empty_B1, state[name], value.squeeze(0)[inverse])
            for name, value in zip(self.state_names, last, strict=True)
        }
        return y_BTH, after
