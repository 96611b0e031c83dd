"""Runs of other machines: found in the store, their state downloaded and verified. The store is untrusted: sizes are
checked before a download, digests after it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.provenance import digest_file
from components.tracking.mlflow_client import StoreUser, explained
from components.tracking.process import HOST, PROCESS, lives
from components.tracking.travel import STATE_FOLDER, TAG, Files, StateSet, state_folder_id, went_elsewhere

MISSED_SIGNS = 3  # missed heartbeats after which a writer counts as dead
_ID = re.compile(r"[0-9a-f]{32}")
_NAMED = re.compile(r"[\w.-]{1,200}")


@dataclass(frozen=True)
class RemoteRun:
    """A run in the store. `kept`: its complete state set or None; `owner`: the machine where it runs or ran last;
    `away`: it was continued from that set in another state folder than this one."""

    run_id: str
    name: str
    status: str
    owner: str
    process: str
    kept: StateSet | None
    away: bool

    @property
    def where(self) -> str:
        return f"run {self.name} ({self.run_id[:8]})"

    def check_free(self) -> None:
        """Raise UserError if another process is running the run, or may be."""
        if self.status != "RUNNING":
            return
        alive = lives(self.process)
        if alive is None and self.kept is not None:
            silent = abs(time.time() - self.kept.seen)
            alive = silent < MISSED_SIGNS * self.kept.every
            left = MISSED_SIGNS * self.kept.every - silent
            hint = f"stop it there; if that machine is off, try again in {left:.0f} s"
        else:
            hint = "wait for it, or stop it"
        if alive:
            raise UserError(f"the run is still running on {self.owner}", where=self.where, hint=hint)


class RemoteRuns(StoreUser):
    """Finds and downloads the state that `components.tracking.state_upload` uploads."""

    def run(self, run_id: str) -> RemoteRun:
        """One run. Raises UserError if there is no such run."""
        with explained(self.settings):
            return self._facts(self.client.get_run(run_id))

    def find(self, selector: str) -> RemoteRun | None:
        """The run with this id, prefix of an id (6 digits or more), name, or recipe. Of several, the latest that can be
        resumed from here, else the latest."""
        if not _NAMED.fullmatch(selector):
            return None
        with explained(self.settings):
            client = self.client
            ids = [experiment.experiment_id for experiment in client.search_experiments(max_results=1000)]
            filters = [f"attributes.run_name = '{selector}'", f"tags.recipe = '{selector}'"]
            if re.fullmatch(r"[0-9a-f]{6,32}", selector):
                filters.insert(0, f"attributes.run_id LIKE '{selector}%'")
            for where in filters if ids else []:
                order = ["attributes.start_time DESC"]
                found = [self._facts(run) for run in client.search_runs(ids, where, max_results=50, order_by=order)]
                if found:
                    return next((each for each in found if each.kept), found[0])
        return None

    def beneath(self, parent: str, name: str) -> RemoteRun | None:
        """The latest run of this name among the children of the run `parent`."""
        with explained(self.settings):
            ids = [self.client.get_run(parent).info.experiment_id]
            where = f"tags.`mlflow.parentRunId` = '{parent}'"
            for run in self.client.search_runs(ids, where, max_results=1000, order_by=["attributes.start_time DESC"]):
                if run.info.run_name == name:
                    return self._facts(run)
        return None

    def fetch(self, run_id: str, folder: str, files: Files, into: Path) -> None:
        """Download files from a folder of the run's artifacts, verifying the size and digest of each.

        Raises:
            UserError: one is missing or changed, or the store doesn't respond.
        """
        with explained(self.settings):
            there = {file.path: file.file_size for file in self.client.list_artifacts(run_id, folder)}
            for name, (size, digest) in files.items():
                path = f"{folder}/{name}"
                if there.get(path) != size:
                    raise _damaged(run_id, path, "is missing" if path not in there else "has a different size")
                fetched = Path(self.client.download_artifacts(run_id, path, str(into)))
                if fetched.is_symlink() or fetched.stat().st_size != size or digest_file(fetched) != digest:
                    fetched.unlink(missing_ok=True)
                    raise _damaged(run_id, path, "has different content")
                fetched.rename(into / name)

    def take_over(self, run_id: str) -> None:
        """Record that the run continues in this state folder; what other folders have of it no longer counts."""
        with explained(self.settings):
            self.client.set_tag(run_id, STATE_FOLDER, state_folder_id(self.settings.home))

    def _facts(self, run: Any) -> RemoteRun:
        tags = dict(run.data.tags)
        if not _ID.fullmatch(run.info.run_id):
            raise UserError(f"{run.info.run_id[:80]!r} isn't the id of a run", where=self.settings.store)
        return RemoteRun(
            run_id=run.info.run_id,
            name=(run.info.run_name or "")[:100],
            status=run.info.status,
            owner=tags.get(HOST, "another machine"),
            process=tags.get(PROCESS, ""),
            kept=StateSet.from_tag(tags.get(TAG, "")),
            away=went_elsewhere(tags, run.info.status, self.settings.home),
        )


def _damaged(run_id: str, path: str, what: str) -> UserError:
    hint = "the artifacts were changed: resume the run on the machine where it ran, or start a new one"
    return UserError(f"{path} {what}", where=f"run {run_id[:8]}", hint=hint)
