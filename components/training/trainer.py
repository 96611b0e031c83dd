"""The training loop: truncated backpropagation through time with clipping and checkpoints, resumable bit for bit."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field as Bounds
from torch import nn

from components.datasets.batches.truncated import Batches
from components.errors import UserError
from components.layers.base import State
from components.models.weights import load_weights, pack, read_tensors, unpack, weights, write_tensors
from components.training.averaging import Average, TriggeredAverage
from components.training.checkpoint import load_optimizer, optimizer_tensors
from components.training.device import has_bfloat16
from components.training.feed import Feed
from components.training.schedule import Schedule
from components.training.update import Loss, Update
from components.whole_files import remove_half_written

LOG_EVERY = 25  # optimizer updates between two points of the training curves
TELL_EVERY = 1.0  # seconds between updates of the displayed progress
WRITING_SHARE = 0.03  # maximum share of time for checkpoints between evaluations
GIVE_UP_AFTER = 20  # refused updates in a row
LESS = "lower training.learning_rate, set training.clip_norm, or use precision float32"

log = logging.getLogger(__name__)


class Events(Protocol):
    """Callbacks of a training run."""

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Points of the training curves. Called after the checkpoint that contains them is complete, so none is
        reported twice."""

    def progress(self, step: int, steps: int, values: dict[str, float]) -> None:
        """After each update, with the latest known values."""

    def evaluated(self, values: dict[str, float], step: int, improved: bool) -> None:
        """After each evaluation."""


@dataclass
class Progress:
    """The position in a training run. All of it is saved in the checkpoint."""

    global_step: int = 0
    epoch: int = 0
    index: int = 0  # the next window of the epoch
    best: float = math.nan
    best_step: int = -1
    bad_evaluations: int = 0
    loss: float = math.nan  # per token, over the updates since the last point of the training curves
    tokens: float = 0.0
    seconds: float = 0.0
    skipped: int = 0  # updates refused in all
    stopped: str = ""  # why training ended
    window: dict[str, float] = field(default_factory=dict)  # sums since the last point of the training curves
    history: list[dict[str, float]] = field(default_factory=list)  # an entry for each evaluation


