"""The base class of the Mogrifier LSTM, the sLSTM and the mLSTM: a loop over steps, differentiated by autograd."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from components.errors import UserError
from components.kernels.sequence import steps_alive, zero_after_end
from components.layers.base import Recurrent, State, zeros_like_parameters
from components.layers.cell import Rate, Size


class SteppedCell(Recurrent):
    """G = gates × hidden_size rows of weight_ih [G, I], weight_hh [G, H / heads] and bias_ih [G]; or `rows` rows,
    without weight_hh. Implemented in torch operations only, so there is no `backend`. Computes in the weights'
    precision, under autocast too. `hidden_size`: size of the output at each step. `recurrent_dropout`: share of the
    recurrent weights dropped in training, drawn once per window (DropConnect, Merity et al. 2018).
    """

    gates: ClassVar[int]
    state_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        input_size: int,
        heads: int = 1,
        rows: int = 0,
        /,
        *,
        hidden_size: Size = 256,
        recurrent_dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        if hidden_size % heads:
            what = f"model.hidden_size {hidden_size} isn't divisible by {heads} heads"
            raise UserError(what, where="model.heads", hint="choose a divisor of model.hidden_size")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.recurrent_dropout = recurrent_dropout
        G = rows or self.gates * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(G, input_size))
        self.weight_hh = None if rows else nn.Parameter(torch.empty(G, hidden_size // heads))
        self.bias_ih = nn.Parameter(torch.empty(G))
        bound = 1 / math.sqrt(hidden_size)
        nn.init.uniform_(self.weight_ih, -bound, bound)
        nn.init.uniform_(self.bias_ih, -bound, bound)
        if self.weight_hh is not None:
            with torch.no_grad():
                for block in self.weight_hh.split(hidden_size // heads):  # one gate and one head, as in `Cell`
                    nn.init.orthogonal_(block)

    def initial_state(self, batch_size: int) -> State:
        return {name: zeros_like_parameters(self, batch_size, self.hidden_size) for name in self.state_names}

    def forward(
        self, x_BTI: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        state = self.initial_state(x_BTI.shape[0]) if state is None else state
        precision = self.weight_ih.dtype
        with torch.autocast(x_BTI.device.type, enabled=False):
            state = {name: value.to(precision) for name, value in state.items()}
            x_BTI = zero_after_end(x_BTI, lengths_B)
            x_TBX = self.read(x_BTI.to(precision) if x_BTI.is_floating_point() else x_BTI)
            weight_hh = self.weight_hh
            if weight_hh is not None:
                weight_hh = dropout(weight_hh, self.recurrent_dropout, self.training)
            alive_TB1 = steps_alive(lengths_B, len(x_TBX))
            outputs = []
            for t, x_BX in enumerate(x_TBX.unbind()):
                y_BH, after = self.advance(x_BX, state, weight_hh)
                if alive_TB1 is not None:  # the state of an ended row doesn't change
                    after = {name: torch.where(alive_TB1[t], value, state[name]) for name, value in after.items()}
                state = after
                outputs.append(y_BH)
            y_BTH = torch.stack(outputs, dim=1) if outputs else x_TBX.new_zeros(len(x_BTI), 0, self.hidden_size)
            return zero_after_end(y_BTH, lengths_B), state

    @abstractmethod
    def read(self, x_BTI: Tensor) -> Tensor:
        """The part computed for all steps at once, [T, B, X], from floats [B, T, I] or ids [B, T, S]."""

    @abstractmethod
    def advance(self, x_BX: Tensor, state: State, weight_hh: Tensor | None) -> tuple[Tensor, State]:
        """The output of one more step, [B, H], and the state after it. x_BX is the step's part of `read`; recurrent
        dropout is already applied to `weight_hh`."""
