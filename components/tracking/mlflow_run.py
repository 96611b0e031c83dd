"""An open run in MLflow, written to through the spool."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import unknown
from components.tracking.base import RunRef
from components.tracking.mlflow_client import HOPELESS, explained
from components.tracking.settings import Settings
from components.tracking.spool import Entry, Journal, Refused, Sender, summary
from components.tracking.state_upload import RunFiles, StateUpload
from components.tracking.system import SystemSampler
from components.tracking.travel import STATE_FOLDER, state_folder_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo

log = logging.getLogger(__name__)

KEY = re.compile(r"(?!.*(^|/)\.{1,2}(/|$))[\w.\- :]+(/[\w.\- :]+)*")
IMAGE_KEY = re.compile(r"[a-zA-Z0-9_\-./ ]+")
STATUSES = ("FINISHED", "FAILED", "KILLED")
MAX_NOTE_CHARACTERS = 7900  # MLflow truncates a tag at 8,000
FINISH_SECONDS = 30.0
LAST_CHECKPOINT_SECONDS = 20.0
SENT_SECONDS = 10.0


class MlflowRun:
    """An open run, always written to by its explicit id.

    `params`, `nest` and `dataset` wait for the store: they belong to a run's start, where failing early is right.
    Everything else is spooled: it neither waits for the store nor fails with it, and is never lost.
    """

    def __init__(
        self,
        client: MlflowClient,
        ref: RunRef,
        settings: Settings,
        info: RunInfo,
        tables: list[dict[str, str]],
        reached: Mapping[str, int],
    ) -> None:
        self.ref, self._client, self._settings, self._tables = ref, client, settings, tables
        self._reached = dict(reached)  # the last step of each curve
        self._journal = Journal.create(settings.spool, ref.run_id)
        self._sender = Sender(self._journal, delivery(client, ref.run_id))
        self._started_ms, self._artifact_uri = info.start_time, info.artifact_uri
        self._known_keys, self._finished = set[str](), False
        self._sampler, self._upload = None, None
        if settings.system_metrics_seconds > 0:
            self._sampler = SystemSampler(self._system_metrics, settings.system_metrics_seconds)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log params. Raises UserError for a param that the run already has with another value."""
        from mlflow.entities import Param

        entities = [Param(key, str(value)) for key, value in values.items()]
        with explained(self._settings):
            for start in range(0, len(entities), 100):
                self._client.log_batch(self.ref.run_id, params=entities[start : start + 100])

    def nest(self, parent: str, name: str) -> None:
        """Make the run a child of the run `parent` (its id) and name it `name`. Waits for the store.

        Raises:
            UserError: the store doesn't respond.
        """
        with explained(self._settings):
            self._client.set_tag(self.ref.run_id, "mlflow.parentRunId", parent)
            self._client.update_run(self.ref.run_id, name=name)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set or overwrite tags."""
        self._append([{"tag": [_checked_key(key), str(value)]} for key, value in values.items()])

    def describe(self, markdown: str) -> None:
        """Set the text at the top of the run's page, truncated at 7,900 characters."""
        cut = markdown if len(markdown) <= MAX_NOTE_CHARACTERS else markdown[:MAX_NOTE_CHARACTERS] + "\n… (cut)"
        self._append([{"tag": ["mlflow.note.content", cut]}])

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics at a step, or final metrics without a step. Steps that a curve has already reached are skipped,
        since a resumed training repeats its last updates before the kill.

        Raises:
            ValueError: a key isn't valid.
        """
        now = _now_ms()
        for key in values.keys() - self._known_keys:
            self._known_keys.add(_checked_key(key))
        if step is not None:
            values = {key: value for key, value in values.items() if step > self._reached.get(key, -1)}
            self._reached.update(dict.fromkeys(values, int(step)))
        self._append([{"metric": [key, float(value), int(step or 0), now]} for key, value in values.items()])

    def dataset(self, name: str, digest: str, source: str, profile: Mapping[str, Any], context: str) -> None:
        """Log a dataset of the run. `digest`: sha256; `source`: an address or path; `context`: train, val or test."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        kind, field = ("http", "url") if source.startswith(("http://", "https://")) else ("local", "uri")
        dataset = Dataset(
            name=name,
            digest=digest[:36],  # MLflow's maximum; the profile has the whole digest
            source_type=kind,
            source=json.dumps({field: source}),
            profile=json.dumps({"sha256": digest, **profile}),
        )
        with explained(self._settings):
            inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
            try:
                self._client.log_inputs(self.ref.run_id, datasets=inputs)
            except MlflowException as error:
                # a run that began at the same moment has just added this dataset: the store finds it the second time
                if "unique" not in str(error).lower():
                    raise
                self._client.log_inputs(self.ref.run_id, datasets=inputs)

    def file(self, path: Path, folder: str = "") -> None:
        """Log a file, or a folder with everything in it, as an artifact under `folder`. It is copied at once."""
        path = Path(path)
        entries: list[Entry] = []
        for each in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
            below = each.relative_to(path.parent).parent.as_posix() if path.is_dir() else ""
            target = "/".join(filter(None, [folder.strip("/"), below]))
            entries.append({"file": [self._journal.keep_file(each), target]})
        self._append(entries)

    def text(self, content: str, path: str) -> None:
        """Log a text as the artifact `path`, replacing an earlier one."""
        folder, _, name = path.rpartition("/")
        kept = self._journal.new_file(name)
        kept.write_text(content, encoding="utf-8")
        self._append([{"file": [kept.relative_to(self._journal.folder).as_posix(), folder]}])

    def table(self, columns: Mapping[str, list[Any]], path: str) -> None:
        """Log a table, replacing an earlier one with the same path. The UI compares tables across runs.

        Raises:
            ValueError: the columns differ in length, or the path doesn't end in .json.
        """
        if not path.endswith(".json") or len({len(column) for column in columns.values()}) > 1:
            raise ValueError(f"{path}: a table must be a .json file with columns of equal length")
        rows = [[_json_ready(value) for value in row] for row in zip(*columns.values(), strict=True)]
        self.text(json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False), path)
        entry = {"path": path, "type": "table"}
        if entry not in self._tables:
            self._tables.append(entry)
            self._append([{"tag": ["mlflow.loggedArtifacts", json.dumps(self._tables)]}])

    def image(self, path: Path, key: str, step: int) -> None:
        """Log an image under `key`; the UI has a slider over its steps.

        Raises:
            ValueError: the key has characters other than letters, digits, _ - . / and space.
            OSError: the file isn't an image.
        """
        from PIL import Image

        if not IMAGE_KEY.fullmatch(key):
            raise ValueError(f"{key!r} isn't a valid image key: use letters, digits, _ - . / and space")
        with Image.open(path) as image:
            image.verify()
        self._append([{"image": [self._journal.keep_file(Path(path)), key, int(step), _now_ms()]}])

    def travel(self, files: RunFiles) -> None:
        """Start uploading the run's state to its artifacts until its end, see `components.tracking.state_upload`. Does
        nothing if the settings keep the state on this machine."""
        if self._upload is None and self._settings.travels(self._artifact_uri):
            with explained(self._settings):
                self._client.set_tag(self.ref.run_id, STATE_FOLDER, state_folder_id(self._settings.home))
            every = self._settings.travel.every_seconds
            spooled = self._journal.size
            self._upload = StateUpload(self._client, self.ref.run_id, files, every, spooled, self._has_sent)

    @property
    def taken_over(self) -> str:
        """The machine that has taken over this run; "" while it runs here."""
        return self._upload.taken_over if self._upload else ""

    def flush(self, wait_seconds: float = 10.0) -> int:
        """Send the spooled entries, waiting up to `wait_seconds`; returns how many are still unsent."""
        return self._sender.flush(wait_seconds)

    def finish(self, status: str = "FINISHED") -> None:
        """End the run. Entries that can't be sent within 30 s stay in the spool for `send_leftovers`. A run that
        another machine has taken over isn't ended."""
        if status not in STATUSES:
            raise unknown("status", status, STATUSES)
        if self._finished:
            return
        if self._sampler:
            self._sampler.stop()
        if self._upload and status != "FINISHED":
            self._upload.close(LAST_CHECKPOINT_SECONDS, finished=False)
        if not self.taken_over:
            self._append([{"finish": [status, _now_ms()]}])
        self._finished = True
        if left := self._sender.close(FINISH_SECONDS):
            where = self._journal.folder
            log.warning(
                "run %s: %d entries couldn't be sent to MLflow yet; they are in %s", self.ref.run_id, left, where
            )
        if self._upload and status == "FINISHED":
            self._upload.close(LAST_CHECKPOINT_SECONDS, finished=True)

    def _has_sent(self, size: int) -> bool:
        self._sender.flush(SENT_SECONDS)
        return self._journal.sent_bytes >= size

    def _system_metrics(self, sample: dict[str, float]) -> None:
        # the step is the seconds since the start, which continues when a run is resumed
        self.metrics(sample, step=max(0, _now_ms() - self._started_ms) // 1000)

    def _append(self, entries: list[Entry]) -> None:
        if self._finished:
            raise RuntimeError(f"run {self.ref.run_id} is finished")
        if entries and not self.taken_over:
            self._journal.append(entries)


def delivery(client: MlflowClient, run_id: str) -> Any:
    """The function that sends a journal's batches to the store. It is idempotent: the store keeps one of several points
    with equal key, step, time and value; tags and files are replaced."""

    def deliver(folder: Path, entries: list[Entry]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            _send(client, run_id, folder, entries)
        except MlflowException as error:
            if error.error_code in HOPELESS:
                raise Refused(summary(error)) from error
            raise

    return deliver


def _send(client: MlflowClient, run_id: str, folder: Path, entries: list[Entry]) -> None:
    """Send entries of one kind (see `components.tracking.spool`); a single entry unless they are metrics or tags."""
    from mlflow.entities import Metric, RunTag

    kind, values = next(iter(entries[0].items()))
    if kind == "metric":
        points = [Metric(key, value, at_ms, step) for key, value, step, at_ms in (entry[kind] for entry in entries)]
        client.log_batch(run_id, metrics=points)
    elif kind == "tag":
        latest = dict(entry[kind] for entry in entries)
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in latest.items()])
    elif kind == "finish":
        client.set_terminated(run_id, status=values[0], end_time=values[1])
    elif not (folder / values[0]).exists():
        log.warning("run %s: %s is missing from the spool folder", run_id, values[0])  # a retry can't help
    elif kind == "file":
        client.log_artifact(run_id, str(folder / values[0]), values[1] or None)
    elif kind == "image":
        from PIL import Image

        with Image.open(folder / values[0]) as image:
            image.load()
            client.log_image(run_id, image, key=values[1], step=values[2], timestamp=values[3], synchronous=True)


def _checked_key(key: str) -> str:
    if len(key) > 250 or not KEY.fullmatch(key):
        raise ValueError(f"{key[:80]!r} isn't a valid key: use letters, digits, _ - . : space, and / between them")
    return key


def _json_ready(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
