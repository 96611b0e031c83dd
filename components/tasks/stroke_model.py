"""Stroke model: P(point ⟨t⟩ | points before it, the text) of the pen's movement and lifting (Graves 2013).

Metrics: nats per point, of the density in the data's units: doubling the coordinates adds 2 ln 2 per point. The first
point of a piece is the pen's start and isn't counted. The nats of the end are included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from components.bounds import MAX_COUNT
from components.datasets.batches.strokes import StrokeBatch, StrokeBatches
from components.datasets.store import Examples
from components.encodings.strokes import MOST_TEXT, PEN, WIDTH, Strokes
from components.encodings.vocabulary import PAD
from components.errors import UserError
from components.generation.drawing import generators
from components.generation.settings import Progress, Sampled, unwatched
from components.ink import MOST_POINTS, Ink
from components.layers.base import State, steps_where
from components.models.stroke_model import AT
from components.models.stroke_model import StrokeModel as Model
from components.tasks.base import Made, Tally, Task, cut_off, to_device


@dataclass(kw_only=True, eq=False)
class StrokeSettings:
    """How to generate `count` pieces of at most `max_length` points. `prompt` is the text to write, for a model with
    texts. `bias` (Graves 2013): 0 samples as varied as the data; larger values give likelier, neater strokes."""

    count: Annotated[int, Field(gt=0, le=MAX_COUNT)] = 4
    max_length: Annotated[int, Field(gt=1, le=MOST_POINTS)] = 700
    prompt: Annotated[str, Field(max_length=MOST_TEXT)] = ""
    bias: Annotated[float, Field(ge=0, le=20)] = 0.5


class StrokeModel(Task):
    """An autoregressive model of pen points. Metric: nats per point, of the density in the data's units."""

    form = "strokes"
    model = Model
    windowed = False
    settings = StrokeSettings
    varied = ("bias", (0.0, 0.5, 1.0, 3.0))
    primary = "nats_per_point"
    loss_unit = "nats per point of the encoding's units"
    counted = "points"

    def __init__(self, encoding: Strokes, framing: str, /) -> None:
        self.encoding, self.prompted = encoding, encoding.texts

    def build_model(self, options: Mapping[str, Any]) -> Model:
        return Model(len(self.encoding.vocabulary) if self.encoding.texts else 0, **options)

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> StrokeBatches:
        """Whole pieces; `window` is ignored."""
        return StrokeBatches(split, batch_size=batch_size, seed=seed, training=training)

    def loss(self, model: nn.Module, batch: StrokeBatch, state: State | None) -> tuple[Tally, State]:
        nats_N = self._nats(model, batch)
        return Tally(nats_N.sum(), len(nats_N)), {}

    def measure(self, model: nn.Module, batch: StrokeBatch, state: State | None) -> tuple[dict[str, Tally], State]:
        nats_N, count = self._nats(model, batch).double(), int(batch.lengths_B.sum())
        return {"nats_per_point": Tally(nats_N.sum().item() + count * self.encoding.jacobian, count)}, {}

    @torch.inference_mode()
    def generate(
        self, model: nn.Module, settings: StrokeSettings, *, seed: int, progress: Progress = unwatched
    ) -> Made:
        """Pieces from their first point to their end; a text also ends with the stroke in which the attention window
        passes its last character. Each piece has its own random generator."""
        ids_U, warnings = self._text(settings)
        model.eval()
        device, count = next(model.parameters()).device, settings.count
        rngs = generators(seed, count)
        text_BUV = model.letters(to_device(ids_U, model).expand(count, -1)) if self.encoding.texts else None
        points = np.zeros((count, settings.max_length, WIDTH))
        nats, ended, length = np.zeros(count), np.zeros(count, dtype=bool), np.ones(count, dtype=np.int64)
        state = model.initial_state(count)
        for t in range(1, settings.max_length):
            read = torch.from_numpy(points[:, t - 1].astype(np.float32)).to(device)
            raw_BP, state, phi_BU = model.step(read, state, text_BUV)
            raw_BP = raw_BP.cpu()
            pairs = zip(raw_BP, rngs, strict=True)
            drawn = np.stack([model.mixture.draw(raw, rng, settings.bias) for raw, rng in pairs])
            # without bias, whatever the settings
            cost = model.mixture.loss(raw_BP.double(), torch.from_numpy(drawn)).numpy() + self.encoding.jacobian
            ending = drawn[:, PEN + 1] > 0
            if phi_BU is not None:
                furthest = phi_BU.argmax(dim=1).cpu().numpy()
                # far beyond the text all weights are 0
                passed = (furthest == len(ids_U)) | (state[AT].amin(dim=1).cpu().numpy() > len(ids_U))
                # an end before the last character would leave the text unfinished
                ending = (ending & (furthest == len(ids_U) - 1)) | (passed & (drawn[:, PEN] > 0))
                ended |= passed & (points[:, t - 1, PEN] > 0)  # ended by the previous stroke
            alive = ~ended
            nats += np.where(alive, cost, 0)
            points[alive, t] = drawn[alive, :WIDTH]
            length += alive
            ended |= ending
            progress(t + 1)
            if ended.all():
                break
        sampled = [
            Sampled(points[n, : length[n]].copy(), float(nats[n] / (length[n] - 1)), bool(ended[n]))
            for n in range(count)
        ]
        items = [replace(self.encoding.decode(one.ids), text=settings.prompt) for one in sampled]
        return Made(items, sampled, warnings + cut_off(sampled, settings))

    def rehearse(self, settings: StrokeSettings) -> list[str]:
        return self._text(settings)[1]

    def beginning(self, train: Examples) -> str:
        """The first text, for a model with texts."""
        if not self.encoding.texts:
            return ""
        return "".join(self.encoding.vocabulary.token(int(id)) for id in train.fields["text"][0])

    def originals(self, split: Examples) -> list[Ink]:
        return [self.encoding.decode(points) for points in split.fields["points"]]

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """One Gaussian with full covariance for all points, and the frequencies of lifting and ending in the training
        data."""
        seen, wanted = _steps(train), _steps(test)
        if len(seen) < 2 or not len(wanted):
            return {}
        mean, spread = seen[:, :PEN].mean(0), np.cov(seen[:, :PEN].T, bias=True) + 1e-6 * np.eye(2)
        away = wanted[:, :PEN] - mean
        nats = 0.5 * (np.einsum("ni,ij,nj->n", away, np.linalg.inv(spread), away) + np.linalg.slogdet(spread)[1])
        nats += math.log(2 * math.pi)
        up, last = (seen[:, PEN] > 0), seen[:, PEN + 1] > 0
        # add-one, as for tokens
        lift, end = (up.sum() + 1) / (len(up) + 2), (last.sum() + 1) / (up.sum() + 2)
        lifted, ending = wanted[:, PEN], wanted[:, PEN + 1]
        nats -= lifted * math.log(lift) + (1 - lifted) * math.log(1 - lift)
        nats -= lifted * (ending * math.log(end) + (1 - ending) * math.log(1 - end))
        return {"one Gaussian": float(nats.mean()) + self.encoding.jacobian}

    def _text(self, settings: StrokeSettings) -> tuple[np.ndarray, list[str]]:
        """The ids [U] of the text to write, empty for a model without texts; and warnings.

        Raises:
            UserError: a model with texts has no prompt, or a model without texts has one.
        """
        if self.encoding.texts and not settings.prompt:
            what = "this model needs a text to write"
            raise UserError(what, where="generation.prompt", hint="give --prompt TEXT")
        if settings.prompt and not self.encoding.texts:
            hint = "leave the prompt out; only models trained with encoding.texts: true write texts"
            raise UserError("this model can't write a given text", where="generation.prompt", hint=hint)
        return self.encoding.prompt(settings.prompt) if self.encoding.texts else (np.zeros(0, dtype=np.int64), [])

    def _nats(self, model: nn.Module, batch: StrokeBatch) -> Tensor:
        """Nats of every counted point of the batch, in the encoding's units."""
        text = None if batch.text_BU is None else to_device(batch.text_BU, model)
        raw_BTP = model(to_device(batch.inputs, model), text)
        counts_BT = torch.from_numpy(batch.targets != PAD)
        wanted_N4 = to_device(batch.next_BT4[batch.targets != PAD], model)
        return model.mixture.loss(steps_where(raw_BTP, counts_BT), wanted_N4)


def _steps(split: Examples) -> np.ndarray:
    """All counted points, float64 [N, 4]: dx, dy, lifted, last of its piece."""
    points = split.fields["points"]
    last = np.zeros(len(points.tokens))
    last[points.offsets[1:] - 1] = 1
    steps = np.concatenate([points.tokens.astype(np.float64), last[:, None]], axis=1)
    return np.delete(steps, points.offsets[:-1], axis=0)
