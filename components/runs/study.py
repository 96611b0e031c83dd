"""A study: runs of one recipe with different settings, under one parent run.

`Study.conduct` is the same for all studies: finished trials are reused, interrupted ones are resumed, and each trial
trains in its own process (components/runs/trial.py). Subclasses in compare.py and tune.py propose the trials and
evaluate the results.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from components.console import bar, say
from components.datasets.store import DatasetRef, Store
from components.errors import UserError
from components.paths import CODE
from components.recipe import Recipe
from components.runs.asked import Asked
from components.runs.away import Crew
from components.runs.open_run import by_interrupt, ending
from components.runs.places import places
from components.runs.plan import Budget
from components.runs.processes import Processes
from components.runs.start import with_letter_models
from components.runs.travel import data_files, data_folder, facts_of
from components.runs.trial_file import TrialFile
from components.tracking.mlflow_backend import MlflowRun, MlflowTracker
from components.training.device import choose_device, choose_threads, gpu_of
from components.training.session import Session
from components.whole_files import held

UPLOAD_SECONDS = 600.0  # timeout for uploading data for workers


@dataclass(frozen=True)
class Hands:
    """How trials are executed. `start` schedules `run_process` for the file of a trial and returns a future; `first`
    waits for one of the futures."""

    ingest: Callable[[Recipe, Asked | None], DatasetRef]
    start: Callable[[str, str, Processes], Any]
    first: Callable[[list[Any]], Any]
    by_person: Callable[[BaseException], bool] = by_interrupt
    tags: Mapping[str, str] | None = None  # of the parent run


@dataclass(frozen=True)
class Beginning:
    """Initial content of the parent run."""

    keys: Sequence[str]  # of the settings that differ
    tags: Mapping[str, str]
    params: Mapping[str, object]
    recipe: Recipe
    file: str  # name of the recipe's file


class Study(ABC):
    """`workers` trials run in parallel, each with `threads` CPU threads (0 = the cores divided by the workers). With a
    `crew`, each of its workers runs as many."""

    verb: ClassVar[str]
    things: ClassVar[str]  # name of the trials in messages
    folder: Path  # of the study's files; set by `prepare`
    parent: MlflowRun

    def __init__(
        self,
        name: str,
        budget: Budget,
        total: int,
        device: str,
        threads: int,
        workers: int,
        crew: Crew | None = None,
    ) -> None:
        self.name, self.budget, self.total, self.workers, self.crew = name, budget, total, workers, crew
        self.at_once = workers * (len(crew.workers) if crew else 1)
        if crew:
            self.device, self.threads = crew.share(device, threads, workers)
        else:
            self.device, self.threads = choose_device(device), threads or max(1, choose_threads(0) // workers)
        self._left: dict[str, dict[str, Any]] = {}  # data uploaded to the parent run for workers
        self.metric, self.lower = "", True  # for ranking trials; lower is better
        self._number = itertools.count()

    @abstractmethod
    def prepare(self, ingest: Callable[[Recipe, Asked | None], DatasetRef]) -> Path:
        """Ingest the data and check everything before any training. Returns the folder of the study."""

    @abstractmethod
    def beginning(self) -> Beginning:
        """Initial content of the parent run."""

    @abstractmethod
    def begin(self, fresh: bool) -> None:
        """Prepare to propose trials; `fresh`: ignore earlier attempts."""

    @abstractmethod
    def left(self) -> int:
        """Number of trials still to be proposed or resumed."""

    @abstractmethod
    def propose(self) -> Path | None:
        """The file of the next trial; None if there is none left."""

    @abstractmethod
    def told(self, path: Path) -> str:
        """Record the result of a trial. Returns it as a line of text."""

    @abstractmethod
    def publish(self) -> Any:
        """Write the results to the parent run, and return them."""

    @abstractmethod
    def failure(self) -> str:
        """Why there are no results; "" if there are."""

    def conduct(self, hands: Hands, *, fresh: bool) -> Any:
        """Run all trials. Returns the result of `publish`.

        Raises:
            UserError: a setting is wrong, there is no metric to rank the trials by, or no trial has a result.
        """
        tracker = MlflowTracker(places().settings)
        self.folder = self.prepare(hands.ingest)
        with alone(self.folder, fresh):
            self.begin(fresh)
            self.parent = self._open_parent(tracker, hands.tags or {})
            with ending(self.parent, hands.by_person):
                try:
                    self._run(hands)
                finally:
                    tracker.send_leftovers()  # closes the runs of processes that were killed
                    answer = self.publish()
                if why := self.failure():
                    raise UserError(why, where=self.name)
        return answer

    def _open_parent(self, tracker: MlflowTracker, tags: Mapping[str, str]) -> MlflowRun:
        """The parent run: that of an earlier attempt, or a new one with its initial content."""
        file = self.folder / "parent"
        if file.exists():
            parent = tracker.resume(file.read_text(encoding="utf-8"))
            say(f"{self.verb:<7} continuing {parent.ref.run_id[:8]}; finished {self.things} are reused")
        else:
            first = self.beginning()
            keys = " × ".join(key.rpartition(".")[2] for key in first.keys) or "seeds"
            parent = tracker.start(self.name, f"{self.verb} {keys}", tags={"recipe": self.name, **first.tags})
            parent.params(first.params)
            parent.text(first.recipe.as_yaml(), first.file)
            file.write_text(parent.ref.run_id, encoding="utf-8")
        parent.tags(tags)
        return parent

    def _run(self, hands: Hands) -> None:
        """Run unfinished trials, `workers` at a time."""
        much = f"{self.total} {self.things} ({self.left()} to do), each {self.budget}, {self.at_once} at a time"
        say(f"{self.verb:<7} {much}")
        with Processes() as processes, bar(self.verb, self.total, self.things) as advance:
            going: dict[Any, Path] = {}
            while True:
                while len(going) < self.at_once and (path := self.propose()):
                    going[hands.start(str(path), TrialFile.load(path).name, processes)] = path
                if not going:
                    return
                say(f"        {self.told(going.pop(hands.first(list(going))))}")
                advance(self.total - self.left() - len(going), "")

    @property
    def runs_url(self) -> str:
        """The address of the page with charts of the trials, best first."""
        order = (f"best/{self.metric}", self.lower)
        return MlflowTracker(places().settings).experiment_url(self.name, self.parent.ref.run_id, order)

    def write_trial(
        self, path: Path, recipe: Recipe, dataset: DatasetRef, *, tags: dict[str, str], **more: Any
    ) -> None:
        """Write the file of a trial for its process; `more`: additional fields."""
        TrialFile(
            recipe={"name": recipe.name, **recipe.as_dict()},
            dataset=asdict(dataset),
            device=gpu_of(self.device, next(self._number)) if self.workers > 1 and not self.crew else self.device,
            threads=self.threads,
            parent=self.parent.ref.run_id,
            tags={self.verb: self.parent.ref.run_id, **tags},
            away=self.crew is not None,
            data=self._leave(dataset) if self.crew and self.crew.elsewhere else {},
            **more,
        ).save(path)

    def _leave(self, dataset: DatasetRef) -> dict[str, Any]:
        """Upload data to the parent run's artifacts, once, for workers that don't have them. Returns their files."""
        if dataset.digest not in self._left:
            paths = data_files(dataset)
            for path in paths.values():
                self.parent.file(path, data_folder(dataset))
            if paths and self.parent.flush(UPLOAD_SECONDS):
                raise UserError("uploading the data for the workers takes too long", where=self.name)
            self._left[dataset.digest] = facts_of(paths)
        return self._left[dataset.digest]

    def built(self, recipe: Recipe, dataset: DatasetRef, *, ranked: bool = True) -> Session:
        """The recipe's model and task on the data.

        Raises:
            UserError: they don't go together, or trials are `ranked` and there is no val split.
        """
        store = Store.open(dataset.path)
        session = Session(with_letter_models(recipe), store, "cpu", 1)
        if ranked and not len(store.split("val")):
            what = f"there is no validation split, but {self.things} are ranked by validation metrics"
            setting, value = ("join_val", "false") if recipe.data.get("join_val") else ("split", "[0.8,0.1,0.1]")
            hint = f"for example --set data.{setting}={value}"
            raise UserError(what, where=f"{self.name}: data.{setting}", hint=hint)
        return session


def run_process(file: str, name: str, processes: Processes) -> None:
    """Run the trial of a file, called `name`, in its own process. When repeated after a crash, it resumes from its
    checkpoint.

    Raises:
        UserError: it failed in a way that a retry can't fix.
        RuntimeError: it failed.
    """
    path = Path(file)
    command = [sys.executable, "-m", "components.runs.trial", file]
    code, last = processes.run(command, log=path.with_suffix(".log"), cwd=CODE)
    if code == 0:
        return
    trial = TrialFile.load(path)
    trial.failed = trial.failed or last or f"the process ended with code {code}"
    trial.save(path)  # the process may have died before it could write the reason
    if code == 2:
        raise UserError(trial.failed, where=name)
    raise RuntimeError(trial.failed)


@contextmanager
def alone(folder: Path, fresh: bool) -> Iterator[None]:
    """Context manager that locks the folder for this process; `fresh`: empty it first. Raises UserError if it is
    locked."""
    folder.mkdir(parents=True, exist_ok=True)
    refusal = UserError("this study is already running in another process", where=str(folder))
    with held(folder.with_suffix(".lock"), refusal):
        if fresh:
            shutil.rmtree(folder)
            folder.mkdir()
        yield
