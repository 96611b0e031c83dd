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

from filelock import FileLock, Timeout

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
from components.runs.train import as_yaml
from components.runs.travel import data_files, data_folder, facts_of
from components.runs.trial_file import TrialFile
from components.tracking.mlflow_backend import MlflowRun, MlflowTracker
from components.training.device import choose_device, choose_threads, gpu_of
from components.training.session import Session

UPLOAD_SECONDS = 600.0  # of data to the store, for workers


@dataclass(frozen=True)
class Hands:
    """Who does the work. `start` runs the trial of a file with `run_process`, some other time and place; `first` waits
    for one of what it gave."""

    ingest: Callable[[Recipe, Asked | None], DatasetRef]
    start: Callable[[str, str, Processes], Any]
    first: Callable[[list[Any]], Any]
    by_person: Callable[[BaseException], bool] = by_interrupt
    tags: Mapping[str, str] | None = None  # of the parent run


@dataclass(frozen=True)
class Beginning:
    """What the parent run starts with."""

    keys: Sequence[str]  # of the settings that differ
    tags: Mapping[str, str]
    params: Mapping[str, object]
    recipe: Recipe
    file: str  # that the recipe is written to


class Study(ABC):
    """`workers` trials run in parallel, each with `threads` CPU threads (0 = the cores divided by the workers). With a
    `crew`, each of its workers runs as many."""

    verb: ClassVar[str]
    things: ClassVar[str]  # what the trials are called
    folder: Path  # of its files, from `prepare` on
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
        self._left: dict[str, dict[str, Any]] = {}  # data that the parent run keeps for workers
        self.metric, self.lower = "", True  # what trials are ranked by
        self._number = itertools.count()

    @abstractmethod
    def prepare(self, ingest: Callable[[Recipe, Asked | None], DatasetRef]) -> Path:
        """Find out all that is known before any training, mistakes too; gives the folder of this very study."""

    @abstractmethod
    def beginning(self) -> Beginning:
        """What the parent run starts with."""

    @abstractmethod
    def begin(self, fresh: bool) -> None:
        """Make ready to propose; `fresh`: nothing of an earlier try counts."""

    @abstractmethod
    def left(self) -> int:
        """How many trials are still to be proposed, or to go on."""

    @abstractmethod
    def propose(self) -> Path | None:
        """The file of the next trial; None when there is none left."""

    @abstractmethod
    def told(self, path: Path) -> str:
        """Take in what came of a trial; gives it in a line."""

    @abstractmethod
    def publish(self) -> Any:
        """Write what is known to the parent run, and give it."""

    @abstractmethod
    def failure(self) -> str:
        """Why nothing came of all this; "" where something did."""

    def conduct(self, hands: Hands, *, fresh: bool) -> Any:
        """Run all trials; gives what `publish` made of them.

        Raises:
            UserError: a setting is wrong, nothing can rank the trials, or nothing came of any.
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
        """The parent run: the one of an earlier try, or a new one with what the study starts with."""
        file = self.folder / "parent"
        if file.exists():
            parent = tracker.resume(file.read_text(encoding="utf-8"))
            say(f"{self.verb:<7} continuing {parent.ref.run_id[:8]}; finished {self.things} are reused")
        else:
            first = self.beginning()
            keys = " × ".join(key.rpartition(".")[2] for key in first.keys) or "seeds"
            parent = tracker.start(self.name, f"{self.verb} {keys}", tags={"recipe": self.name, **first.tags})
            parent.params(first.params)
            parent.text(as_yaml(first.recipe), first.file)
            file.write_text(parent.ref.run_id, encoding="utf-8")
        parent.tags(tags)
        return parent

    def _run(self, hands: Hands) -> None:
        """Run what isn't finished, `workers` at a time."""
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
        """The page that shows the trials as charts, the best first."""
        order = (f"best/{self.metric}", self.lower)
        return MlflowTracker(places().settings).experiment_url(self.name, self.parent.ref.run_id, order)

    def write_trial(
        self, path: Path, recipe: Recipe, dataset: DatasetRef, *, tags: dict[str, str], **more: Any
    ) -> None:
        """The file of a trial, for its process to read; `more` are what else it holds."""
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
        """Keep data among the parent run's artifacts, once, for workers that don't have them; their files."""
        if dataset.digest not in self._left:
            paths = data_files(dataset)
            for path in paths.values():
                self.parent.file(path, data_folder(dataset))
            if paths and self.parent.flush(UPLOAD_SECONDS):
                raise UserError("the data can't be kept for the workers: the store takes too long", where=self.name)
            self._left[dataset.digest] = facts_of(paths)
        return self._left[dataset.digest]

    def built(self, recipe: Recipe, dataset: DatasetRef, *, ranked: bool = True) -> Session:
        """The recipe's model and task on the data.

        Raises:
            UserError: they don't go together, or trials are `ranked` and there is no val to rank by.
        """
        store = Store.open(dataset.path)
        session = Session(recipe, store, "cpu", 1)
        if ranked and not len(store.split("val")):
            what = f"keeps no validation data, which {self.things} are ranked by"
            raise UserError(what, where=f"{self.name}: data.split", hint="for example --set data.split=[0.8,0.1,0.1]")
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
    trial.save(path)  # it may have ended before it could say why
    if code == 2:
        raise UserError(trial.failed, where=name)
    raise RuntimeError(trial.failed)


@contextmanager
def alone(folder: Path, fresh: bool) -> Iterator[None]:
    """One process at a time works in the folder, which begins empty when it is `fresh`. Raises UserError else."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_suffix(".lock"), timeout=0):
            if fresh:
                shutil.rmtree(folder)
                folder.mkdir()
            yield
    except Timeout:
        raise UserError("already running", where=str(folder)) from None
