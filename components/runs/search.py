"""The result of a search, for MLflow's pages and the terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from components.console import out, table
from components.evaluation.tuning import Found, Tried, best_so_far, trials_table, write_search
from components.render.figures import figure, markdown_table
from components.runs.asked import typed
from components.runs.space import Search
from components.tracking.mlflow_backend import MlflowRun

SHOWN = 10
RANKED = "ranked by **val** (best weights of each trial); test was not used"


@dataclass(frozen=True)
class Answer:
    """The result of a search. `command` runs the recipe with the best settings; "" if no trial finished."""

    run_id: str
    url: str
    runs_url: str
    found: Found
    command: str
    notes: list[str]


def publish(search: Search, parent: MlflowRun, folder: Path, found: Found, runs_url: str) -> Answer:
    """Write the table, the plot and the best settings to the parent run. `runs_url` is the address of the page of its
    trials."""
    parent.table(trials_table(found), "trials.json")
    picture = folder / "tune.png"
    write_search(picture, found, title=f"{search.name}: {len(found.tried)} trials, each {search.budget}")
    parent.file(picture, "figures")
    for number, value in best_so_far(found):
        parent.metrics({"search/best_so_far": value}, number)
    best, command, notes = found.best, "", _notes(search, found)
    words = [f"**{search.name}**: {len(found.tried)} trials, each {search.budget}. {found.metric}, {RANKED}."]
    if best:
        command = _command(search, best)
        parent.metrics({f"best/{found.metric}": best.value})
        parent.tags({"primary.metric": found.metric, "tune.best_run": best.run_id, "tune.command": command})
        words += [
            f"Best: trial {best.number}, **{figure(best.value)}**.",
            f"```\n{command}\n```",
            markdown_table(*_rows(found)),
        ]
    if found.importance:
        shares = ", ".join(f"{key} {share:.2f}" for key, share in found.importance.items())
        words.append(f"Importance of each setting for being among the best tenth: {shares}.")
    about = f"[Its trials as charts]({runs_url}). Picture: `figures/tune.png`. Every trial: `trials.json`."
    parent.describe("\n\n".join([*words, about, *notes]) + "\n")
    return Answer(parent.ref.run_id, parent.ref.url, runs_url, found, command, notes)


def show(answer: Answer) -> None:
    """Print the best trials and where to look next."""
    found = answer.found
    out.print()
    headings, rows = _rows(found)
    table(f"{found.metric} on val, the best of {len(found.tried)} trials; test was not used", headings, rows)
    out.print()
    for key, share in found.importance.items():
        out.print(f"matters {share:5.2f}  {key}")
    for note in answer.notes:
        out.print(f"note    {note}")
    out.print(f"mlflow  {answer.url}\ncurves  {answer.runs_url}")
    out.print(f"next    {answer.command}")


def _command(search: Search, best: Tried) -> str:
    """The command that runs the recipe with the best settings; the last `--set` of a key counts."""
    best_settings = (f"{key}={json.dumps(value)}" for key, value in best.settings.items())
    return typed("run", search.asked.words, *(word for each in best_settings for word in ("--set", each)))


def _notes(search: Search, found: Found) -> list[str]:
    states = {state: sum(tried.state == state for tried in found.tried) for state in ("pruned", "failed", "running")}
    notes = [f"{count} of {len(found.tried)} trials {state}" for state, count in states.items() if count]
    if failed := next((tried for tried in found.tried if tried.failed), None):
        notes.append(f"trial {failed.number} failed: {failed.failed}")
    if search.budget.settings:
        notes.append(f"each trial had {search.budget}; the command below trains for as long as the recipe says")
    if found.best and found.best.number == 0:
        notes.append("the first trial is the best: it has the recipe's own settings, if they are in the search space")
    return notes


def _rows(found: Found) -> tuple[list[str], list[list[str]]]:
    keys = list(found.ranked[0].settings) if found.ranked else []
    headings = ["trial", *(key.rpartition(".")[2] for key in keys), f"val {found.metric}", "params", "s"]
    rows = []
    for tried in found.ranked[:SHOWN]:
        settings = [str(tried.settings[key]) for key in keys]
        spent = [f"{tried.parameters:,}", f"{tried.seconds:.0f}"]
        rows.append([str(tried.number), *settings, figure(tried.value), *spent])
    return headings, rows
