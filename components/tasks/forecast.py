"""Probabilistic forecasting: distributions of the next steps of a series (DeepAR, Salinas et al. 2020,
arXiv:1704.04110).

Shapes: B rows, T steps, C of context, H of the horizon, S samples, Q levels, P parameters of a distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field as Bounds
from torch import Tensor, nn

from components.datasets.batches.forecast import (
    ForecastBatch,
    ForecastBatches,
    Shape,
    Window,
    scales,
    step_inputs,
    window,
)
from components.datasets.series.times import following, written
from components.datasets.store import Examples, Sequences
from components.encodings.base import Field
from components.encodings.series import LONGEST_LAG, Series, SeriesValues, are_counts
from components.errors import UserError
from components.layers.base import State
from components.models.distributions import OUTPUTS
from components.models.forecaster import Forecaster
from components.models.states import arrays, watched
from components.tasks.base import Fan, Finding, Future, Table, Tally, Task, to_device
from components.tasks.forecast_scores import LEVELS, naive_loss, samples_loss, scores, seasonal_error, seasonal_naive
from components.tasks.smoothing import exponential_smoothing

PATHS_AT_ONCE = 8192  # sampled in a batch
USUAL_CONTEXT = 500  # maximum of the default context
DRAWN, SHOWN_SEASONS = 6, 3  # series in the picture, and seasons of their history

Output = Literal["student_t", "gaussian", "negative_binomial", "quantiles"]


class Forecast(Task):
    """An autoregressive model reads the last value, lags, calendar and covariates, and gives the distribution of the
    next value. `output`: one of student_t, gaussian, negative_binomial (for counts) or quantiles. Each series is scaled
    by its mean absolute value over the context before the origin. `centre` subtracts the context's mean first.
    `from_season`: the network gives the change from the value one season before.

    `context`: how many steps are read before the forecast (default: two seasons or the horizon, at most 500). A
    forecast consists of `samples` paths over the horizon, sampled step by step; the same `seed` gives the same paths.

    Metrics, over all steps of all series: the mean weighted quantile loss over 0.1 … 0.9, the primary metric: twice the
    pinball loss, divided by the mean absolute value; in the data's units the CRPS and the mean absolute error of the
    median, mae; MASE, the mean over series of the median's error divided by the in-sample error of the seasonal naive
    forecast; sMAPE in percent; and the coverage of the 80 % interval.
    """

    form = "series"
    model = Forecaster
    windowed = False
    past_only = True
    by_step = True
    columns = {"time": "texts", "mean": "numbers", **{f"q{level}": "numbers" for level in LEVELS}}
    primary = "weighted_quantile_loss"
    counted = "steps"
    encoding: SeriesValues

    def __init__(
        self,
        encoding: SeriesValues,
        framing: str,
        /,
        *,
        output: Output = "student_t",
        context: Annotated[int, Bounds(gt=0, le=LONGEST_LAG)] | None = None,
        centre: bool = False,
        from_season: bool = False,
        samples: Annotated[int, Bounds(ge=10, le=10_000)] = 200,
        seed: Annotated[int, Bounds(ge=0, lt=2**32)] = 0,
    ) -> None:
        self.encoding, self.samples, self.seed = encoding, samples, seed
        self.output = OUTPUTS[output]()
        usual = min(USUAL_CONTEXT, max(encoding.horizon, 2 * encoding.season))
        lags = tuple(sorted({1, *encoding.read_lags, *([encoding.season] if from_season else [])}))
        self.shape = Shape(context or usual, encoding.horizon, lags, centre)
        self.begun: tuple[int, int] | None = None
        if from_season:
            if self.output.location is None:
                hint = "set task.from_season=false, or choose another output"
                raise UserError(f"can't be used with the output {output}", where="task.from_season", hint=hint)
            self.begun = (lags.index(encoding.season), self.output.location)
        self.measured_in = f"{self.output.unit} of scaled values" if self.output.unit == "nats" else self.output.unit
        self.loss_unit = f"{self.measured_in} per step"
        if self.output.counts and centre:
            what = "can't be used with counts"
            raise UserError(what, where="task.centre", hint="set centre: false, or choose another output")
        if self.output.counts and encoding.series and not encoding.counts_only:
            hint = "set output to student_t, gaussian or quantiles"
            raise UserError("negative_binomial needs whole numbers from 0 to 2⁵³", where="task.output", hint=hint)

    def build_model(self, options: Mapping[str, Any]) -> Forecaster:
        return Forecaster(
            Field(width=self.shape.inputs(self.encoding.width)), self.output.parameters, self.begun, **options
        )

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> ForecastBatches:
        """Windows of context and horizon; `window` is ignored."""
        return ForecastBatches(
            split.fields["series"],
            self.shape,
            origins=self.encoding.origins,
            batch_size=batch_size,
            seed=seed,
            training=training,
        )

    def loss(self, model: nn.Module, batch: ForecastBatch, state: State | None) -> tuple[Tally, State]:
        raw_BTP, _ = model(to_device(batch.inputs, model))
        values_BT, counted_BT = to_device(batch.values_BT, model), to_device(batch.targets, model)
        losses_BT = self.output.loss(raw_BTP.float(), values_BT, to_device(batch.scales_B1, model))
        # a mask instead of indexing, which would synchronise with a GPU
        return Tally((losses_BT * counted_BT).sum(), int(batch.targets.sum())), {}

    def measure(self, model: nn.Module, batch: ForecastBatch, state: State | None) -> tuple[dict[str, Tally], State]:
        tallies: dict[str, Tally] = {}
        for one, samples_SH in zip(batch.windows, self.sample(model, batch.windows), strict=True):
            own = scores(samples_SH, one.wanted, seasonal_error(one.history, self.encoding.season))
            tallies = {name: tallies[name] + tally if name in tallies else tally for name, tally in own.items()}
        return tallies, {}

    @torch.inference_mode()
    def sample(self, model: nn.Module, windows: Sequence[Window]) -> Iterator[np.ndarray]:
        """Sampled paths for each window, float64 [S, H] in the data's units, from its history and known covariates."""
        at_once = max(1, PATHS_AT_ONCE // self.samples)
        for start in range(0, len(windows), at_once):
            part = windows[start : start + at_once]
            scaled_BSH = self._paths(model, part).double().cpu().numpy()
            for one, scaled_SH in zip(part, scaled_BSH, strict=True):
                paths_SH = one.centre + one.scale * scaled_SH
                yield np.round(paths_SH) if self.output.counts else paths_SH

    def _paths(self, model: Any, windows: Sequence[Window]) -> Tensor:
        """Scaled values [B, S, H]."""
        shape, S = self.shape, self.samples
        past_BP, seen_BP = np.stack([one.past for one in windows]), np.stack([one.seen for one in windows])
        known_BTF = np.stack([one.known for one in windows])
        scale_B1 = to_device(scales(windows), model)
        B, C = len(windows), shape.context
        read = step_inputs(past_BP, seen_BP, known_BTF[:, :C], shape, shape.before, C)
        _, state = model(to_device(read, model))
        state = {name: value.repeat_interleave(S, dim=0) for name, value in state.items()}
        known_NHF = to_device(known_BTF[:, C:], model).repeat_interleave(S, dim=0)
        # the latest values, as far back as the lags reach, and the sampled ones
        recent_NL = to_device(past_BP[:, -shape.before :], model).repeat_interleave(S, dim=0)
        seen_N1 = recent_NL.new_ones(B * S, 1)
        seen_before_N1 = to_device(seen_BP[:, -1:], model).to(recent_NL).repeat_interleave(S, dim=0)
        drawn = []
        for step in range(shape.horizon):
            lagged = [recent_NL[:, recent_NL.shape[1] - lag, None] for lag in shape.lags]
            seen = seen_N1 if step else seen_before_N1
            raw_NP, state = model.step(torch.cat([*lagged, seen, known_NHF[:, step]], dim=1), state)
            rng = np.random.default_rng([self.seed, step])
            value_BS = self.output.draw(raw_NP.float().view(B, S, -1), scale_B1, rng)
            drawn.append(value_BS)
            recent_NL = torch.cat([recent_NL[:, 1:], value_BS.reshape(-1, 1)], dim=1)
        return torch.stack(drawn, dim=2)

    def predict(self, model: nn.Module, items: Sequence[Series]) -> list[dict[str, Any]]:
        """The times of the next steps of each series, with their means and quantiles.

        Raises:
            UserError: covariates end before the horizon, or a model of counts gets other numbers.
        """
        model.eval()
        windows = [self._to_be_predicted(item) for item in items]
        answers = []
        for item, samples_SH in zip(items, self.sample(model, windows), strict=True):
            times = written(self._ahead(item), item.utc)
            rows_RH = np.concatenate([samples_SH.mean(axis=0)[None], np.quantile(samples_SH, LEVELS, axis=0)])
            numbers = [row.tolist() for row in _rounded(rows_RH)]
            answers.append(dict(zip(self.columns, [times, *numbers], strict=True)))
        return answers

    @torch.inference_mode()
    def states(self, model: nn.Module, item: Series) -> dict[str, np.ndarray]:
        """The model's activations while it reads the context, the last steps of a series."""
        one, C = self._to_be_predicted(item), self.shape.context
        read = step_inputs(one.past[None], one.seen[None], one.known[None, :C], self.shape, self.shape.before, C)
        with watched(model) as found:
            model(to_device(read, model))
        return arrays(found)

    def _ahead(self, item: Series) -> np.ndarray:
        return following(item.times[len(item.values) - 1], self.encoding.freq, self.encoding.horizon)

    def _to_be_predicted(self, item: Series) -> Window:
        steps, horizon = len(item.values), self.encoding.horizon
        if item.named and len(item.covariates) < steps + horizon:
            there = len(item.covariates) - steps
            what = f"{item.name}: {', '.join(item.named)} given for only {there} of the {horizon} steps to predict"
            raise UserError(what, where="data", hint="give their values for all steps to predict")
        if self.output.counts and not are_counts(item.values):
            raise UserError(f"{item.name}: the model needs counts, i.e. whole numbers from 0 to 2⁵³", where="data")
        far = max(0, steps - self.shape.past)  # earlier steps aren't read
        times = np.concatenate([item.times[far:steps], self._ahead(item)])
        covariates = item.covariates[far : steps + horizon]
        if not item.named:
            covariates = np.zeros((len(times), 0))
        whole = item._replace(times=times, values=item.values[far:], covariates=covariates)
        return window(self.encoding.encode(whole), steps - far, self.shape)

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """Naive, seasonal naive and exponential smoothing forecasts, with distributions from their past errors."""
        places = self.batches(test, batch_size=1, window=0, seed=0, training=False).places
        if not places:
            return {}
        windows = [window(test.fields["series"][row], origin, self.shape) for row, origin in places]
        histories, actual = [one.history for one in windows], [one.wanted for one in windows]
        found = {"naive": naive_loss(histories, actual, 1)}
        if self.encoding.season > 1:
            found["seasonal naive"] = naive_loss(histories, actual, self.encoding.season)
        smoothed = exponential_smoothing(histories, self.shape.horizon, self.encoding.season)
        found["exponential smoothing"] = samples_loss([one.samples_SH for one in smoothed], actual)
        return found

    def findings(self, model: nn.Module, split: Examples) -> list[Finding]:
        """The scores of each series with those of the seasonal naive forecast, and a picture of the first series."""
        batches = self.batches(split, batch_size=64, window=0, seed=0, training=False)
        rows: list[list[Any]] = []
        futures: dict[int, Future] = {}
        model.eval()
        for batch in batches.epoch():
            for one, samples_SH in zip(batch.windows, self.sample(model, batch.windows), strict=True):
                future = self._future(split.fields["series"], one, samples_SH)
                error = seasonal_error(one.history, self.encoding.season)
                naive_SH = seasonal_naive(one.history, self.shape.horizon, self.encoding.season)[1]
                found, naive = (scores(paths, one.wanted, error) for paths in (samples_SH, naive_SH))
                own = [f"{tally.value:.6g}" for tally in found.values()]
                origin = written(future.times[-len(future.actual) :][:1], self.encoding.utc)[0]
                rows.append([future.name, origin, *own, f"{naive[self.primary].value:.6g}"])
                if len(futures) < DRAWN or one.row in futures:
                    futures[one.row] = future  # the last of several origins
        if not rows:
            return []
        heads = ["series", "first_step", *found, f"seasonal_naive_{self.primary}"]
        table = Table("forecasts", {head: [row[at] for row in rows] for at, head in enumerate(heads)})
        return [table, Fan("forecasts", "the last of the test data", tuple(futures.values()))]

    def _future(self, sequences: Sequences, one: Window, samples_SH: np.ndarray) -> Future:
        name, start = self.encoding.series[one.row]
        shown = min(len(one.history), max(SHOWN_SEASONS * self.encoding.season, 2 * self.shape.horizon))
        begin = np.datetime64(start)
        times = np.concatenate([[begin], following(begin, self.encoding.freq, one.origin + len(one.wanted) - 1)])
        return Future(
            name,
            times[one.origin - shown :],
            one.history[-shown:],
            one.wanted,
            seasonal_naive(one.history, len(one.wanted), self.encoding.season)[0],
            np.quantile(samples_SH, LEVELS, axis=0),
            LEVELS,
        )


def _rounded(rows_RH: np.ndarray) -> np.ndarray:
    """Rounded to a hundred-thousandth of the spread: further decimals would be sampling noise."""
    spread = float(np.ptp(rows_RH, axis=0).max())
    return np.round(rows_RH, min(12, max(0, math.ceil(5 - math.log10(spread))))) if spread > 0 else rows_RH
