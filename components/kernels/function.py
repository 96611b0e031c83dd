"""The kernels as an autograd function: `recurrent`, called by the layers, whose backward pass is written by hand.

B batch, T time, I input, H hidden, G gate rows, S streams of ids.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from components.kernels.backends import KERNELS, Backend, choose
from components.kernels.sequence import zero_after_end


def recurrent(
    kind: str,
    x: Tensor,
    state: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor | None],
    lengths: Tensor | None = None,
    *,
    record: Tensor | None = None,
    backend: str = "auto",
    **options: Any,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run one recurrent layer over a whole sequence; differentiable (once) in x, state and parameters.

    Args:
        kind: rnn, gru or lstm.
        x: float [B, T, I], or int64 ids [B, T] or [B, T, S] (see `sequence.project`).
        state: h⟨0⟩ [B, H] under "h", for the LSTM also c⟨0⟩ under "c".
        parameters: weight_ih [G, I], weight_hh [G, H], bias_ih and bias_hh [G] or None; for the LSTM optionally
            peepholes [3, H].
        lengths: steps in each row [B], 0 allowed; None = all T.
        record: [T, B], receives ‖∂L/∂h⟨t⟩‖ per step and row when backward() runs.
        backend: "by_hand" (torch operations, any device and precision), "native" (C++), "triton" (LSTM and GRU on
            a GPU), or "auto": native wherever it applies and can be compiled.
        options: `nonlinearity` ("tanh", "relu") of the rnn, `reset_after` of the gru.

    Returns:
        y [B, T, H], 0 after a row's end, and the state at each row's own end. y is a view of what backward() reads:
        autograd refuses to have it changed in place.

    Raises:
        UserError: an unknown kind, backend, option or nonlinearity; backend "native" or "triton" where it doesn't
            apply.
    """
    chosen = choose(backend, kind, x, parameters, options)
    names = KERNELS[kind].STATE
    y, *final = _Recurrent.apply(
        chosen,
        names,
        lengths,
        record,
        zero_after_end(x, lengths),
        parameters["weight_ih"],
        parameters["weight_hh"],
        parameters.get("bias_ih"),
        parameters.get("bias_hh"),
        parameters.get("peepholes"),
        *(state[name] for name in names),
    )
    return y, dict(zip(names, final, strict=True))


class _Recurrent(torch.autograd.Function):
    """project → forward; backward → project_backward."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: Backend,
        state_names: tuple[str, ...],
        lengths: Tensor | None,
        record: Tensor | None,
        x: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor | None,
        bias_hh: Tensor | None,
        peepholes: Tensor | None,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        gates_x = backend.project(x, weight_ih, bias_ih)
        start = dict(zip(state_names, state, strict=True))
        extra = {} if peepholes is None else {"peepholes": peepholes}
        y, final, saved = backend.forward(gates_x, start, weight_hh, bias_hh, lengths, **extra)
        # tensors go through save_for_backward, which detects in-place changes
        fields = saved._asdict()
        tensors = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
        others = {name: value for name, value in fields.items() if name not in tensors}
        ctx.save_for_backward(x, weight_ih, *tensors.values())
        ctx.rebuild, ctx.tensor_names = functools.partial(type(saved), **others), list(tensors)
        ctx.backend, ctx.state_names, ctx.record = backend, state_names, record
        return y, *(final[name] for name in state_names)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, *grad_final: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_ih, *tensors = ctx.saved_tensors
        saved = ctx.rebuild(**dict(zip(ctx.tensor_names, tensors, strict=True)))
        grad_state = dict(zip(ctx.state_names, grad_final, strict=True))
        grads = ctx.backend.backward(saved, grad_y, grad_state, record=ctx.record)
        _, _, _, _, x_needed, _, _, bias_needed, *_ = ctx.needs_input_grad
        grad_x, grad_weight_ih, grad_bias_ih = ctx.backend.project_backward(
            grads.gates_x, x, weight_ih, grad_x_needed=x_needed
        )
        return (
            *(None, None, None, None),
            grad_x,
            grad_weight_ih,
            grads.weight_hh,
            grad_bias_ih if bias_needed else None,
            grads.bias_hh,
            grads.peepholes,
            *(grads.state[name] for name in ctx.state_names),
        )
