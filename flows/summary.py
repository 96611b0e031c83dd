"""The end of a run: what was reached, where it is, and the next command."""

from __future__ import annotations

from pathlib import Path

from components.render.figures import figure
from flows.console import out, table
from flows.pipeline import Outcome
from flows.places import places
from flows.server import Server


def show(outcome: Outcome) -> None:
    """Print a short table of the outcome."""
    rows = [[name, figure(value)] for name, value in outcome.metrics.items() if name.startswith("test/")]
    rows += [["model", f"{outcome.model} ({outcome.model.alias})" if outcome.model else "not registered"]]
    rows += [["run", f"{outcome.run_name} ({outcome.run_id[:8]})"]]
    out.print()
    table("reached", ["what", "value"], rows)
    out.print()
    for folder in sorted({str(Path(path).parent) for path in outcome.files}):
        names = sorted(Path(path).name for path in outcome.files if str(Path(path).parent) == folder)
        out.print(f"files   {folder}/", markup=False)
        for name in names:
            out.print(f"          {name}", markup=False)
    out.print(f"mlflow  {outcome.url}", markup=False)
    if url := Server(places().prefect).url():
        out.print(f"prefect {url}  (`reprise down` stops it)", markup=False)
    if outcome.model and outcome.files:
        again = f"reprise generate {outcome.model.name} --seed 1"
    elif outcome.model:
        again = f"reprise compare {outcome.model.name} --vary model.kind=rnn,gru,lstm"
    else:
        again = f"reprise resume {outcome.run_id[:8]}"
    out.print(f"next    reprise ui    (then open the mlflow link above)\n        {again}", markup=False)
