"""Samples of a run's model: short ones at each evaluation, in one table, and files at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.console import say
from components.errors import UserError
from components.render.outputs import described
from components.runs.generate import Opened, generated, open_model
from components.runs.judge import judged
from components.runs.open_run import OpenRun
from components.runs.travel import SAMPLES
from components.tracking.base import ModelRef
from components.tracking.mlflow_backend import MlflowRun
from components.training.session import Session
from components.training.trainer import Events
from components.whole_files import written_whole

TABLE = "samples/during_training.json"
FILE = SAMPLES  # a resumed run continues its table
COUNT, MAX_TOKENS, MAX_ROWS = 2, 80, 400
COLUMNS = ("update", "number", "sample", "nats_per_token")


class WithSamples:
    """Passes on a training run's events, and generates samples at each evaluation, always with the same seed. Models
    that predict have no samples.

    Training isn't affected: sampling uses separate random generators.
    """

    def __init__(self, events: Events, session: Session, run: MlflowRun, folder: Path) -> None:
        self.events, self.session, self.run, self.file = events, session, run, folder / FILE
        self.rows: dict[tuple[int, int], list[Any]] = {}
        if self.file.exists():
            for line in self.file.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self.rows[row[0], row[1]] = row

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.events.metrics(values, step)

    def progress(self, step: int, steps: int, values: dict[str, float]) -> None:
        self.events.progress(step, steps, values)

    def evaluated(self, values: dict[str, float], step: int, improved: bool) -> None:
        self.events.evaluated(values, step, improved)
        if self.session.task.settings is None or len(self.rows) >= MAX_ROWS:
            return
        for number, (text, nats) in enumerate(self._written(), 1):
            self.rows[step, number] = [step, number, text, round(nats, 3)]
        if self.rows:
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows.values())
            with written_whole(self.file) as whole:
                whole.write_text(lines, encoding="utf-8")
            shown = [self.rows[key] for key in sorted(self.rows)]
            self.run.table({name: [row[i] for row in shown] for i, name in enumerate(COLUMNS)}, TABLE)

    def _written(self) -> list[tuple[str, float]]:
        session, model = self.session, self.session.model
        settings = dict(session.recipe.generation)
        settings |= {"count": COUNT, "max_length": min(MAX_TOKENS, settings["max_length"])}
        training = model.training
        try:
            made = session.task.generate(model, session.task.settings(**settings), seed=session.recipe.seed)
        except UserError:  # such as a missing prompt; reported when the run writes its final samples
            return []
        finally:
            model.train(training)
        return [(described(item), one.nats_per_token) for item, one in zip(made.items, made.sampled, strict=True)]


def write_samples(run: OpenRun, model: ModelRef | None) -> list[str]:
    """Log the run's samples in MLflow: generated files, and a table of short ones at several temperatures, or values of
    the task's other `varied` setting. `model` is the registered version, if any."""
    opened = open_model(f"{model.name}@{model.version}" if model else f"run:{run.id}")
    tracked, seed = run.tracked, run.record.recipe.seed
    if opened.bundle.task.settings is None:
        return []  # a model that predicts: see the run's table of predictions
    paths, written = generated(opened, {}, seed)
    for path in paths:
        tracked.file(Path(path), "samples")
    table = judged(tracked, opened.bundle.task, run.store, written, run.folder, opened.name)
    told = ("copied_8_grams", "strong_beats_on_chord_tones", "notes_in_best_key")
    for figure in (*told, "hits_per_bar", "notes_per_second", "velocity_spread", "off_grid_ms", "patterns_copied"):
        if "generated" in table.get(figure, {}):  # else the pieces are too short for it
            real = table[figure].get("held_out")
            beside = f" (held-out music {real:.3f})" if real is not None else ""
            say(f"music   {figure.replace('_', ' ')} {table[figure]['generated']:.3f}{beside}")
    setting, values = opened.bundle.task.varied
    made = [(value, opened.bundle.generate(_short(opened) | {setting: value}, seed=seed)) for value in values]
    rows = [
        (value, index, described(item), f"{sampled.nats_per_token:.3f}", sampled.ended)
        for value, generation in made
        for index, (item, sampled) in enumerate(zip(generation.items, generation.sampled, strict=True))
    ]
    names = (setting, "number", "sample", "nats_per_token", "ended_itself")
    tracked.table({name: [row[i] for row in rows] for i, name in enumerate(names)}, "samples/temperatures.json")
    return paths


def _short(opened: Opened) -> dict[str, Any]:
    limit = min(400, opened.bundle.recipe["generation"]["max_length"])
    return {"count": 2, "max_length": limit}
