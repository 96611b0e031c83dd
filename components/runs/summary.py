"""The summary at the end of a run: results, files, and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.console import out, table
from components.errors import UserError
from components.evaluation.baseline import PREFIX
from components.render.figures import figure
from components.runs.asked import typed
from components.runs.outcome import Outcome
from components.runs.plan import make_plan

WORTH_VARYING = ("model.kind=rnn,gru,lstm", "model.hidden_size=64,128,256")


def show(outcome: Outcome, asked: Sequence[str] = (), *, prefect: str | None = None) -> None:
    """Print a short table of the outcome. `asked` are the words after `reprise run` as typed, `prefect` is the address
    of Prefect's UI."""
    rows = [[name, figure(value)] for name, value in outcome.metrics.items() if name.startswith(("test/", PREFIX))]
    rows += [["model", f"{outcome.model} ({outcome.model.alias})" if outcome.model else "not registered"]]
    rows += [["run", f"{outcome.run_name} ({outcome.run_id[:8]})"]]
    out.print()
    table("results", ["what", "value"], rows)
    for remark in outcome.remarks:
        out.print(f"note    {remark}")
    out.print()
    for folder in sorted({str(Path(path).parent) for path in outcome.files}):
        names = sorted(Path(path).name for path in outcome.files if str(Path(path).parent) == folder)
        out.print(f"files   {folder}/")
        for name in names:
            out.print(f"          {name}")
    out.print(f"mlflow  {outcome.url}")
    if prefect:
        out.print(f"prefect {prefect}  (`reprise down` stops it)")
    after = "\n        ".join(["reprise ui    (then open the mlflow link above)", *following(outcome, asked)])
    out.print(f"next    {after}")


def following(outcome: Outcome, asked: Sequence[str] = ()) -> list[str]:
    """Commands to suggest after a run."""
    words = list(asked) or outcome.asked
    if outcome.files:
        return [outcome.use]
    use = [outcome.use] if outcome.use.startswith("reprise predict") else []
    if words and any(name.startswith("val/") for name in outcome.metrics):  # a comparison ranks by val
        recipe, options = words[0], words[1:]
        pairs = list(zip(options[::2], options[1::2], strict=True))
        overrides = [value for option, value in pairs if option == "--set"]
        for vary in WORTH_VARYING:
            try:
                make_plan(recipe, [vary], seeds=1, overrides=overrides)
            except UserError:  # a setting that other cells don't have, or another kind of model
                continue
            return [*use, typed("compare", words, "--vary", vary)]
    return use or ([typed("models", [outcome.model.name])] if outcome.model else [])
