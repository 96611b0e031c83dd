"""What a model writes while it is trained: a few short samples at each evaluation, in one growing table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.tracking.base import Run
from components.training.session import Session
from components.training.trainer import Events
from flows.generate import described

TABLE = "samples/during_training.json"
FILE = "samples.jsonl"  # beside the checkpoint: a run that is resumed goes on with its table
COUNT, MAX_TOKENS, MAX_ROWS = 2, 80, 400
COLUMNS = ("update", "number", "sample", "nats_per_token")


class WithSamples:
    """Passes a training run's events on, and writes samples at each evaluation, always from the same seed. What a
    model that answers does is seen in its figures: it has no samples.

    Nothing of the training changes by it: sampling draws from generators of its own.
    """

    def __init__(self, events: Events, session: Session, run: Run, folder: Path) -> None:
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
            temporary = self.file.with_name(f".{FILE}")
            temporary.write_text(lines, encoding="utf-8")
            temporary.replace(self.file)
            shown = [self.rows[key] for key in sorted(self.rows)]
            self.run.table({name: [row[i] for row in shown] for i, name in enumerate(COLUMNS)}, TABLE)

    def _written(self) -> list[tuple[str, float]]:
        session, model = self.session, self.session.model
        settings = dict(session.recipe.generation)
        settings |= {"count": COUNT, "max_length": min(MAX_TOKENS, settings["max_length"])}
        training = model.training
        try:
            made = session.task.generate(model, session.task.settings(**settings), seed=session.recipe.seed)
        except UserError:  # a stream without a prompt, say: what it lacks is told when the run writes its samples
            return []
        finally:
            model.train(training)
        return [(described(item), one.nats_per_token) for item, one in zip(made.items, made.sampled, strict=True)]
