"""Frame model: P(frame ⟨t⟩ | frames before it) for every frame, the first after silence (one-to-many).

Metrics: nats per frame, summed over the keys, as the mean over all frames of the split (the protocol of the published
piano-roll results).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from components.bounds import MAX_COUNT, MAX_STEPS
from components.datasets.batches.examples import ExampleBatch, FrameBatches
from components.datasets.store import Examples
from components.encodings.base import Encoding
from components.generation.drawing import generators
from components.generation.settings import Progress, Sampled, unwatched
from components.layers.base import State, steps_where
from components.models.nade import FrameModel as Model
from components.tasks.base import Made, Tally, Task, to_device


@dataclass(kw_only=True, eq=False)
class FrameSettings:
    """How to generate `count` pieces of `max_length` frames. `temperature` divides the logits of the keys or notes. At
    most `most_keys` keys sound at once."""

    count: Annotated[int, Field(gt=0, le=MAX_COUNT)] = 4
    max_length: Annotated[int, Field(gt=0, le=MAX_STEPS)] = 64
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    most_keys: Annotated[int, Field(gt=0, le=88)] = 12


class FrameModel(Task):
    """An autoregressive model of binary frames."""

    form = "frames"
    model = Model
    windowed = False
    settings = FrameSettings
    primary = "nats_per_frame"
    counted = "frames"

    def __init__(self, encoding: Encoding, framing: str, /) -> None:
        self.encoding = encoding

    def build_model(self, options: Mapping[str, Any]) -> Model:
        return Model(self.encoding.fields["frames"], **options)

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> FrameBatches:
        """Whole pieces; `window` is ignored."""
        return FrameBatches(split, self.encoding, batch_size=batch_size, seed=seed, training=training)

    def loss(self, model: nn.Module, batch: ExampleBatch, state: State | None) -> tuple[Tally, State]:
        nats_N = self._nats(model, batch)
        return Tally(nats_N.sum(), len(nats_N)), {}

    def measure(self, model: nn.Module, batch: ExampleBatch, state: State | None) -> tuple[dict[str, Tally], State]:
        nats_N = self._nats(model, batch)
        return {"nats_per_frame": Tally(nats_N.double().sum().item(), len(nats_N))}, {}

    @torch.inference_mode()
    def generate(self, model: nn.Module, settings: FrameSettings, *, seed: int, progress: Progress = unwatched) -> Made:
        """Pieces of `max_length` frames, the first after silence. Each piece has its own random generator."""
        model.eval()
        device = next(model.parameters()).device
        count, keys = settings.count, self.encoding.fields["frames"].width
        rngs = generators(seed, count)
        frames_TNK = torch.zeros(settings.max_length + 1, count, keys, device=device)
        nats_N, state = torch.zeros(count, device=device, dtype=torch.float64), model.initial_state(count)
        memories = model.memories(count)
        for t in range(settings.max_length):
            read = model.inputs(frames_TNK[t].cpu().numpy()[:, None], memories)[:, 0]
            y_NH, state = model.step(to_device(read, model), state)
            uniform_NK = torch.from_numpy(np.stack([rng.random(keys) for rng in rngs])).to(y_NH)
            frame_NK = model.sample(y_NH, uniform_NK, settings.temperature)
            # the lowest keys are kept, as the bass matters more than the highest notes
            frame_NK = frame_NK * (frame_NK.cumsum(dim=1) <= settings.most_keys)
            nats_N += model.nats(y_NH, frame_NK).double()
            frames_TNK[t + 1] = frame_NK
            progress(t + 1)
        rolls = frames_TNK[1:].transpose(0, 1).cpu().numpy()
        sampled = [
            Sampled(roll, float(nats) / settings.max_length, ended=False)
            for roll, nats in zip(rolls, nats_N, strict=True)
        ]
        return Made([self.encoding.decode(roll) for roll in rolls], sampled, [])

    def originals(self, split: Examples) -> list[Any]:
        return [self.encoding.decode(frames) for frames in split.fields["frames"]]

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """Each key with its frequency in the training data."""
        frames, test_frames = train.fields["frames"].tokens, test.fields["frames"].tokens
        if not len(frames) or not len(test_frames):
            return {}
        share_K = np.clip(frames.mean(0), 1e-4, 1 - 1e-4)
        nats = -(test_frames * np.log(share_K) + (1 - test_frames) * np.log(1 - share_K)).sum(1)
        return {"keys alone": float(nats.mean())}

    def _nats(self, model: nn.Module, batch: ExampleBatch) -> Tensor:
        """Nats of every frame in the batch, without padding [N]."""
        inputs = model.inputs(batch.inputs, model.memories(len(batch.inputs)))
        y_BTH, _ = model(to_device(inputs, model))
        alive_BT = torch.from_numpy(np.arange(y_BTH.shape[1]) < batch.lengths_B[:, None])
        return model.nats(steps_where(y_BTH, alive_BT).float(), torch.from_numpy(batch.targets)[alive_BT])
