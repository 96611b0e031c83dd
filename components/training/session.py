"""A training session, built from a recipe and an ingested dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from components.bundle import Bundle, make_task
from components.datasets.batches.truncated import Batches
from components.datasets.store import Store
from components.errors import UserError
from components.evaluation.evaluator import Evaluator
from components.evaluation.gradients import READINGS, append_reading
from components.evaluation.recent import Recent
from components.idle import idle
from components.models.weights import load_weights, read_tensors
from components.options import options_of
from components.recipe import Recipe
from components.schema import needing_val
from components.training.captured import CapturedUpdate
from components.training.device import prepare
from components.training.gradients import PROBE_ROWS, held_out_probe
from components.training.optim import make_optimizer, takes_refusals
from components.training.processes import Ranks, SharedUpdate
from components.training.schedule import Schedule
from components.training.trainer import Events, Progress, Trainer
from components.training.transfer import Start, Taken, take_weights
from components.training.update import Update


class Session:
    """All in-memory objects of a run. Training, resuming and evaluation build it in the same way.

    `device` and `threads` are resolved values (components.training.device).
    """

    def __init__(self, recipe: Recipe, store: Store, device: str, threads: int, /) -> None:
        prepare(recipe.seed, threads, tf32=recipe.training["precision"] == "tf32")
        self.recipe, self.store, self.device = recipe, store, device
        self.encoding = store.encoding()
        self.task = make_task(recipe.task, self.encoding, store.manifest["framing"])
        self.notes = self.task.prepare(store.split("train"))  # for the user
        self.model = self.task.build_model(recipe.model).to(device)
        self.thawing = Start(**_part(recipe.training, Start)).thawing(self.model)
        self.notes += self.thawing.told(recipe.training["steps"])
        if (needing := needing_val(recipe.as_dict())) and not len(store.split("val")):
            self.notes.append(f"warning: no effect without val: {', '.join(needing)}")
        self.notes += [f"warning: {line}" for line in idle(recipe.as_dict())]
        self.evaluator = Evaluator(self.task, **_part(recipe.evaluation, Evaluator))
        self.recent = Recent(self.task, self.model, store, **_part(recipe.evaluation, Recent))

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def train(self, folder: Path, events: Events, ranks: Ranks | None = None) -> Progress:
        """Train, or resume from the checkpoint in `folder`. The model has the best weights at the end. With `ranks`,
        the other processes call `follow`."""
        trainer, batches = self._trainer(folder, events, ranks)
        val, train = self.store.split("val"), self.store.split("train")
        held_out = self.task.batches(
            val if len(val) else train, batch_size=PROBE_ROWS, window=trainer.tbptt_length, seed=0, training=False
        )
        if not trainer.checkpoint_path.exists() and (begun := self.task.initialise(self.model)):
            trainer.pending.append((begun, 0))
        probe = held_out_probe(self.model, self.task.loss, held_out)

        def evaluate() -> dict[str, float]:
            if probe is not None:
                reading = probe.measure(trainer.at.global_step)
                append_reading(folder / READINGS, reading.curves())
                trainer.pending.append((reading.metrics(), reading.global_step))
            return self.evaluate("val")

        progress = trainer.train(
            batches,
            evaluate,
            every=self.evaluator.every,
            primary=self.task.primary,
            lower=self.task.lower_is_better,
        )
        self.load_best(folder)
        return progress

    def start_from(self, source: Bundle) -> Taken:
        """Take over the weights of a trained model.

        Raises:
            UserError: they don't fit.
        """
        same_task = self.recipe.task["kind"] == source.recipe["task"]["kind"]
        return take_weights(self.model, self.encoding, source, same_task=same_task)

    def follow(self, folder: Path, ranks: Ranks) -> None:
        """Take part in a training that another process leads."""
        trainer, batches = self._trainer(folder, None, ranks)
        torch.manual_seed(self.recipe.seed + ranks.rank)  # a different dropout mask in each process
        trainer.follow(batches)

    def _trainer(self, folder: Path, events: Events | None, ranks: Ranks | None) -> tuple[Trainer, Batches]:
        section = self.recipe.training
        if section["sparse_rows"] and ranks is not None:
            hint = "leave --processes out, or set training.sparse_rows: false"
            raise UserError("can't be used with several processes", where="training.sparse_rows", hint=hint)
        optimizer = make_optimizer(self.model, **_part(section, make_optimizer))
        schedule = Schedule(section["steps"], **_part(section, Schedule))
        kind: Callable[..., Update] = Update
        if ranks is not None:
            kind = partial(SharedUpdate, ranks=ranks)
        elif self._captured(optimizer):
            kind = CapturedUpdate
        kind = partial(kind, thaw=self.thawing)
        trainer = Trainer(
            self.model, self.task.loss, optimizer, schedule, folder, events, kind, **_part(section, Trainer)
        )
        batches = self.task.batches(
            self.store.split("train"),
            batch_size=trainer.batch_size,
            window=trainer.tbptt_length,
            seed=self.recipe.seed,
            training=True,
        )
        return trainer, batches

    def _captured(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether updates are recorded as CUDA graphs; not with gradual unfreezing or sparse rows, which
        change what is updated."""
        capturable = self.device.startswith("cuda") and self.task.capturable(self.model)
        settled = not self.thawing.every and not self.recipe.training["sparse_rows"]
        return capturable and takes_refusals(optimizer) and settled

    def load_best(self, folder: Path) -> None:
        """Put the best weights of the run into the model."""
        path = folder / "best.safetensors"
        tensors, _ = read_tensors(path)
        load_weights(self.model, tensors, where=str(path))

    def evaluate(self, split: str) -> dict[str, float]:
        """The metrics of a split with the current weights."""
        return self.evaluator.evaluate(self.model, self.store.split(split))

    def final_metrics(self, split: str) -> dict[str, float]:
        """All metrics of a split with the current weights, including those that are too slow to compute during
        training."""
        sequences = self.store.split(split)
        metrics = self.evaluate(split)
        return metrics | (
            self.task.final_metrics(self.model, sequences) | self.recent.metrics(split) if metrics else {}
        )


def _part(section: Mapping[str, Any], target: Any) -> dict[str, Any]:
    """The settings of a section that belong to `target`."""
    return {name: section[name] for name in options_of(target)}
