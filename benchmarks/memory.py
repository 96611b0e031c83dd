"""How long a cell remembers: the adding problem and copy memory at growing lags, by tanh RNN, GRU and LSTM.

    python -m benchmarks.memory [--tasks adding-problem copy-memory] [--picture docs/images/memory.png]

Every run is its recipe (adding-problem, copy-memory) with another cell and lag, trained by the same loop for the
recipe's updates with seed 0; the figure is of the test split, at the weights that were best on val. Writes
results/memory.json beside this file, and the picture. About a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.kernels import machine
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.recipe import read_recipe
from components.training.session import Session

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "memory.json"
KINDS = {"rnn": ("#d55e00", "tanh RNN"), "gru": ("#0072b2", "GRU"), "lstm": ("#009e73", "LSTM")}
TASKS = {
    "adding-problem": ("mse", [10, 25, 50, 100], "mean squared error", 1 / 6),
    "copy-memory": ("accuracy", [5, 15, 50], "share of symbols recalled", 1 / 8),
}


class Quiet:
    """Listens to nothing."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...
    def progress(self, step: int, steps: int, values: dict[str, float]) -> None: ...
    def evaluated(self, values: dict[str, float], step: int, improved: bool) -> None: ...


def measure(task: str, kind: str, lag: int, folder: Path) -> dict[str, float]:
    """The test figures of one run."""
    overrides = [f"model.kind={kind}", f"data.lag={lag}"]
    recipe = read_recipe(ROOT / "flows" / "recipes" / f"{task}.yaml", overrides)
    ref = ingest(recipe.data, recipe.encoding, root=ROOT, cache_dir=folder / "data", seed=0)
    session = Session(recipe, Store.open(ref.path), "cpu", 1)
    progress = session.train(folder / f"{task}-{kind}-{lag}", Quiet())
    return {**session.evaluate("test"), "updates": progress.global_step, "seconds": round(progress.seconds, 1)}


def draw(rows: list[dict], path: Path) -> None:
    """The figure of each task against the lag, a line for each cell."""
    figure = Figure(figsize=(9.2, 3.9), dpi=130, layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (task, (metric, lags, words, chance)) in zip(panels, TASKS.items(), strict=True):
        for kind, (colour, name) in KINDS.items():
            values = [
                row[metric]
                for lag in lags
                for row in rows
                if (row["task"], row["kind"], row["lag"]) == (task, kind, lag)
            ]
            axes.plot(lags, values, color=colour, marker="o", label=name)
        axes.axhline(chance, color="#8a8a8a", linestyle="--", linewidth=0.9, label="without memory")
        axes.set(
            xlabel="lag, steps",
            ylabel=words,
            title=f"{task}, {_updates(rows, task):,} updates",
            xscale="log",
            xticks=lags,
        )
        axes.set_xticks([], minor=True)
        axes.set_xticks(lags, [str(lag) for lag in lags])
        if metric == "mse":
            axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    panels[0].legend(frameon=False)
    FigureCanvasAgg(figure).print_png(path)


def _updates(rows: list[dict], task: str) -> int:
    return max(row["updates"] for row in rows if row["task"] == task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="the others' results stay")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "images" / "memory.png")
    parser.add_argument("--redraw", action="store_true", help="draw the results that are there")
    options = parser.parse_args()
    if options.redraw:
        draw(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"], options.picture)
        return
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    rows = [row for row in kept if row["task"] not in options.tasks]
    with tempfile.TemporaryDirectory() as folder:
        for task in options.tasks:
            metric, lags, _, _ = TASKS[task]
            for lag in lags:
                for kind in KINDS:
                    rows.append({"task": task, "kind": kind, "lag": lag})
                    rows[-1] |= measure(task, kind, lag, Path(folder))
                    print(
                        f"{task} lag {lag} {kind}: {metric} {rows[-1][metric]:.4g}, {rows[-1]['seconds']} s", flush=True
                    )
    RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    draw(rows, options.picture)


if __name__ == "__main__":
    main()