@dataclass(eq=False)
class Trainer:
    """The training loop. Keyword-only parameters are the settings of the recipe's training section.

    `steps` counts optimizer updates, each on `batch_size` sequences or windows; `tbptt_length` is the number of time
    steps that gradients flow back through. `clip_norm`: maximum norm of the gradient over all parameters, in an
    ensemble of each member (Pascanu et al. 2013). `clip_value`: maximum absolute value of the gradient's entries.
    Training ends early after `patience` evaluations without improvement (0 = never) or after `seconds` of training (the
    schedule still spans `steps`). `averaging`: a decay such as 0.99, to evaluate and save a moving average of the
    weights; or triggered: the mean of the weights since validation stopped improving (NT-ASGD, Merity et al. 2018).
    `averaging_patience`: for triggered: averaging begins at the first evaluation that is worse than the best of all but
    the last `averaging_patience` before it. With `precision: bfloat16`, matrix products use bfloat16; on a CPU, only
    those outside the recurrent layers. `tf32` allows TensorFloat-32 on a GPU and is float32 on a CPU. A checkpoint is
    written at each evaluation and every `checkpoint_seconds` (0: after each update), or less often, to keep the writing
    below 3 % of the time; a kill loses the updates since then. `kind`: implementation of the update: recorded as a CUDA
    graph, or shared by several processes.
    """

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    folder: Path
    events: Events
    kind: Callable[..., Update] = Update
    _: KW_ONLY
    steps: Annotated[int, Bounds(gt=0)] = 5000
    batch_size: Annotated[int, Bounds(gt=0, le=65536)] = 32
    tbptt_length: Annotated[int, Bounds(gt=0, le=100_000)] = 128
    clip_norm: Annotated[float, Bounds(gt=0)] | None = 1.0
    clip_value: Annotated[float, Bounds(gt=0)] | None = None
    patience: Annotated[int, Bounds(ge=0)] = 0
    seconds: Annotated[float, Bounds(gt=0)] | None = None
    averaging: Annotated[float, Bounds(ge=0, lt=1)] | Literal["triggered"] = 0.0
    averaging_patience: Annotated[int, Bounds(ge=0)] = 5
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    checkpoint_seconds: Annotated[float, Bounds(ge=0)] = 15.0

    def __post_init__(self) -> None:
        self.average: Average | None = None
        if self.averaging == "triggered":
            self.average = TriggeredAverage(self.model, self.averaging_patience)
        elif self.averaging:
            self.average = Average(self.model, self.averaging)
        self.at = Progress()
        self.state: State | None = None
        self.pending: list[tuple[dict[str, float], int]] = []
        limits = {"clip_norm": self.clip_norm, "clip_value": self.clip_value, "precision": self.precision}
        self.update = self.kind(self.model, self.loss, self.optimizer, average=self.average, **limits)
        self.told = time.perf_counter()  # time of the last read of the sums
        self.saved = time.perf_counter()  # time of the last checkpoint
        self.writing = 0.0  # seconds it took

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def best_path(self) -> Path:
        return self.folder / "best.safetensors"

    def train(
        self, batches: Batches, evaluate: Callable[[], dict[str, float]], every: int, primary: str, lower: bool = True
    ) -> Progress:
        """Train for `steps` updates, or until `patience` runs out. The best weights are saved in `best_path`.

        `evaluate` is called every `every` updates and at the end; its `primary` metric decides which weights are the
        best.

        Raises:
            UserError: the loss or the gradient stayed non-finite (the last good state is in the checkpoint), or the
                metric was never a finite number.
        """
        remove_half_written(self.folder)
        for left in [*self.folder.glob(".tmp??????"), *self.folder.glob(".*.safetensors.*")]:
            if left.is_file():  # left by earlier versions
                left.unlink()
        if self.checkpoint_path.exists():
            self._load()
        self._warn_of_slow_precision()
        started = time.perf_counter() - self.at.seconds
        self.saved = time.perf_counter()
        self.update.begin()
        self.model.train()
        feed = Feed(batches, self.at.epoch, self.at.index, ahead=self.update.device.type != "cpu")
        with closing(feed):
            while self.at.global_step < self.steps and not self.at.stopped:
                self._update(feed)
                self.at.seconds = time.perf_counter() - started
                spent = self.seconds is not None and self.at.seconds >= self.seconds
                if spent or self.at.global_step % every == 0 or self.at.global_step == self.steps:
                    self._evaluate(evaluate, primary, lower)
                    self.at.seconds = time.perf_counter() - started
                    if spent and not self.at.stopped:
                        self.at.stopped = f"the time limit of {self.seconds:g} seconds is reached"
                    elif self.at.global_step == self.steps and not self.at.stopped:
                        self.at.stopped = f"all {self.steps} updates done"
                    self.save()
                elif self._due():
                    self.save()
        if not self.at.stopped:  # all updates were done before
            self.at.stopped = f"all {self.steps} updates done"
            self.save()
        self.update.end()
        if not self.best_path.exists():
            raise UserError(
                f"val {primary} was NaN or infinite in every evaluation, so no weights were saved",
                where="training",
                hint=LESS,
            )
        return self.at

    def follow(self, batches: Batches) -> None:
        """Take part in the training of another process, which evaluates and saves."""
        if self.checkpoint_path.exists():
            self._load()
        self.update.begin()
        self.model.train()
        self.update.follow(batches, self.at.epoch, self.at.index, self.state, self.at.global_step)

    def _warn_of_slow_precision(self) -> None:
        on_cpu = next(self.model.parameters()).device.type == "cpu"
        if self.precision == "bfloat16" and on_cpu and not has_bfloat16():
            log.warning(
                "training.precision: bfloat16 is slower than float32 here: this processor has no instructions for it"
            )

    def _update(self, feed: Feed) -> None:
        """One window: forward, backward, clip, step."""
        at = self.at
        batch, at.epoch, at.index = feed.next()
        factor = self.schedule.factor(at.global_step)
        self.state = self.update(batch, None if batch.fresh else self.state, factor, at.global_step)
        at.global_step += 1
        if at.global_step % LOG_EVERY == 0:
            self._point(factor)
        elif time.perf_counter() - self.told >= TELL_EVERY:
            self._read()
        self.events.progress(at.global_step, self.steps, {"loss": at.loss})

    def _read(self) -> None:
        """Read the sums from the device."""
        at, sums = self.at, self.update.read()
        at.tokens += sums["count"] - at.window.get("count", 0.0)
        at.skipped += round(sums["skipped"] - at.window.get("skipped", 0.0))
        at.window = sums
        at.loss = sums["loss"] / sums["count"] if sums["count"] else at.loss
        self.told = time.perf_counter()
        if sums["in_a_row"] >= GIVE_UP_AFTER:
            good = f"the last good state is in {self.checkpoint_path}" if self.checkpoint_path.exists() else ""
            raise UserError(
                f"the loss or gradient was NaN or infinite in {sums['in_a_row']:.0f} updates in a row, up to update "
                f"{at.global_step}; these updates were skipped, and {good or 'no earlier state was saved'}",
                where="training",
                hint=LESS,
            )

    def _point(self, factor: float) -> None:
        """Add a point to the training curves, over the updates since the last one."""
        self._read()
        at, sums = self.at, self.at.window
        if not sums["updates"]:
            return
        values = {
            "train/loss": at.loss,
            "train/gradient_norm": sums["norm"] / sums["updates"],
            "train/clipped_share": sums["clipped"] / sums["updates"],
            "train/learning_rate": self.update.learning_rates[0] * factor,
            "train/skipped_updates": float(at.skipped),
            "train/tokens": at.tokens,
            "train/tokens_per_second": at.tokens / max(at.seconds, 1e-9),
            "train/epoch": float(at.epoch),
        }
        self.pending.append((values, at.global_step))
        at.window = {"in_a_row": sums["in_a_row"]}
        self.update.reset(**at.window)

    def _evaluate(self, evaluate: Callable[[], dict[str, float]], primary: str, lower: bool) -> None:
        self._read()
        with self.average.in_place() if self.average else nullcontext():
            self._judge(evaluate(), primary, lower)

    def _judge(self, values: dict[str, float], primary: str, lower: bool) -> None:
        at = self.at
        # without a validation split the last weights count as the best
        value = values.get(primary, -math.inf if lower else math.inf)
        better = math.isnan(at.best) or (value < at.best if lower else value > at.best) or primary not in values
        better = better and not math.isnan(value)
        if better:
            at.best, at.best_step, at.bad_evaluations = value, at.global_step, 0
            facts = {"global_step": at.global_step, "metrics": values}
            write_tensors(self.best_path, weights(self.model), facts)
        else:
            at.bad_evaluations += 1
            if self.patience and at.bad_evaluations >= self.patience:
                at.stopped = f"no improvement for {self.patience} evaluations"
        self.schedule.evaluated(better)
        if self.average:
            self.average.evaluated([*(entry["val"] for entry in at.history), value], lower)
        at.history.append(
            {
                "step": at.global_step,
                "tokens": at.tokens,
                "seconds": at.seconds,
                "train": at.loss,
                "val": values.get(primary, math.nan),
            }
        )
        self.pending.append(({f"val/{name}": v for name, v in values.items()}, at.global_step))
        self.events.evaluated(values, at.global_step, better)

    def _due(self) -> bool:
        """Whether a checkpoint is due."""
        wait = max(self.checkpoint_seconds, self.writing / WRITING_SHARE) if self.checkpoint_seconds else 0.0
        return time.perf_counter() - self.saved >= wait

    def save(self) -> None:
        """Report the pending points and write the checkpoint, in this order: a kill between them reports a few points
        twice, which receivers must tolerate, but never loses one."""
        self._read()
        for values, step in self.pending:
            self.events.metrics(values, step)
        self.pending.clear()
        tensors = pack("model", weights(self.model))
        tensors |= pack("optimizer", optimizer_tensors(self.optimizer))
        tensors |= self.update.kept(self.state)
        tensors |= pack("average", self.average.values if self.average else {})
        facts = {"progress": asdict(self.at), "schedule": self.schedule.state()}
        facts["averaged"] = self.average.taken if self.average else None
        started = time.perf_counter()
        write_tensors(self.checkpoint_path, tensors, facts)
        self.saved = time.perf_counter()
        self.writing = self.saved - started

    def _load(self) -> None:
        tensors, facts = read_tensors(self.checkpoint_path)
        where = str(self.checkpoint_path)
        load_weights(self.model, unpack("model", tensors), where=where)
        load_optimizer(self.optimizer, unpack("optimizer", tensors))
        self.state = self.update.restore(tensors)
        if self.average:
            self.average.load(unpack("average", tensors), facts.get("averaged", 1))  # missing in earlier versions
        self.at = Progress(**facts["progress"])
        self.update.reset(**self.at.window)
        self.schedule.load(facts["schedule"])
