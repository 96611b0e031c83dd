"""Uploading of a run's latest state to its artifacts, in a background thread."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.provenance import digest_file
from components.tracking.process import HOST, PROCESS, identity
from components.tracking.spool import summary
from components.tracking.travel import DATA, FOLDER, TAG, StateSet, writer_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

POLL_SECONDS = 0.5
CAPTURE = ".leaving-"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFiles:
    """The files to upload. `state` is {name: path}, with `checkpoint` first; `record` is uploaded with each set, `data`
    once. `update_of` reads the checkpoint's update."""

    checkpoint: str
    state: Mapping[str, Path]
    record: Path
    data: Mapping[str, Path]
    update_of: Callable[[Path], int]


class StateUpload:
    """Uploads the latest state of the run `run_id` to its artifacts, at most every `every` seconds.

    A set is marked as complete only after everything that the run wrote before it (`spooled`) has reached the store
    (`sent`), so that a run resumed from it neither repeats nor misses a step of a curve. A failed upload is retried
    with the state that is the latest then.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        files: RunFiles,
        every: int,
        spooled: Callable[[], int],
        sent: Callable[[int], bool],
    ) -> None:
        self._client, self._run_id, self._files, self._every = client, run_id, files, every
        self._spooled, self._sent = spooled, sent
        self._name = writer_name(identity(), os.urandom(8).hex())
        self._slots: list[dict[str, tuple[int, str]]] = [{}, {}]  # the files in the two folders
        self._turn, self._captured, self._failures = 0, 0, 0
        self._data_sent = False
        self._kept: StateSet | None = None
        self.taken_over = ""  # the machine that has taken over the run
        self._closing, self._finished = threading.Event(), False
        for left in files.record.parent.glob(f"{CAPTURE}*"):
            shutil.rmtree(left, ignore_errors=True)  # left by a killed process
        self._thread = threading.Thread(target=self._loop, name=f"upload-{run_id[:8]}", daemon=True)
        self._thread.start()

    def close(self, wait_seconds: float, *, finished: bool) -> None:
        """Upload the last state, waiting up to `wait_seconds`, or remove all state if the run has `finished`."""
        self._finished = finished
        self._closing.set()
        self._thread.join(wait_seconds)
        if not finished and (self._thread.is_alive() or self._failures):
            log.warning("run %s: its last checkpoint is only on this machine", self._run_id[:8])

    def _loop(self) -> None:
        due = 0.0
        while not self.taken_over:
            closing = self._closing.wait(POLL_SECONDS)
            if closing and self._finished:
                self._remove()
                return
            if not closing and time.monotonic() < due:
                continue
            try:
                if self._work():
                    due = time.monotonic() + self._every
                if self._failures:
                    log.warning("run %s: checkpoints can be uploaded again", self._run_id[:8])
                self._failures = 0
            except Exception as error:  # any error of a network, a database or a bucket
                due = time.monotonic() + self._every
                self._failures += 1
                if self._failures == 1:
                    why = summary(error)
                    log.warning("run %s: can't upload its checkpoint, trying again (%s)", self._run_id[:8], why)
            if closing:
                return

    def _work(self) -> bool:
        """Upload a changed state and send a heartbeat; False while there is no checkpoint."""
        path = self._files.state[self._files.checkpoint]
        try:
            now = path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        tags = self._client.get_run(self._run_id).data.tags
        if tags.get(PROCESS) != identity():
            self.taken_over = tags.get(HOST, "another machine")
            return True
        if now != self._captured or self._kept is None:
            self._send_data()
            self._kept = self._send_state()
            self._captured = now
        self._client.set_tag(self._run_id, TAG, replace(self._kept, seen=time.time()).as_tag())
        return True

    def _send_state(self) -> StateSet:
        folder = f"{FOLDER}/{self._name}-{self._turn}"
        with tempfile.TemporaryDirectory(dir=self._files.record.parent, prefix=CAPTURE) as captured:
            files = _capture({**self._files.state, self._files.record.name: self._files.record}, Path(captured))
            before = self._spooled()
            update = self._files.update_of(files[self._files.checkpoint])
            facts = {name: (path.stat().st_size, digest_file(path)) for name, path in files.items()}
            there = self._slots[self._turn]
            for name, path in files.items():
                if there.get(name) != facts[name]:
                    there.pop(name, None)
                    self._client.log_artifact(self._run_id, str(path), folder)
                    there[name] = facts[name]
        if not self._sent(before):
            raise TimeoutError("earlier entries of the run aren't sent yet")
        self._turn = 1 - self._turn
        return StateSet(folder, update, time.time(), self._every, facts)

    def _send_data(self) -> None:
        if self._data_sent or not self._files.data:
            return
        there = {file.path: file.file_size for file in self._client.list_artifacts(self._run_id, DATA)}
        for name, path in self._files.data.items():
            if there.get(f"{DATA}/{name}") != path.stat().st_size:
                self._client.log_artifact(self._run_id, str(path), DATA)
        self._data_sent = True

    def _remove(self) -> None:
        """Remove the state of a finished run, which is no longer needed. Errors are ignored: they only cost space."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with contextlib.suppress(Exception):
            self._client.set_tag(self._run_id, TAG, "")
            address = self._client.get_run(self._run_id).info.artifact_uri
            get_artifact_repository(address, tracking_uri=self._client.tracking_uri).delete_artifacts(FOLDER)


def _capture(files: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """A snapshot of the files. The checkpoint comes first, so that no other file is older: resuming recomputes anything
    newer. Training replaces the checkpoint as a whole, so that a hard link is a snapshot."""
    captured = {}
    for name, path in files.items():
        if not path.exists():
            continue  # no evaluation yet
        captured[name] = folder / name
        if path.suffix == ".safetensors":
            with contextlib.suppress(OSError):  # a file system without hard links
                os.link(path, captured[name])
        if not captured[name].exists():
            shutil.copyfile(path, captured[name])
    return captured
