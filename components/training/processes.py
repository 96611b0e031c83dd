"""One training on several processes: each computes a share of every batch's rows, and all make the same update.

Gradients, loss and count are summed over the processes in one all-reduce, then divided by the total count, as on a
single process. Process 0 is the leader: it logs, evaluates and saves; the others follow its commands. Each process has
its own random state and carried state; all are saved in one checkpoint.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from components.datasets.batches.truncated import Batches
from components.layers.base import State
from components.models.weights import weights
from components.training.checkpoint import check_processes, prefix_of
from components.training.feed import Feed
from components.training.update import Sums, Update

# the leader's commands, sent with each all-reduce
UPDATE, SAVE, STOP = 1, 2, 3
PATIENCE = timedelta(hours=12)  # timeout of the others, which wait while the leader evaluates


def local_store(meeting: Path, size: int) -> dist.Store:
    """The file through which processes of this machine connect. It must not exist before."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # local connections only
    return dist.FileStore(str(meeting), size)


class Ranks:
    """The processes of one training; this one has number `rank`. They connect through `store`."""

    def __init__(self, store: dist.Store, rank: int, size: int, *, device: str = "cpu") -> None:
        self.store, self.rank, self.size = store, rank, size
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if device.startswith("cuda") else "gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE
        )

    @classmethod
    def launched(cls, *, device: str = "cpu") -> Ranks:
        """The processes as started by torchrun."""
        store, rank, size = next(dist.rendezvous("env://"))
        return cls(store, rank, size, device=device)

    def part(self, batch: Any) -> Any:
        """This process's rows of a batch: the same share of every array."""
        arrays = {name: value for name, value in vars(batch).items() if isinstance(value, np.ndarray)}
        mine = {name: np.array_split(value, self.size)[self.rank] for name, value in arrays.items()}
        return dataclasses.replace(batch, **mine) if len(next(iter(mine.values()))) else None

    def close(self) -> None:
        """Leave the group. The other processes notice at their next exchange."""
        if dist.is_initialized():
            dist.destroy_process_group()


class SharedUpdate(Update):
    """Like `Update`, with the rows of each batch divided among the processes."""

    def __init__(self, *args: Any, ranks: Ranks, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ranks, self.factor = ranks, 1.0

    def __call__(self, batch: Any, state: State | None, factor: float, step: int) -> State:
        self.factor = factor
        return super().__call__(batch, state, factor, step)

    def gradients(self, batch: Any, state: State | None) -> Sums:
        local = self.local(batch, state)
        _, sums = self.exchange(local, UPDATE)
        return sums

    def local(self, batch: Any, state: State | None) -> Sums:
        """The sums over this process's rows, with the gradients of their sum."""
        part = self.ranks.part(batch)
        if part is None:  # fewer rows than processes
            self.optimizer.zero_grad(set_to_none=True)
            zero = torch.zeros((), device=self.device)
            return Sums(zero, zero, {})
        sums = self.forward(part, state)
        sums.total.backward()
        return sums._replace(total=sums.total.detach())

    def exchange(self, sums: Sums | None, wanted: int = 0) -> tuple[int, Sums | None]:
        """Sum over the processes; returns the leader's command. With UPDATE, the gradients are then those of the mean
        over all rows; otherwise they stay this process's. Only the leader sets `wanted` and the factor on the learning
        rates."""
        parameters = list(self.model.parameters())
        told = torch.tensor([wanted, self.factor if wanted else 0.0], device=self.device)
        if sums is None:
            tail = [torch.zeros(len(parameters) + 2, device=self.device), told]
            flat = torch.cat([torch.zeros(sum(p.numel() for p in parameters), device=self.device), *tail])
        else:
            used = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
            gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in parameters]
            flat = torch.cat([*gradients, used, sums.total.reshape(1), sums.count.reshape(1), told])
        dist.all_reduce(flat)
        total, count, code, factor = flat[-4:].unbind()
        code = round(float(code))
        if code != UPDATE or sums is None:
            return code, sums
        self._set_rates(float(factor))
        sizes = [p.numel() for p in parameters]
        used = flat[sum(sizes) : sum(sizes) + len(parameters)].tolist()
        summed = flat[: sum(sizes)].div_(count.clamp(min=1)).split(sizes)
        for parameter, gradient, count_used in zip(parameters, summed, used, strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if count_used else None
        return code, Sums(total, count, sums.state)

    def begin(self) -> None:
        """Copy the leader's weights to all processes."""
        for value in weights(self.model).values():
            dist.broadcast(value.detach(), 0)

    def end(self) -> None:
        self.exchange(None, STOP)

    def kept(self, state: State | None) -> dict[str, Tensor]:
        """As `Update.kept`, for all processes; called by the leader only."""
        self.exchange(None, SAVE)
        first, *others = self._gathered(super().kept(state))
        for rank, tensors in enumerate(others, 1):
            first |= {prefix_of(rank) + name: value for name, value in tensors.items()}
        return first

    def restore(self, tensors: Mapping[str, Tensor]) -> State | None:
        check_processes(tensors, self.ranks.size)
        prefix = prefix_of(self.ranks.rank)
        names = [name for name in tensors if name.startswith(prefix or ("random:", "state:"))]
        return super().restore({name.removeprefix(prefix): tensors[name] for name in names})

    def follow(self, batches: Batches, epoch: int, index: int, state: State | None, step: int) -> None:
        """Make the leader's updates until it stops; `step` updates were made before."""
        with closing(Feed(batches, epoch, index, ahead=self.device.type != "cpu")) as feed:
            while True:
                batch, *_ = feed.next()
                self.thaw(step)
                step += 1
                kept = super().kept(state)
                sums = self.local(batch, None if batch.fresh else state)
                while (answer := self.exchange(sums))[0] == SAVE:
                    self._gathered(kept)
                if answer[0] == STOP:
                    return
                state = self.finish(answer[1])

    def _gathered(self, own: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        found: list[Any] | None = [None] * self.ranks.size if self.ranks.rank == 0 else None
        dist.gather_object({name: value.cpu() for name, value in own.items()}, found)
        return found or []
