"""Note model: P(note ⟨t⟩ | notes before it), factorised over its streams (one-to-many).

Metrics: nats per note, the sum over the streams, and of each stream (pitch_nats_per_note …). The nats of the form,
rests and the end are included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from components.bounds import MAX_COUNT, MAX_STEPS
from components.datasets.batches.streams import StepBatch, StepBatches
from components.datasets.store import Examples
from components.encodings.base import Encoding
from components.encodings.copying import Copying
from components.encodings.notes import PITCH, PITCH0, STREAMS, Notes
from components.encodings.vocabulary import BOS, EOS, PAD
from components.generation.drawing import generators
from components.generation.sampling import distribution, draw
from components.generation.settings import Progress, Sampled, unwatched
from components.layers.base import State, moved
from components.models.streams import StreamsModel
from components.tasks.base import Made, Tally, Task, cut_off, to_device


@dataclass(kw_only=True, eq=False)
class NoteSettings:
    """How to generate `count` pieces of at most `max_length` steps. `temperature` divides the logits of every stream
    (0: always the likeliest id); `top_k` and `top_p` sample from its likeliest ids, as in a language model.
    `gate_temperature` is that of the gates of a model that copies (`model.copy`): below 1 it continues a copy for
    longer, above 1 it stops sooner."""

    count: Annotated[int, Field(gt=0, le=MAX_COUNT)] = 4
    max_length: Annotated[int, Field(gt=0, le=MAX_STEPS)] = 500
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    gate_temperature: Annotated[float, Field(ge=0.05, le=10)] = 1.3


class NoteModel(Task):
    """An autoregressive model of notes with several streams."""

    form = "streams"
    model = StreamsModel
    settings = NoteSettings
    primary = "nats_per_note"
    loss_unit = "nats per step"  # a window may have no note
    counted = "steps"

    def __init__(self, encoding: Notes, framing: str, /) -> None:
        self.encoding = encoding
        self.read: Encoding = encoding  # of the model's inputs, which for a model that copies include candidates

    def build_model(self, options: Mapping[str, Any]) -> StreamsModel:
        self.read = Copying(self.encoding) if options.get("copy") else self.encoding
        streams = list(self.encoding.fields.values())
        return StreamsModel(streams, self.read.context_sizes, self.read.copy_places, **options)

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> StepBatches:
        return StepBatches(split, self.read, batch_size=batch_size, window=window, seed=seed, training=training)

    def loss(self, model: nn.Module, batch: StepBatch, state: State | None) -> tuple[Tally, State]:
        nats_NS, steps_NS, state = self._nats(model, batch, state)
        return Tally(nats_NS.sum(), len(steps_NS)), state

    def measure(self, model: nn.Module, batch: StepBatch, state: State | None) -> tuple[dict[str, Tally], State]:
        nats_NS, steps_NS, state = self._nats(model, batch, state)
        notes = int((steps_NS[:, PITCH] >= PITCH0).sum())
        totals_S = nats_NS.double().sum(dim=0).tolist()
        metrics = {"nats_per_note": Tally(sum(totals_S), notes)}
        for name, total in zip(STREAMS, totals_S, strict=True):
            metrics[f"{name}_nats_per_note"] = Tally(total, notes)
        return metrics, state

    @torch.inference_mode()
    def generate(self, model: nn.Module, settings: NoteSettings, *, seed: int, progress: Progress = unwatched) -> Made:
        """Pieces from their form to their end. Each piece has its own random generator."""
        model.eval()
        device = next(model.parameters()).device
        count = settings.count
        rngs = generators(seed, count)
        ids = np.full((count, settings.max_length + 1, len(STREAMS)), PAD, dtype=np.int64)
        ids[:, 0] = BOS
        nats, ended, length = np.zeros(count), np.zeros(count, dtype=bool), np.ones(count, dtype=np.int64)
        state = model.initial_state(count)
        for t in range(settings.max_length):
            inputs_NS = self._inputs(ids, t).to(device)
            y_NH, state = model.step(inputs_NS, state)
            beside = model.beside(inputs_NS)
            step_NS = self._draw(model, y_NH, beside, ids[:, : t + 1], ended, rngs, settings)
            # at temperature 1, whatever the settings
            nats += model.nats(y_NH, step_NS, *beside).double().sum(dim=1).cpu().numpy()
            ids[:, t + 1] = step_NS.cpu().numpy()
            length += ~ended
            ended |= ids[:, t + 1, PITCH] == EOS
            progress(t + 1)
            if ended.all():
                break
        sampled = [
            Sampled(ids[n, 1 : length[n] - ended[n]].copy(), float(nats[n] / (length[n] - 1)), bool(ended[n]))
            for n in range(count)
        ]
        return Made([self.encoding.decode(one.ids) for one in sampled], sampled, cut_off(sampled, settings))

    def originals(self, split: Examples) -> list[Any]:
        return [self.encoding.decode(np.stack([row[name] for name in STREAMS], axis=-1)) for row in split]

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """Independent streams, each with its unigram frequencies in the training data (add-one)."""
        total = 0.0
        for name, field in self.encoding.fields.items():
            seen, ids = train.fields[name].tokens, test.fields[name].tokens
            counts = np.bincount(seen, minlength=field.size) + 1.0
            rest = np.delete(counts, [PAD, BOS]).sum()
            total -= float(np.log(counts[ids[(ids != PAD) & (ids != BOS)]] / rest).sum())
        notes = int((test.fields[STREAMS[PITCH]].tokens >= PITCH0).sum())
        return {"streams alone": total / notes} if notes else {}

    def _draw(
        self,
        model: StreamsModel,
        y_NH: Tensor,
        beside: tuple[Tensor, ...],
        before: np.ndarray,
        ended: np.ndarray,
        rngs: list[np.random.Generator],
        settings: NoteSettings,
    ) -> Tensor:
        """The step [N, S] after the steps before it [N, T, S], stream by stream; PAD where the piece has ended."""
        step = np.full((len(before), 0), PAD, dtype=np.int64)
        drawn_with, at = settings, {}
        if beside and settings.temperature:  # the temperatures are applied to the parts of the mixture
            drawn_with = replace(settings, temperature=1.0)
            at = {"temperature": settings.temperature, "gate_temperature": settings.gate_temperature}
        for _ in STREAMS:
            drawn_NS = torch.from_numpy(step).to(y_NH.device)
            logits_NV = model.logits(y_NH, drawn_NS, *beside, **at).float().cpu().numpy()
            ids = np.full((len(before), 1), PAD, dtype=np.int64)
            for n in np.flatnonzero(~ended):
                allowed = self.encoding.allowed_in(before[n], step[n].tolist())
                ids[n] = draw(distribution(logits_NV[n], allowed, drawn_with), rngs[n].random())
            step = np.concatenate([step, ids], axis=1)
        return torch.from_numpy(step).to(y_NH.device)

    def _inputs(self, ids: np.ndarray, t: int) -> Tensor:
        """The model's inputs at step t of the ids [N, T, S]: int64 [N, S + C]."""
        context = np.stack([self.read.context(row[: t + 1])[-1] for row in ids])
        return torch.from_numpy(np.concatenate([ids[:, t], context], axis=-1))

    def _nats(self, model: nn.Module, batch: StepBatch, state: State | None) -> tuple[Tensor, np.ndarray, State]:
        """The nats [N, S] of each stream of the counted steps; these steps [N, S], on the CPU; and the state after the
        window."""
        inputs_BTS = to_device(batch.inputs_BTS, model)
        y_BTH, state = model(inputs_BTS, state)
        counts_BT = batch.targets_BT != PAD
        steps_NS = np.concatenate([batch.targets_BT[..., None], batch.others_BTS], axis=-1)[counts_BT]
        counted = moved(torch.from_numpy(counts_BT).nonzero(), y_BTH.device).unbind(1)
        y_NH, *beside = (one[counted] for one in (y_BTH, *model.beside(inputs_BTS)))
        return model.nats(y_NH, to_device(steps_NS, model), *beside), steps_NS, state
