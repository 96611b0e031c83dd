"""One optimizer update: forward, backward, clip, step, without waiting for the device.

The device itself checks whether loss and gradient are finite; an update that isn't finite changes nothing. The sums for
the training curves stay on the device until they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from components.layers.base import State
from components.models.ensemble import members
from components.models.weights import pack, unpack
from components.training.averaging import Average
from components.training.checkpoint import check_processes, load_random_state, random_state
from components.training.optim import optimizer_step, takes_refusals
from components.training.rows import Held, clippable

# sums over accepted updates; then the number of refused ones, in total and in a row
SUMMED = ("loss", "count", "norm", "clipped", "updates")
COUNTERS = (*SUMMED, "skipped", "in_a_row")
Loss = Callable[[nn.Module, Any, State | None], tuple[Any, State]]


class Sums(NamedTuple):
    """The result of a batch: loss and count as 0-d tensors, and the state after it."""

    total: Tensor
    count: Tensor
    state: State


@dataclass(eq=False)
class Update:
    """`update(batch, state, factor, step)` makes one step and returns the state to carry on. `read()` and `reset()`
    access the sums for the curves. `clip_norm`: maximum norm of the gradient over all parameters, in an ensemble of
    each member; `clip_value`: maximum absolute value of the gradient's entries. `thaw` is called with the number of
    updates before each one: it may change what is trained.
    """

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    _: KW_ONLY
    clip_norm: float | None
    clip_value: float | None
    precision: str
    average: Average | None
    thaw: Callable[[int], None] = lambda step: None

    def __post_init__(self) -> None:
        self.device = next(self.model.parameters()).device
        self.sums = torch.zeros(len(COUNTERS), dtype=torch.float64, device=self.device)
        self.learning_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if self.device.type != "cpu":  # a captured update reads the rate from the device
            for group in self.optimizer.param_groups:
                group["lr"] = torch.tensor(group["lr"], device=self.device)

    def __call__(self, batch: Any, state: State | None, factor: float, step: int) -> State:
        """Make one update. `factor` multiplies the learning rates; `step` is the number of updates before this one. The
        returned state is detached, and 0 if this update was skipped."""
        self.thaw(step)
        self._set_rates(factor)
        state = self.take(batch, state)
        if self.average:
            self.average.update(step)
        return state

    def take(self, batch: Any, state: State | None) -> State:
        """Update the weights with the current learning rates."""
        return self.finish(self.gradients(batch, state))

    def gradients(self, batch: Any, state: State | None) -> Sums:
        """Forward and backward pass. The parameters' gradients are those of the mean over the counted targets."""
        sums = self.forward(batch, state)
        (sums.total / sums.count.clamp(min=1)).backward()
        return sums._replace(total=sums.total.detach())

    def forward(self, batch: Any, state: State | None) -> Sums:
        """The loss of a batch, after clearing gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            tally, state = self.loss(self.model, batch, state)
        return Sums(tally.total, _beside(tally.count, tally.total), state)

    def finish(self, sums: Sums) -> State:
        """Clip, step and add to the sums."""
        trained = [clippable(p for p in part.parameters() if p.grad is not None) for part in members(self.model)]
        norms = [_norm(parameters) for parameters in trained]
        finite = torch.isfinite(sums.total) & torch.isfinite(_mean(norms))
        self._add(sums.total, sums.count, norms, finite)
        for parameters, norm in zip(trained, norms, strict=True):
            if self.clip_value is not None:
                torch.nn.utils.clip_grad_value_(parameters, self.clip_value)
                norm = _norm(parameters)
            if self.clip_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        self._step(finite)
        # after a refused update the state may not be finite: the next window starts from 0
        return {name: torch.where(finite, value.detach(), 0) for name, value in sums.state.items()}

    def begin(self) -> None:
        """Called once, before the first update."""

    def end(self) -> None:
        """Called once, after the last update."""

    def kept(self, state: State | None) -> dict[str, Tensor]:
        """Contents of a checkpoint besides weights and optimizer: random state and carried state."""
        return pack("random", random_state(self.device)) | pack("state", state or {})

    def restore(self, tensors: Mapping[str, Tensor]) -> State | None:
        """Restore the values from `kept`. Returns the carried state.

        Raises:
            UserError: the checkpoint was saved with another number of processes.
        """
        check_processes(tensors, 1)
        load_random_state(unpack("random", tensors), self.device)
        return {name: value.to(self.device) for name, value in unpack("state", tensors).items()} or None

    def _set_rates(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.learning_rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    def _add(self, total: Tensor, count: Tensor, norms: Sequence[Tensor], finite: Tensor) -> None:
        norm, limit = _mean(norms), self.clip_norm
        one = torch.ones_like(norm)
        clipped = torch.zeros_like(norm) if limit is None else _mean([(each > limit).double() for each in norms])
        taken = torch.stack([value.double() for value in (total, count, norm, clipped, one)])
        refused = (~finite).double().expand(2)
        self.sums += torch.cat([torch.where(finite, taken, 0), refused])
        self.sums[-1:] *= refused[:1]

    def _step(self, finite: Tensor) -> None:
        if takes_refusals(self.optimizer):
            self.optimizer.found_inf = (~finite).float()
            optimizer_step(self.optimizer)
        elif finite:  # synchronises with the device
            optimizer_step(self.optimizer)

    def read(self) -> dict[str, float]:
        """The sums by name since the last `reset`. Waits for the device."""
        return dict(zip(COUNTERS, self.sums.tolist(), strict=True))

    def reset(self, **sums: float) -> None:
        """Start new sums from these values."""
        values = [sums.get(name, 0.0) for name in COUNTERS]
        self.sums.copy_(torch.tensor(values, dtype=torch.float64))


def _norm(parameters: Sequence[Tensor | Held]) -> Tensor:
    """The norm of all their gradients together."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters])


def _mean(values: Sequence[Tensor]) -> Tensor:
    """The mean; a single value is returned without work for the device."""
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean()


def _beside(count: Any, total: Tensor) -> Tensor:
    """A tally's count on the device of its total."""
    if isinstance(count, Tensor) and count.device == total.device:
        return count.to(total.dtype)
    return torch.full((), int(count), dtype=total.dtype, device=total.device)
