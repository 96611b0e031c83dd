"""One run of a comparison, in a process of its own: `python -m flows.trial FILE`.

Seeds, threads and memory belong to a process, so runs side by side need one each; then every run gives what it would
give alone, and one that is killed takes no other with it. FILE (`TrialFile`) says what to run and is told what came
of it. The process ends itself, its run KILLED, when its standard input closes: whoever started it is gone or wants no
more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.datasets.store import DatasetRef
from components.errors import UserError
from components.recipe import Recipe
from components.redaction import without_secrets
from components.tracking.mlflow_backend import MlflowTracker
from components.whole_files import written_whole
from flows.console import prepare
from flows.places import places

STOPPED = 130  # exit codes as those of the command line: a user's mistake is 2, anything else 1


@dataclass
class TrialFile:
    """What the two processes tell each other. `run_id` is there once the run was opened; `metrics` once it has
    finished, "val/…" and "test/…"; `failed` says why it hasn't. A trial of a search (flows/tune.py) names its `search`
    and knows after how many updates it was `pruned`."""

    name: str
    label: str
    settings: dict[str, Any]
    recipe: dict[str, Any]  # with its name
    dataset: dict[str, Any]
    device: str
    threads: int
    parameters: int
    parent: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    run_id: str = ""
    metrics: dict[str, float] | None = None
    failed: str = ""
    search: dict[str, Any] = field(default_factory=dict)
    pruned: int = 0

    @classmethod
    def load(cls, path: Path) -> TrialFile:
        """Raises UserError when the file isn't one of ours."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"isn't the file of a trial: {error}", where=str(path)) from None

    def save(self, path: Path) -> None:
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def run_trial(path: Path) -> None:
    """Train and evaluate the run of the file, or go on with it; the file is told its id, and what came of it."""
    from flows.evaluate import evaluate
    from flows.runs import closing, open_run
    from flows.train import begin_run, train

    trial = TrialFile.load(path)
    if not trial.run_id or not (places().run_folder(trial.run_id) / "run.json").exists():
        values = dict(trial.recipe)
        recipe = Recipe.from_dict(values.pop("name"), values)
        dataset = DatasetRef(**trial.dataset)
        trial.run_id = begin_run(recipe, dataset, trial.device, trial.threads, parent=trial.parent)
        trial.save(path)
    with closing(trial.run_id):
        run = open_run(trial.run_id)
        run.nest(trial.parent, trial.name)
        run.tags(trial.tags)
        try:
            if trial.search:
                from flows.watched import train_watched

                train_watched(trial, run)
            else:
                train(trial.run_id)
                trial.metrics = evaluate(trial.run_id)
            trial.failed = ""
        except Exception as error:
            trial.failed = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            run.tags({"failed": trial.failed[:500]})
            raise
        finally:
            trial.save(path)


def end_with_input() -> None:
    """Interrupt this process as Ctrl-C would when its standard input closes."""
    # a shell's background jobs ignore the signal, and their children with them
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def watch() -> None:
        while sys.stdin.buffer.raw.read(1024):  # type: ignore[attr-defined]
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, name="input", daemon=True).start()


def main() -> None:
    """The process: exit code 0, 2 for what trying again won't mend, 130 when it was stopped, else 1."""
    prepare()
    end_with_input()
    try:
        run_trial(Path(sys.argv[1]))
    except UserError as error:
        print(f"error: {without_secrets(str(error))}")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        # a parent that was killed can't end its own run; that of one still alive is left alone
        MlflowTracker(places().settings).send_leftovers(TrialFile.load(Path(sys.argv[1])).parent)
        raise SystemExit(STOPPED) from None


if __name__ == "__main__":
    main()
