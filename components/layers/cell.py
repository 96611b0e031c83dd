"""The base class of the RNN, GRU and LSTM layers: parameters named and ordered as in torch.nn, and backends.

Backends: `torch` runs torch's kernels (oneDNN or MKL on CPU, cuDNN on GPU); `by_hand` runs the Python kernels of
components.kernels, with one-hot inputs as row look-ups; `native` runs the same mathematics compiled from C++ (float32
on CPU; `by_hand` without a compiler); `auto` takes native where it applies and can be compiled, else torch, and by_hand
for one-hot inputs on the CPU. On a GPU that would launch hundreds of small operations: there one-hot vectors are
materialised for cuDNN, unless they are too large. `triton` runs the LSTM and the GRU on a GPU in kernels of this
project; `auto` takes it where it was measured faster. `Cell.backends` lists the backends that support a cell.

On the CPU every backend computes in the weights' precision, under autocast too: torch's LSTM in bfloat16 needs AVX-512
(oneDNN), and its GRU and RNN are slower in bfloat16 on every CPU. On a GPU, cuDNN runs them in bfloat16 under autocast
to bfloat16, and so do the kernels in Triton. Autocast alone would run them in float16, without loss scaling.

Recurrent dropout is DropConnect on weight_hh (Merity et al. 2018): in training, one mask is drawn per call of `forward`
and used for all steps of a window. With truncated BPTT each window draws a new mask.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from components.kernels.backends import native_applies, native_builds, triton_applies, triton_is_fastest
from components.kernels.function import recurrent
from components.layers.base import Recurrent, State, one_hot, zeros_like_parameters
from components.layers.ragged import packing

Backend = Literal["auto", "torch", "by_hand", "native", "triton"]
Size = Annotated[int, Field(gt=0, le=16384)]
Rate = Annotated[float, Field(ge=0, lt=1)]
WRITTEN_OUT = 1 << 28  # largest materialised one-hot input on a GPU, in numbers: 1 GiB
CUDNN_BFLOAT16 = 91300  # the first cuDNN with bfloat16 recurrent layers


class Cell(Recurrent):
    """One layer of a recurrent cell. G = gates × hidden_size rows, in torch.nn's order.

    `hidden_size`: size of the state h, which is the output at each step. `recurrent_dropout`: share of the recurrent
    weights dropped in training, drawn once per window (DropConnect, Merity et al. 2018). `backend`: implementation of
    the cell: torch, by_hand (the equations in Python), native (the same in C++) or triton (on a GPU; needs `pip install
    triton`); auto takes the one measured fastest.
    """

    gates: ClassVar[int]
    kernel: ClassVar[str]  # its name in components.kernels
    backends: tuple[str, ...] = ("torch", "by_hand", "native", "triton")  # in addition to auto
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    parameter_names: ClassVar[tuple[str, ...]] = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def __init__(
        self, input_size: int, /, *, hidden_size: Size = 256, recurrent_dropout: Rate = 0.0, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.backend, self.recurrent_dropout = backend, recurrent_dropout
        self.kernel_options: dict[str, Any] = {}
        self.torch_name = self.kernel  # name of torch's function: lstm, gru, rnn_tanh, rnn_relu
        rows = self.gates * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/√H, as in torch.nn; recurrent matrices orthogonal, which preserves the norm of early gradients
        over time (Saxe et al. 2014; Le et al. 2015)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            for block in self.weight_hh.chunk(self.gates):
                nn.init.orthogonal_(block)

    @property
    def parameters_by_name(self) -> dict[str, Tensor]:
        """weight_ih [G, I], weight_hh [G, H], bias_ih [G], bias_hh [G], in the order of torch's functions."""
        return {name: getattr(self, name) for name in self.parameter_names}

    def _used_parameters(self) -> dict[str, Tensor]:
        """The parameters for one call, after recurrent dropout."""
        parameters = self.parameters_by_name
        if self.training and self.recurrent_dropout:
            parameters["weight_hh"] = nn.functional.dropout(self.weight_hh, self.recurrent_dropout)
        return parameters

    def initial_state(self, batch_size: int) -> State:
        return {name: zeros_like_parameters(self, batch_size, self.hidden_size) for name in self.state_names}

    def _apply(self, fn: Any, recurse: bool = True) -> Cell:
        """As in torch's modules. On a GPU the weights are put into one buffer, so that cuDNN doesn't copy them at each
        call."""
        super()._apply(fn, recurse)
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        if self.weight_hh.is_cuda and "torch" in self.backends and torch.backends.cudnn.is_acceptable(self.weight_hh):
            mode = torch.backends.cudnn.rnn.get_cudnn_mode(self.torch_name.upper())
            with torch.no_grad():
                torch._cudnn_rnn_flatten_weight(
                    weights, len(weights), self.input_size, mode, self.hidden_size, 0, 1, True, False
                )
        return self

    def forward(
        self, x_BTI: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        state = self.initial_state(x_BTI.shape[0]) if state is None else state
        precision = self._precision(x_BTI.device)
        with torch.autocast(x_BTI.device.type, enabled=False):
            backend, parameters = self._backend_for(x_BTI, precision), self._used_parameters()
            if backend not in ("torch", "triton"):
                precision = self.weight_hh.dtype
            elif x_BTI.is_cuda and (precision != self.weight_hh.dtype or (self.training and self.recurrent_dropout)):
                parameters = _in_one_buffer(parameters, precision)
            if backend != "torch":
                x_BTI, _ = _cast(x_BTI, {}, precision)
                _, state = _cast(x_BTI, state, self.weight_hh.dtype)
                y_BTH, state = recurrent(
                    self.kernel, x_BTI, state, parameters, lengths_B, backend=backend, **self.kernel_options
                )
            elif lengths_B is None:
                y_BTH, state = self._torch(*_cast(self._written_out(x_BTI), state, precision), parameters)
            else:
                x_BTI, state = _cast(self._written_out(x_BTI), state, precision)
                y_BTH, state = self._torch_ragged(x_BTI, state, lengths_B, parameters)
            # states are kept in the weights' precision
            return _cast(y_BTH, state, self.weight_hh.dtype)

    def _precision(self, device: torch.device) -> torch.dtype:
        """The precision in which torch's kernels compute."""
        autocast = device.type == "cuda" and torch.is_autocast_enabled("cuda")
        if autocast and torch.get_autocast_dtype("cuda") == torch.bfloat16:
            return torch.bfloat16 if (torch.backends.cudnn.version() or 0) >= CUDNN_BFLOAT16 else self.weight_hh.dtype
        return self.weight_hh.dtype

    def _backend_for(self, x_BTI: Tensor, precision: torch.dtype) -> str:
        if self.backend == "native" and (x_BTI.shape[1] == 1 or not native_builds()):
            return "by_hand"  # single steps, for which packing the weights costs more; or no compiler
        if self.backend == "triton" and not triton_applies(x_BTI.device, self.training, "lstm"):
            return "by_hand"
        if self.backend == "auto" and native_applies(x_BTI, self.parameters_by_name, self.kernel_options):
            return "native"
        in_triton = self.backend == "auto" and "triton" in self.backends
        if in_triton and triton_is_fastest(x_BTI, self.weight_hh, precision, "torch" in self.backends):
            return "triton"
        if self.backend in ("auto", "torch"):
            return "torch" if self._torch_takes(x_BTI) else "by_hand"
        return self.backend

    def _torch_takes(self, x_BTI: Tensor) -> bool:
        written = x_BTI.shape[0] * x_BTI.shape[1] * self.input_size
        small = x_BTI.device.type != "cpu" and written <= WRITTEN_OUT
        return "torch" in self.backends and (x_BTI.is_floating_point() or small)

    def _written_out(self, x: Tensor) -> Tensor:
        """The one-hot vectors [B, T, I] of ids."""
        if x.is_floating_point():
            return x
        ids_BTS = x.unsqueeze(2) if x.dim() == 2 else x
        return one_hot(ids_BTS, self.input_size, self.weight_hh)

    def _torch(self, x_BTI: Tensor, state: State, parameters: dict[str, Tensor]) -> tuple[Tensor, State]:
        hx = [state[name].unsqueeze(0) for name in self.state_names]
        hx = hx if len(hx) > 1 else hx[0]
        run, weights = getattr(torch, self.torch_name), tuple(parameters.values())
        y_BTH, *last = run(x_BTI, hx, weights, True, 1, 0.0, self.training, False, True)
        return y_BTH, {name: value.squeeze(0) for name, value in zip(self.state_names, last, strict=True)}

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        if self._backend_for(x_BI.unsqueeze(1), self.weight_hh.dtype) != "torch":
            return super().step(x_BI, state)
        # torch's single-step function has a third of the overhead of the sequence function
        run = getattr(torch, f"{self.torch_name}_cell")
        with torch.autocast(x_BI.device.type, enabled=False):
            x_BI = self._written_out(x_BI.unsqueeze(1)).squeeze(1)
            x_BI, state = _cast(x_BI, state, self.weight_hh.dtype)
            hx = [state[name] for name in self.state_names]
            after = run(x_BI, hx if len(hx) > 1 else hx[0], *self._used_parameters().values())
        after = after if isinstance(after, tuple) else (after,)
        return after[0], dict(zip(self.state_names, after, strict=True))

    def _torch_ragged(
        self, x_BTI: Tensor, state: State, lengths_B: Tensor, parameters: dict[str, Tensor]
    ) -> tuple[Tensor, State]:
        # torch can't pack empty rows: they keep their state and output zeros
        pack = packing(lengths_B)
        packed = nn.utils.rnn.pack_padded_sequence(x_BTI[pack.order], pack.lengths, batch_first=True)
        hx = [state[name][pack.order].unsqueeze(0) for name in self.state_names]
        hx = hx if len(hx) > 1 else hx[0]
        run, weights = getattr(torch, self.torch_name), tuple(parameters.values())
        data, *last = run(packed.data, packed.batch_sizes, hx, weights, True, 1, 0.0, self.training, False)
        packed = nn.utils.rnn.PackedSequence(data, packed.batch_sizes)
        y_BTH, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=x_BTI.shape[1])
        y_BTH = y_BTH[pack.inverse].masked_fill(pack.empty_B1.unsqueeze(2), 0.0)
        after = {
            name: torch.where(pack.empty_B1, state[name], value.squeeze(0)[pack.inverse])
            for name, value in zip(self.state_names, last, strict=True)
        }
        return y_BTH, after


def _in_one_buffer(parameters: dict[str, Tensor], precision: torch.dtype) -> dict[str, Tensor]:
    """Copies in `precision` in one contiguous buffer, so that cuDNN doesn't copy them at each call."""
    flat = torch.cat([value.flatten() for value in parameters.values()]).to(precision)
    parts = flat.split([value.numel() for value in parameters.values()])
    return {name: part.view_as(value) for (name, value), part in zip(parameters.items(), parts, strict=True)}


def _cast(x: Tensor, state: State, precision: torch.dtype) -> tuple[Tensor, State]:
    """Input and state converted to `precision`; ids are left alone."""
    x = x.to(precision) if x.is_floating_point() else x
    return x, {name: value.to(precision) for name, value in state.items()}
