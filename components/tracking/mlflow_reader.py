"""Reading of runs from MLflow: metrics, curves, tables and files, with size limits."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import UserError, unknown
from components.tracking.alias_log import shown_time
from components.tracking.mlflow_client import StoreUser, deleted, explained

MOST_RUNS = 200
MAX_TABLE_BYTES = 16 << 20


@dataclass(frozen=True)
class RunFacts:
    """A run in the store. `started` is UTC in ISO 8601, `seconds` None while it runs, `parent` a run id or ""."""

    run_id: str
    name: str
    status: str
    started: str
    seconds: float | None
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    parent: str


class MlflowReader(StoreUser):
    """Reads the store that `settings` names."""

    def runs(self, experiment: str) -> list[RunFacts]:
        """The experiment's last MOST_RUNS runs, newest first.

        Raises:
            UserError: there is no such experiment (lists the existing ones), or it was deleted.
        """
        with explained(self.settings):
            prefix = self.settings.experiment_prefix
            found = self.client.get_experiment_by_name(prefix + experiment)
            if found is None:
                names = [each.name.removeprefix(prefix) for each in self.client.search_experiments(max_results=500)]
                raise unknown("experiment", experiment, [name for name in names if name != "Default"])
            if found.lifecycle_stage != "active":
                raise deleted(self.settings, found)
            order = ["attributes.start_time DESC"]
            return [_facts(run) for run in self.client.search_runs([found.experiment_id], "", 1, MOST_RUNS, order)]

    def run(self, run_id: str) -> RunFacts:
        """One run. Raises UserError if there is no such run."""
        with explained(self.settings):
            return _facts(self.client.get_run(run_id))

    def curve(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """A metric's (step, value), sorted by step; the last value if a step has several."""
        with explained(self.settings):
            points = self.client.get_metric_history(run_id, key)
        return sorted({p.step: p.value for p in sorted(points, key=lambda p: (p.step, p.timestamp))}.items())

    def datasets(self, run_id: str) -> dict[str, dict[str, Any]]:
        """{context: {"name", "sha256", counts…}} of a run's datasets; the contexts are train, val and test."""
        with explained(self.settings):
            inputs = self.client.get_run(run_id).inputs
        found = {}
        for each in inputs.dataset_inputs if inputs else []:
            context = next((tag.value for tag in each.tags if tag.key == "mlflow.data.context"), "")
            with contextlib.suppress(ValueError):
                profile = json.loads(each.dataset.profile or "{}")
                found[context] = {"name": each.dataset.name, **(profile if isinstance(profile, dict) else {})}
        return found

    def files(self, run_id: str, folder: str = "") -> dict[str, int]:
        """{path: bytes} of the files in a folder of the run's artifacts, without subfolders, sorted by path."""
        with explained(self.settings):
            listed = self.client.list_artifacts(run_id, folder or None)
        return {file.path: file.file_size or 0 for file in sorted(listed, key=lambda f: f.path) if not file.is_dir}

    @contextlib.contextmanager
    def file(self, run_id: str, path: str) -> Iterator[Path]:
        """Context manager: an artifact of the run as a local file, only for reading."""
        with tempfile.TemporaryDirectory() as folder, explained(self.settings):
            yield Path(self.client.download_artifacts(run_id, path, folder))

    def read(self, run_id: str, path: str, limit_bytes: int) -> bytes:
        """The content of an artifact.

        Raises:
            UserError: it is larger than the limit, or there is none.
        """
        with self.file(run_id, path) as local, local.open("rb") as stream:
            content = stream.read(limit_bytes + 1)
        if len(content) > limit_bytes:
            raise UserError(f"{path} is larger than {limit_bytes:,} bytes", where=f"run {run_id[:8]}")
        return content

    def table(self, run_id: str, path: str) -> dict[str, list[Any]] | None:
        """A logged table by columns; None if there is no file at this path, or it isn't a table."""
        if path not in self.files(run_id, path.rpartition("/")[0]):
            return None
        try:
            content = json.loads(self.read(run_id, path, MAX_TABLE_BYTES))
            names, rows = content["columns"], content["data"]
            return {str(name): [row[place] for row in rows] for place, name in enumerate(names)}
        except (UserError, ValueError, KeyError, IndexError, TypeError):
            return None


def _facts(run: Any) -> RunFacts:
    info, data = run.info, run.data
    seconds = (info.end_time - info.start_time) / 1000 if info.end_time else None
    return RunFacts(
        run_id=info.run_id,
        name=info.run_name or info.run_id[:8],
        status=info.status,
        started=shown_time(info.start_time),
        seconds=seconds,
        params=dict(data.params),
        tags=dict(data.tags),
        metrics=dict(data.metrics),
        parent=data.tags.get("mlflow.parentRunId", ""),
    )
