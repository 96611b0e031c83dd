"""One run of a study in its own process: `python -m components.runs.trial FILE`.

Seeds, threads and memory belong to a process. With a process for each, parallel runs give the same results as single
ones, and a killed run doesn't affect others. FILE (`TrialFile`) says what to run, and the results are written to it.
When its standard input closes, the process ends and its run is KILLED.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from components.console import prepare
from components.datasets.store import DatasetRef
from components.errors import UserError
from components.recipe import Recipe
from components.redaction import without_secrets
from components.runs.places import places
from components.runs.processes import end_with_input
from components.runs.record import FILE
from components.runs.trial_file import TrialFile
from components.tracking.mlflow_backend import MlflowTracker

STOPPED = 130  # exit codes as those of the command line: a user's mistake is 2, anything else 1


def run_trial(path: Path) -> None:
    """Train and evaluate the run of the file, or resume it; its id and results are written to the file."""
    # imported after `end_with_input` is active, because these imports are slow
    from components.models.weights import read_facts
    from components.runs.evaluate import evaluate
    from components.runs.open_run import opened
    from components.runs.train import begin_run, train

    trial = TrialFile.load(path)
    if trial.away:
        from components.runs.away import arrive

        try:
            arrive(trial)
        except UserError as error:
            trial.failed = str(error)
            trial.save(path)
            raise
    work = trial.run_id
    if not work or not (places().run_folder(work) / FILE).exists():
        values = dict(trial.recipe)
        recipe = Recipe.from_dict(values.pop("name"), values)
        dataset = DatasetRef(**trial.dataset)
        work = begin_run(recipe, dataset, trial.device, trial.threads, parent=trial.parent, moves=trial.away)
        trial.run_id = work.id
        trial.save(path)
    with opened(work) as run:
        run.tracked.nest(trial.parent, trial.name)
        run.tracked.tags(trial.tags)
        try:
            if trial.search:
                from components.runs.watched import train_watched

                train_watched(trial, run)
            else:
                train(run)
                trial.metrics = evaluate(run)
            trial.failed = ""
        except Exception as error:
            trial.failed = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            run.tracked.tags({"failed": trial.failed[:500]})
            raise
        finally:
            with contextlib.suppress(UserError):  # there may be none
                trial.progress = read_facts(run.folder / "checkpoint.safetensors")["progress"]
            trial.save(path)


def main() -> None:
    """Run as a process: exit code 0, 2 for errors that a retry can't fix, 130 if stopped, else 1."""
    prepare()
    end_with_input()
    try:
        run_trial(Path(sys.argv[1]))
    except UserError as error:
        print(f"error: {without_secrets(str(error))}")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        # closes the parent's run if the parent was killed
        MlflowTracker(places().settings).send_leftovers(TrialFile.load(Path(sys.argv[1])).parent)
        raise SystemExit(STOPPED) from None


if __name__ == "__main__":
    main()
