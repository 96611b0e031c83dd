"""Optimizers with sparse updates: only the rows of a table that a batch used are updated.

The tables are embeddings and the output matrix of a sampled softmax; their gradients hold the used rows ("sparse"). All
other rows are unchanged: their moments or momentum don't decay, and there is no weight decay. Used rows are updated as
in the optimizer of that name; Adam's bias correction uses the number of all updates, as in `torch.optim.SparseAdam`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from components.errors import UserError
from components.layers.softmax import SampledSoftmax


class SparseRows:
    """Mixin for torch's optimizers: `step` updates the rows of sparse gradients; torch updates all others."""

    def step(self, closure: None = None) -> None:
        found = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        tables = [(group, p, p.grad.coalesce()) for group, p in found if p.grad.is_sparse]
        refused = getattr(self, "found_inf", None)
        for group, table, gradient in tables:
            if refused is None or not refused:
                rows = gradient.indices()[0]
                moved = self.moved(group, table, self._kept(group, table), rows, gradient.values())
                table.index_copy_(0, rows, moved)
            table.grad = None
        inspect.unwrap(super().step)(self)
        for _, table, gradient in tables:
            table.grad = gradient

    def _kept(self, group: dict[str, Any], table: Tensor) -> dict[str, Tensor]:
        """The table's state, made before its first update."""
        state = self.state[table]
        if not state:
            state.update({name: torch.zeros_like(table) for name in self.names(group)})
            state["step"] = torch.zeros((), dtype=torch.float32, device=table.device)
        state["step"] += 1
        return state

    def names(self, group: dict[str, Any]) -> Sequence[str]:
        """The names of the state kept for each weight."""
        return ("exp_avg", "exp_avg_sq")

    def moved(
        self, group: dict[str, Any], table: Tensor, state: dict[str, Tensor], rows_R: Tensor, gradient_RH: Tensor
    ) -> Tensor:
        """The rows [R, H] after the update."""
        rate, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
        table_RH = table.index_select(0, rows_R)
        if group["decoupled_weight_decay"]:
            table_RH.mul_(1 - rate * decay)
        elif decay:
            gradient_RH = gradient_RH.add(table_RH, alpha=decay)
        first_RH = state["exp_avg"].index_select(0, rows_R).lerp_(gradient_RH, 1 - beta1)
        second_RH = state["exp_avg_sq"].index_select(0, rows_R).mul_(beta2)
        second_RH.addcmul_(gradient_RH, gradient_RH, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows_R, first_RH)
        state["exp_avg_sq"].index_copy_(0, rows_R, second_RH)
        step = float(state["step"])
        spread_RH = second_RH.sqrt_().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
        return table_RH.sub_(first_RH.div_(spread_RH).mul_(rate / (1 - beta1**step)))


class RowsAdam(SparseRows, torch.optim.Adam):
    """Adam."""


class RowsAdamW(SparseRows, torch.optim.AdamW):
    """AdamW."""


class RowsSGD(SparseRows, torch.optim.SGD):
    """SGD. Without momentum and decay it equals plain SGD."""

    def names(self, group: dict[str, Any]) -> Sequence[str]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def moved(
        self, group: dict[str, Any], table: Tensor, state: dict[str, Tensor], rows_R: Tensor, gradient_RH: Tensor
    ) -> Tensor:
        table_RH = table.index_select(0, rows_R)
        if group["weight_decay"]:
            gradient_RH = gradient_RH.add(table_RH, alpha=group["weight_decay"])
        if group["momentum"]:
            gradient_RH = state["momentum_buffer"].index_select(0, rows_R).mul_(group["momentum"]).add_(gradient_RH)
            state["momentum_buffer"].index_copy_(0, rows_R, gradient_RH)
        return table_RH.sub_(gradient_RH * group["lr"])


def use_rows(model: nn.Module) -> None:
    """Enable sparse gradients for a model's tables, except those that are read as a whole.

    Raises:
        UserError: there is no such table.
    """
    modules = list(model.modules())
    whole = {id(m.weight) for m in modules if isinstance(m, nn.Linear) and not isinstance(m, SampledSoftmax)}
    tables = [m for m in modules if isinstance(m, nn.Embedding | SampledSoftmax) and id(m.weight) not in whole]
    if not tables:
        raise UserError(
            "each update of this model uses all rows of its tables",
            where="training.sparse_rows",
            hint="set model.softmax: sampled, or model.tie_weights: false, or training.sparse_rows: false",
        )
    for table in tables:
        table.sparse = True


class Held(NamedTuple):
    """A stand-in for a parameter, with a gradient only."""

    grad: Tensor


def clippable(parameters: Iterable[Tensor]) -> list[Tensor | Held]:
    """The arguments for torch's clipping functions: parameters, or for a sparse gradient its coalesced rows, which are
    modified in place."""
    found: list[Tensor | Held] = []
    for parameter in parameters:
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            found.append(Held(parameter.grad.values()))
        else:
            found.append(parameter)
    return found
