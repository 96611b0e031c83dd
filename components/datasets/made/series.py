"""Generated series: hourly loads with a trend, daily and weekly seasonality, and noise that grows with the load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from components.datasets.series.parts import SeriesParts
from components.datasets.series.times import from_start
from components.encodings.series import Series
from components.errors import UserError
from components.provenance import digest_json

BEGIN = np.datetime64("2024-01-01T00:00:00", "s")  # a Monday
MOST_VALUES = 20_000_000


@dataclass(kw_only=True, eq=False)
class MadeSeries(SeriesParts):
    """`count` series of `steps` hours. Each has its own level, from 10 to 10,000, a slow trend, peaks at its own hours
    on working days, another shape at weekends, and noise, partly autoregressive and larger where the load is larger.
    The last `origins` times `horizon` hours are test, as many before them val.

    `seed`: seed of the data, independent of the recipe's.
    """

    own = True
    files_by = "series-table"

    count: Annotated[int, Field(gt=0)] = 32
    steps: Annotated[int, Field(ge=336, le=100_000)] = 1344
    horizon: Annotated[int, Field(gt=0, le=168)] = 24
    origins: Annotated[int, Field(gt=0, le=28)] = 7
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        if self.count * self.steps > MOST_VALUES:
            what = f"{self.count:,} series of {self.steps:,} are more than {MOST_VALUES:,} values"
            raise UserError(what, where="data", hint="set a smaller data.count or data.steps")
        self.kept: dict[str, Any] = {}
        self.found["frequency"] = ("made-series", ("h",))

    def whole(self) -> list[Series]:
        if "series" not in self.kept:
            self.kept["series"] = [self._made(number) for number in range(self.count)]
        return self.kept["series"]

    def _made(self, number: int) -> Series:
        times, no_covariates = from_start(BEGIN, "h", self.steps), np.zeros((self.steps, 0))
        values = self._values(np.random.default_rng([self.seed, number]))
        return Series(f"load-{number + 1:02}", times, values, no_covariates, "h", 24, self.horizon, self.origins)

    def _values(self, rng: np.random.Generator) -> np.ndarray:
        """Float64 [steps], with two decimals."""
        hour_T = np.arange(self.steps) % 24
        weekend_T = np.arange(self.steps) // 24 % 7 >= 5
        level = 10 ** rng.uniform(1, 4)
        trend_T = 1 + rng.normal(0, 0.25) * np.linspace(-0.5, 0.5, self.steps)
        peaks = [(rng.uniform(7, 10), rng.uniform(0.2, 0.9)), (rng.uniform(17, 21), rng.uniform(0.2, 0.9))]
        noon, weekend_level = rng.uniform(12, 15), rng.uniform(0.55, 0.9)
        working_T = 0.6 + sum(height * np.exp(-(_hours(hour_T, at) ** 2) / 8) for at, height in peaks)
        free_T = weekend_level * (0.7 + 0.5 * np.exp(-(_hours(hour_T, noon) ** 2) / 18))
        expected_T = trend_T * np.where(weekend_T, free_T, working_T)
        lasting_T, shocks_T = np.zeros(self.steps), rng.normal(0, 1, self.steps)
        for step in range(1, self.steps):
            lasting_T[step] = 0.9 * lasting_T[step - 1] + 0.03 * shocks_T[step]
        noise_T = lasting_T + 0.04 * rng.normal(0, 1, self.steps)
        return np.round(level * expected_T * np.exp(noise_T), 2)

    def digest(self) -> str:
        """Digest of the options and of the first series: numpy may change the numbers that a seed gives."""
        options = [self.count, self.steps, self.horizon, self.origins, self.seed]
        return digest_json(["made-series", options, self.whole()[0].values.tolist()])


def _hours(hour_T: np.ndarray, at: float) -> np.ndarray:
    """The distance of hours from a time of the day, modulo 24."""
    away = np.abs(hour_T - at)
    return np.minimum(away, 24 - away)
