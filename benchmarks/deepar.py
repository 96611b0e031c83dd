"""GluonTS's DeepAR on the data of `reprise run forecast`: python -m benchmarks.deepar [--epochs 100] [--seed 0]

Needs `pip install gluonts lightning`. It has its own settings (two layers of 40 LSTM units, its lags, 50 updates an
epoch), and the series, parts, origins, 100 samples and metrics of the recipe. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from typing import Any

import numpy as np

from components.datasets.made_series import MadeSeries
from components.tasks.base import Tally
from components.tasks.forecast_scores import scores, seasonal_error

SAMPLES = 100


def measure(epochs: int, seed: int) -> dict[str, Any]:
    import lightning.pytorch as lightning
    import pandas as pd
    from gluonts.dataset.common import ListDataset
    from gluonts.torch import DeepAREstimator

    reader = MadeSeries()
    series = reader.whole()
    horizon, origins, steps = reader.horizon, reader.origins, reader.steps

    def until(end: int) -> ListDataset:
        begin = pd.Period(str(series[0].times[0]), freq="h")
        return ListDataset([{"start": begin, "target": one.values[:end]} for one in series], freq="h")

    lightning.seed_everything(seed)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = {"max_epochs": epochs, "accelerator": "cpu", "default_root_dir": folder, **quiet}
        started = time.process_time()
        made = DeepAREstimator(freq="h", prediction_length=horizon, trainer_kwargs=trainer).train(
            until(steps - 2 * origins * horizon)
        )
        seconds = time.process_time() - started
    tallies: dict[str, Tally] = {}
    for origin in range(origins):
        end = steps - (origins - origin) * horizon
        for one, found in zip(series, made.predict(until(end), num_samples=SAMPLES), strict=True):
            samples_SH = np.asarray(found.samples, dtype=np.float64)
            own = scores(samples_SH, one.values[end : end + horizon], seasonal_error(one.values[:end], one.season))
            tallies = {name: tallies[name] + tally if name in tallies else tally for name, tally in own.items()}
    figures = {name: round(tally.value, 4) for name, tally in tallies.items()}
    return {"epochs": epochs, "seed": seed, "training_processor_seconds": round(seconds), **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    print(json.dumps(measure(options.epochs, options.seed)))


if __name__ == "__main__":
    main()
