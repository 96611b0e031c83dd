"""Comparison of generated and real music on the run's page."""

from __future__ import annotations

import math
from pathlib import Path

from components.bundle import Generation
from components.datasets.store import Store
from components.evaluation.drums import judge_drums
from components.evaluation.music import judge
from components.evaluation.music_lines import lines
from components.evaluation.music_picture import write_judgement
from components.evaluation.performances import judge_performances
from components.evaluation.self_similarity import write_self_similarity
from components.score import Score
from components.tasks.base import Task
from components.tracking.mlflow_backend import MlflowRun

MOST = 500  # pieces of a split to compare with


def judged(
    run: MlflowRun, task: Task, store: Store, made: Generation, folder: Path, name: str
) -> dict[str, dict[str, float]]:
    """Log how the generated scores compare with held-out ones: metrics ("music/…"), a table and a plot.

    Does nothing if there are no scores or no held-out pieces.
    """
    items = [item for item in made.items if isinstance(item, Score) and any(part.notes for part in item.parts)]
    if not items:
        return {}
    training, held_out = (
        [s for s in _some(task, store, split) if any(p.notes for p in s.parts)] for split in ("train", "test")
    )
    if not training or not held_out:
        return {}
    of_all = judge
    if all(item.only_drums for item in items):
        of_all = judge_drums
    elif all(item.timing == "seconds" for item in items):
        of_all = judge_performances
    table = of_all(items, training, held_out)
    run.metrics({f"music/{figure}": pair["generated"] for figure, pair in table.items() if "generated" in pair})
    figures = list(table)
    columns = {"figure": figures} | {
        side: [f"{table[figure].get(side, math.nan):.4g}" for figure in figures] for side in ("generated", "held_out")
    }
    run.table(columns, "music/judgement.json")
    picture = folder / "judgement.png"
    write_judgement(picture, table, title=f"{name}: {len(items)} generated and {len(held_out)} held-out pieces")
    run.file(picture, "figures")
    made_bars, real_bars = ([s for s in side if s.timing != "seconds" and lines(s)] for side in (items, held_out))
    if made_bars and real_bars:
        picture = folder / "self_similarity.png"
        title = f"{name}: how alike each two bars of a piece are"
        write_self_similarity(picture, made_bars[0], real_bars, title=title)
        run.file(picture, "figures")
    return table


def _some(task: Task, store: Store, split: str) -> list[Score]:
    """The first pieces of a split; empty if the task's items aren't scores."""
    items = task.originals(store.split(split))[:MOST]
    return items if items and isinstance(items[0], Score) else []
