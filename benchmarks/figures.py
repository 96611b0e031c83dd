"""Every recipe's figure: python -m benchmarks.figures [NAME …] [--seeds 3] [--threads 1], or `make figures`

Runs the recipes one after the other, each in a process of its own, and writes a table, figures.md in the state folder,
after each. What is finished in MLflow with the same settings isn't run again, and a run that was cut off is resumed, so
the command can be stopped and typed again. A recipe that fails is told in its row, and the next one runs. Without names
it takes all recipes but those that need a GPU (LARGE), last those that read with models of others. Processor time is
that of the run's process and those it starts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.evaluation.baseline import strongest
from components.recipe import Recipe, read_recipe
from components.render.figures import figure, markdown_table
from components.runs.places import places, recipe_names, recipe_path
from components.runs.record import FILE
from components.runs.start import with_letter_models
from components.tracking.mlflow_client import open_client
from components.tracking.promotion import lower_is_better
from components.whole_files import written_whole

LARGE = ("shakespeare-large",)
SECONDS = "figures.processor_seconds"  # tag of a run that one process of ours did from beginning to end
HEADINGS = ("recipe", "figure", "test", "val", "baseline", "accepted by", "processor", "data", "run")


def runs_of(recipe: Recipe) -> list[Any]:
    """MLflow's runs of the recipe with just these settings, by themselves (no comparison's), the newest first."""
    client = open_client(places().settings)
    experiment = client.get_experiment_by_name(recipe.name)
    if experiment is None:
        return []
    with suppress(UserError):  # its models are still to be trained
        recipe = with_letter_models(recipe)
    found = client.search_runs([experiment.experiment_id], f"tags.`recipe.digest` = '{recipe.digest}'")
    return [run for run in found if "mlflow.parentRunId" not in run.data.tags]


def finished(recipe: Recipe) -> Any | None:
    return next((run for run in runs_of(recipe) if run.info.status == "FINISHED"), None)


def train(name: str, recipe: Recipe, threads: int) -> None:
    """Run the recipe of this name or file, or go on with a run of it that was cut off here."""
    begun = [run.info.run_id for run in runs_of(recipe) if (places().run_folder(run.info.run_id) / FILE).exists()]
    words = ["run", name, "--set", f"seed={recipe.seed}", "--threads", str(threads)]
    process = subprocess.Popen([sys.executable, "-m", "flows.cli", *(["resume", begun[0]] if begun else words)])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    run = finished(recipe)
    if run is not None and not begun:
        open_client(places().settings).set_tag(run.info.run_id, SECONDS, f"{used.ru_utime + used.ru_stime:.0f}")


def row(recipe: Recipe, runs: Sequence[Any]) -> list[str]:
    """The table's row of a recipe and its finished runs, the first seed's first."""
    name = recipe.name
    if not runs:
        return [name, "failed", *[""] * (len(HEADINGS) - 2)]
    metrics, tags = runs[0].data.metrics, runs[0].data.tags
    primary = tags["primary.metric"]
    others = [key for key in recipe.accept if key in metrics and key != f"test/{primary}"]
    test = [run.data.metrics[f"test/{primary}"] for run in runs if f"test/{primary}" in run.data.metrics]
    shown = figure(test[0]) if test else ""
    if len(test) > 1:
        shown += f" ({len(test)} seeds: {figure(statistics.fmean(test))} ± {figure(statistics.stdev(test))})"
    beside = strongest(metrics, bool(lower_is_better(primary)))
    val = metrics.get(f"best/{primary}")
    return [
        name,
        primary,
        shown,
        figure(val) if val is not None else "",
        f"{beside.name} {figure(beside.value)}" if beside else "",
        ", ".join(f"{key.removeprefix('test/')} {figure(metrics[key])}" for key in others),
        f"{tags[SECONDS]} s" if SECONDS in tags else "",
        tags["data.digest"][:8],
        runs[0].info.run_id[:8],
    ]


def write(rows: Sequence[Sequence[str]], total: float) -> Path:
    target = places().home / "figures.md"
    with written_whole(target) as temporary:
        whole = f"\n\nProcessor time of the runs listed with one: {total / 60:.0f} min.\n"
        temporary.write_text(markdown_table(HEADINGS, rows) + whole, encoding="utf-8")
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes (default: all that need no GPU)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each recipe, with seeds 0, 1, …")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: one per core)")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds: at least 1")
    names = options.names or [name for name in recipe_names() if name not in LARGE]
    try:
        wanted = {n: [read_recipe(recipe_path(n), [f"seed={seed}"]) for seed in range(options.seeds)] for n in names}
    except UserError as error:
        parser.error(str(error))
    rows: list[list[str]] = []
    total = 0.0
    for name, recipes in sorted(wanted.items(), key=lambda item: bool(item[1][0].model.get("letter_models"))):
        for recipe in recipes:
            if finished(recipe) is None:
                train(name, recipe, options.threads)
        runs = [run for recipe in recipes if (run := finished(recipe)) is not None]
        total += sum(float(run.data.tags.get(SECONDS, 0)) for run in runs)
        rows.append(row(recipes[0], runs))
        target = write(rows, total)
    print(f"{target.read_text(encoding='utf-8')}\nwritten to {target}")
    sys.exit(any(cells[1] == "failed" for cells in rows))


if __name__ == "__main__":
    main()
