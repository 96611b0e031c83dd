"""Runs in MLflow, by explicit ids only: MLflow's active run is global state."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from filelock import FileLock

from components.errors import UserError
from components.tracking.artifact_store import check_artifacts
from components.tracking.base import RunRef
from components.tracking.dead_runs import CUT_OFF, CutOff, cut_off, left_running, mark_killed
from components.tracking.mlflow_client import (
    HOPELESS,
    StoreUser,
    check_store,
    deleted,
    explained,
    ui_command,
)
from components.tracking.mlflow_run import MlflowRun, delivery
from components.tracking.mlflow_store import MlflowStore
from components.tracking.moved import folder_name
from components.tracking.process import origin
from components.tracking.spool import Journal, Refused, summary
from components.tracking.travel import went_elsewhere

if TYPE_CHECKING:
    from mlflow.entities import Experiment

# other packages import everything about MLflow from here
__all__ = ["CUT_OFF", "MlflowRun", "MlflowStore", "MlflowTracker", "check_store", "ui_command"]

log = logging.getLogger(__name__)


class MlflowTracker(StoreUser):
    """Opens runs in the store that `settings` names."""

    def start(self, experiment: str, name: str, *, tags: Mapping[str, str], parent: str | None = None) -> MlflowRun:
        """Create a run. Waits for the store; everything after that is spooled.

        Raises:
            UserError: the store doesn't respond, or the experiment was deleted in it.
        """
        with explained(self.settings):
            found = self._experiment(experiment)
            check_artifacts(found.artifact_location, self.settings.tracking_uri)
            all_tags = {**self.settings.tags, **origin(self.settings.root), **tags}
            if parent:
                all_tags["mlflow.parentRunId"] = parent
            all_tags = {key: str(value) for key, value in all_tags.items()}
            run = self.client.create_run(found.experiment_id, run_name=name, tags=all_tags)
        return self._open(run, experiment)

    def resume(self, run_id: str) -> MlflowRun:
        """Reopen an existing run: its spooled entries are sent, then it is RUNNING.

        Raises:
            UserError: there is no such run, it was deleted, or the store doesn't respond.
        """
        with explained(self.settings):
            run = self.client.get_run(run_id)
            if run.info.lifecycle_stage != "active":
                raise UserError(f"run {run_id} is deleted", hint="restore it in the UI, or start a new one")
            self.send_leftovers(run_id)
            with self._ends():
                # the process is set before RUNNING, else the run would briefly seem to belong to a dead process
                for key, value in {**origin(self.settings.root), CUT_OFF: ""}.items():
                    self.client.set_tag(run_id, key, value)
                self.client.update_run(run_id, status="RUNNING")
            reached = {
                key: max(point.step for point in self.client.get_metric_history(run_id, key))
                for key in self.client.get_run(run_id).data.metrics
            }
            experiment = self.client.get_experiment(run.info.experiment_id).name
        return self._open(run, experiment.removeprefix(self.settings.experiment_prefix), reached)

    def send_leftovers(self, run_id: str | None = None) -> tuple[int, int]:
        """Send the spooled entries of dead writers (of one run, or of all): (entries sent, entries left).

        A run whose writer died without ending it is still RUNNING in the store; it becomes KILLED.
        """
        sent = left = 0
        answers = True
        for journal in Journal.leftovers(self.settings.spool, run_id):
            before = journal.pending
            try:
                if answers and self._went_elsewhere(journal.run_id):
                    journal.drop()
                elif answers:
                    journal.send(delivery(self.client, journal.run_id))
                    if not journal.finished and not journal.has_living_sibling():
                        with self._ends():
                            mark_killed(self.client, journal.run_id)
            except Exception as error:
                answers = isinstance(error, Refused)  # one run was deleted: the others can still be sent
                log.warning("run %s: can't send its stored entries to MLflow (%s)", journal.run_id, summary(error))
            sent, left = sent + before - journal.pending, left + journal.pending
        return sent, left

    def close_dead(self) -> list[str]:
        """End the runs that dead processes of this machine left RUNNING, after sending their spooled entries. Returns
        their ids. Safe to call from several processes at once.

        Raises:
            UserError: the store doesn't respond.
        """
        with explained(self.settings):
            dead = left_running(self.client, self.settings.spool)
            self.send_leftovers()
            for run_id in dead:
                with self._ends():
                    mark_killed(self.client, run_id)
        return dead

    def cut_off(self) -> list[CutOff]:
        """Runs of this machine whose process was killed and that weren't resumed since, without those of comparisons.

        Raises:
            UserError: the store doesn't respond.
        """
        with explained(self.settings):
            return cut_off(self.client)

    def experiment_url(self, experiment: str, parent: str | None = None, order: tuple[str, bool] | None = None) -> str:
        """Link to the page that compares the experiment's runs, or those under one `parent` (a run id). A link without
        a query would open MLflow's GenAI view. `order`: a metric, and whether to sort ascending; without it the page
        collapses the runs under their parent."""
        with explained(self.settings):
            experiment_id = self._experiment(experiment).experiment_id
        query = "workflowType=machine_learning&compareRunsMode=CHART"
        if parent:
            query += "&searchFilter=" + quote(f"tags.`mlflow.parentRunId` = '{parent}'")
        if order:
            query += f"&orderByKey={quote(f'metrics.`{order[0]}`', safe='')}&orderByAsc={str(order[1]).lower()}"
        return f"{self.settings.ui_url}/#/experiments/{experiment_id}/runs?{query}"

    def _went_elsewhere(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        if not self.settings.shared:
            return False
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in HOPELESS:
                return False  # it was deleted; sending will report it
            raise
        return went_elsewhere(run.data.tags, run.info.status, self.settings.home)

    def _ends(self) -> FileLock:
        # a lock: if two processes set the same new tag of a run at once, the store refuses the second
        self.settings.home.mkdir(parents=True, exist_ok=True)
        return FileLock(self.settings.home / "ends.lock")

    def _open(self, run: Any, experiment: str, reached: Mapping[str, int] = {}) -> MlflowRun:
        ids = f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        url = f"{self.settings.ui_url}/#/{ids}?workflowType=machine_learning"
        tables = json.loads(run.data.tags.get("mlflow.loggedArtifacts", "[]"))
        ref = RunRef(run.info.run_id, experiment, url)
        return MlflowRun(self.client, ref, self.settings, run.info, tables, reached)

    def _experiment(self, name: str) -> Experiment:
        """The experiment of this name, created if there is none."""
        from mlflow.exceptions import MlflowException

        name = self.settings.experiment_prefix + name
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # a server chooses the location of artifacts
            location = None if self.settings.served else f"{self.settings.artifact_uri}/{folder_name(name)}"
            kind = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens its GenAI view
            try:
                return self.client.get_experiment(
                    self.client.create_experiment(name, artifact_location=location, tags=kind)
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)  # another process has created it
        if found.lifecycle_stage != "active":
            raise deleted(self.settings, found)
        return found
