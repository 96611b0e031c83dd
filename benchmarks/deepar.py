"""GluonTS's DeepAR on the data of a forecasting recipe: python -m benchmarks.deepar [RECIPE] [--epochs 100] [--seed 0]

RECIPE: forecast (default) or m4-hourly. Needs `pip install gluonts lightning`. It has its own settings (two layers of
40 LSTM units, its lags, 50 updates an epoch), and the series, parts, origins, 100 samples and metrics of the recipe.
Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.paths import CODE
from components.recipe import read_recipe
from components.tasks.base import Tally
from components.tasks.forecast_scores import scores, seasonal_error

SAMPLES = 100


def measure(name: str, epochs: int, seed: int, split: str) -> dict[str, Any]:
    import lightning.pytorch as lightning
    import pandas as pd
    from gluonts.dataset.common import ListDataset
    from gluonts.torch import DeepAREstimator

    with tempfile.TemporaryDirectory() as folder:
        recipe = read_recipe(CODE / "flows" / "recipes" / f"{name}.yaml")
        ref = ingest(recipe.data, recipe.encoding, root=CODE, cache_dir=Path(folder), seed=recipe.seed)
        store = Store.open(ref.path)
        encoding = store.encoding()
        parts = {
            part: [encoding.decode(frames) for frames in store.split(part).fields["series"]]
            for part in ("train", split)
        }

        def listed(series: list[np.ndarray]) -> ListDataset:
            rows = zip(series, encoding.series, strict=True)
            return ListDataset(
                [{"start": pd.Period(start, freq=encoding.freq), "target": values} for values, (_, start) in rows],
                freq=encoding.freq,
            )

        lightning.seed_everything(seed)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = {"max_epochs": epochs, "accelerator": "cpu", "default_root_dir": folder, **quiet}
        horizon, origins, season = encoding.horizon, encoding.origins, encoding.season
        started = time.process_time()
        made = DeepAREstimator(freq=encoding.freq, prediction_length=horizon, trainer_kwargs=trainer).train(
            listed(parts["train"])
        )
        seconds = time.process_time() - started
    tallies: dict[str, Tally] = {}
    for back in range(origins * horizon, 0, -horizon):
        pasts = [values[:-back] for values in parts[split]]
        for values, past, found in zip(
            parts[split], pasts, made.predict(listed(pasts), num_samples=SAMPLES), strict=True
        ):
            samples_SH = np.asarray(found.samples, dtype=np.float64)
            actual = values[len(past) : len(past) + horizon]
            own = scores(samples_SH, actual, seasonal_error(past, season))
            tallies = {name: tallies[name] + tally if name in tallies else tally for name, tally in own.items()}
    figures = {name: round(tally.value, 4) for name, tally in tallies.items()}
    return {
        "recipe": recipe.name,
        "split": split,
        "epochs": epochs,
        "seed": seed,
        "training_processor_seconds": round(seconds),
        **figures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="forecast")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    print(json.dumps(measure(options.recipe, options.epochs, options.seed, options.split)))


if __name__ == "__main__":
    main()
