"""Contents of a checkpoint besides the weights: the optimizer's state and torch's random state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from components.errors import UserError


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as named tensors ("3.exp_avg")."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state from `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state(device: torch.device) -> dict[str, Tensor]:
    """torch's random state on the CPU and, if the model is on a GPU, of that GPU. (Data order and augmentation use
    separate, stateless generators.)"""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def load_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the state from `random_state`. A run that resumes on another kind of device draws different numbers
    there."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def prefix_of(rank: int) -> str:
    """Prefix of the names of the values that each of several processes saves for itself; "" for the first process."""
    return f"process {rank}/" if rank else ""


def check_processes(tensors: Mapping[str, Tensor], size: int) -> None:
    """Raise UserError if the checkpoint was saved with another number of processes."""
    saved = 1 + len({name.partition("/")[0] for name in tensors if name.startswith("process ")})
    if saved != size:
        raise UserError(
            f"the checkpoint was saved by a training with {saved} process{'es' * (saved > 1)}, not {size}",
            where="--processes",
            hint=f"use --processes {saved}, or start a new run",
        )
