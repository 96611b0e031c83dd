"""The spool: a run's entries are written to a local journal, and a thread sends them to the store.

Training never waits for the store, and unsent entries survive the process. A journal is a folder for each writer of a
run, `<run_id>.<token>/`: `journal.jsonl` (one entry a line), `sent` (how many of its bytes the store has acknowledged)
and `files/` (copies of files to upload). The lock file next to it is held while the writer lives, so that the journals
of dead writers can be told apart.

An entry is one of {"metric": [key, value, step, time_ms]}, {"tag": [key, value]}, {"file": [path, folder]},
{"image": [path, key, step, time_ms]}, {"finish": [status, time_ms]}; paths are relative to the journal's folder.
An entry may be delivered twice (after a crash between sending it and recording that), so delivery must be idempotent.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from components.redaction import without_secrets

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
# entries in a batch: MLflow takes 1,000 metrics or 100 tags a request; other entries are sent one by one
BATCH = {"metric": 1000, "tag": 100}

Entry = dict[str, list[Any]]


class Refused(Exception):
    """The store will never accept the entry (the run was deleted), so that it isn't retried."""


def summary(error: BaseException) -> str:
    """The first line of an error, shortened and without the credentials in addresses."""
    return re.sub(r"//[^/@\s]*@", "//", without_secrets(str(error)).partition("\n")[0])[:300]


class Journal:
    """One writer's journal. Appending is thread-safe; only one thread may send."""

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder, self._lock, self._mutex = folder, lock, threading.Lock()
        (folder / "files").mkdir(parents=True, exist_ok=True)
        # unbuffered and appended: once write() has returned, the line survives the death of this process
        self._file = (folder / "journal.jsonl").open("ab", buffering=0)
        self._file_number = 0
        self.sent_bytes = self._read_sent()
        self.pending = sum(1 for _ in self._unsent())

    @classmethod
    def create(cls, root: Path, run_id: str) -> Journal:
        """A new journal for the run under `root`."""
        root.mkdir(parents=True, exist_ok=True)
        name = f"{run_id}.{uuid.uuid4().hex[:12]}"
        # the lock comes first: a folder without a held lock may be sent as a leftover
        lock = _lock(root / f"{name}.lock")
        lock.acquire(timeout=0)
        return cls(root / name, lock)

    @classmethod
    def leftovers(cls, root: Path, run_id: str | None = None) -> Iterator[Journal]:
        """The journals under `root` (of one run, or all) whose writer has died, each locked while it is yielded."""
        for folder in sorted(root.glob(f"{run_id or '*'}.*/")):
            lock = _lock(root / f"{folder.name}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue  # its writer lives
            if not folder.exists():  # another process has sent it between the listing and the lock
                lock.release()
                Path(lock.lock_file).unlink(missing_ok=True)
                continue
            journal = cls(folder, lock)
            try:
                yield journal
            finally:
                journal.close()

    @property
    def run_id(self) -> str:
        """The run of the entries."""
        return self.folder.name.partition(".")[0]

    @property
    def finished(self) -> bool:
        """Whether the writer ended the run; False if it died."""
        lines = (self.folder / "journal.jsonl").read_bytes().splitlines()
        return bool(lines) and lines[-1].startswith(b'{"finish"')

    @staticmethod
    def has_writer(root: Path, run_id: str, *, but: Path | None = None) -> bool:
        """Whether a process has a journal of the run under `root` open, other than the folder `but`."""
        for folder in root.glob(f"{run_id}.*/"):
            lock = _lock(folder.with_name(f"{folder.name}.lock"))
            if folder == but:
                continue
            try:
                lock.acquire(timeout=0)
                lock.release()
            except Timeout:
                return True
        return False

    def has_living_sibling(self) -> bool:
        """Whether another writer has a journal of the same run open."""
        return Journal.has_writer(self.folder.parent, self.run_id, but=self.folder)

    def append(self, entries: list[Entry]) -> None:
        """Write the entries. Once this returns, they survive the death of the process.

        Raises:
            OSError: the disk is full.
        """
        data = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
        with self._mutex:
            size = self._file.seek(0, os.SEEK_END)
            if self._file.write(data) != len(data):
                os.ftruncate(self._file.fileno(), size)  # a partial line would corrupt the next one
                raise OSError(errno.ENOSPC, "no space for the spool", str(self.folder))
            self.pending += len(entries)

    def size(self) -> int:
        """Bytes of all entries so far; compare with `sent_bytes`."""
        return (self.folder / "journal.jsonl").stat().st_size

    def keep_file(self, source: Path) -> str:
        """Copy a file into the journal's folder; returns its relative path, for an entry."""
        target = self.new_file(source.name)
        shutil.copyfile(source, target)
        return target.relative_to(self.folder).as_posix()

    def new_file(self, name: str) -> Path:
        """A new path in the journal's folder for a file of this name."""
        with self._mutex:
            self._file_number += 1
            folder = self.folder / "files" / f"{self._file_number:06d}-{uuid.uuid4().hex[:6]}"
        folder.mkdir()
        return folder / name

    def send(self, deliver: Callable[[Path, list[Entry]], None]) -> None:
        """Pass all unsent entries to `deliver(folder, entries)`, in order and in batches of one kind.

        Raises:
            Exception: any error of `deliver`; earlier batches stay recorded as sent.
        """
        batch: list[Entry] = []
        end = self.sent_bytes
        for entry, entry_end in self._unsent():
            kind = next(iter(entry))
            if batch and (kind not in batch[0] or len(batch) >= BATCH.get(kind, 1)):
                self._deliver(deliver, batch, end)
                batch = []
            batch.append(entry)
            end = entry_end
        if batch:
            self._deliver(deliver, batch, end)

    def drop(self) -> None:
        """Discard the unsent entries."""
        with self._mutex:
            self.sent_bytes, self.pending = self.size(), 0

    def close(self) -> None:
        """Close and unlock the journal, and delete it if all entries are sent."""
        self._file.close()
        if not self.pending:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        if not self.pending:
            Path(self._lock.lock_file).unlink(missing_ok=True)

    def _deliver(self, deliver: Callable[[Path, list[Entry]], None], batch: list[Entry], end: int) -> None:
        deliver(self.folder, batch)
        (self.folder / "sent").write_text(f"{end:020d}", encoding="ascii")
        for entry in batch:
            for kind in ("file", "image"):
                if kind in entry:
                    shutil.rmtree((self.folder / entry[kind][0]).parent, ignore_errors=True)
        with self._mutex:
            self.sent_bytes = end
            self.pending -= len(batch)

    def _read_sent(self) -> int:
        try:
            return int((self.folder / "sent").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0  # sending again is harmless

    def _unsent(self) -> Iterator[tuple[Entry, int]]:
        """The unsent entries, each with the byte at which it ends. An incomplete last line is left out."""
        with (self.folder / "journal.jsonl").open("rb") as file:
            file.seek(self.sent_bytes)
            end = self.sent_bytes
            for line in file:
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                with contextlib.suppress(ValueError):  # a corrupt line must not block the lines after it
                    yield json.loads(line), end


def _lock(path: Path) -> FileLock:
    # not bound to a thread: acquired by the thread that starts a run, released by the one that sends
    return FileLock(path, thread_local=False)


class Sender:
    """The thread that sends a journal to the store: every two seconds, or on `flush`."""

    def __init__(self, journal: Journal, deliver: Callable[[Path, list[Entry]], None]) -> None:
        self._journal, self._deliver = journal, deliver
        self._wake, self._closing, self._tried = threading.Event(), threading.Event(), threading.Condition()
        self.refused = False
        self._thread = threading.Thread(target=self._loop, name=f"spool-{journal.run_id[:8]}", daemon=True)
        self._thread.start()

    def flush(self, wait_seconds: float) -> int:
        """Send now, waiting up to `wait_seconds`. Returns how many entries are still unsent."""
        deadline = time.monotonic() + wait_seconds
        self._wake.set()
        with self._tried:
            while self._journal.pending and not self.refused and (left := deadline - time.monotonic()) > 0:
                self._tried.wait(min(left, 0.5))
        return self._journal.pending

    def close(self, wait_seconds: float) -> int:
        """Flush and stop. Returns how many entries are still unsent."""
        left = self.flush(wait_seconds)
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout=1.0)  # if it waits for a request, it closes the journal after that
        return left

    def _loop(self) -> None:
        failures = 0
        while not self.refused:
            self._wake.wait(min(INTERVAL_SECONDS * 2 ** max(failures - 1, 0), LONGEST_PAUSE_SECONDS))
            self._wake.clear()
            if self._closing.is_set():
                break
            try:
                self._journal.send(self._deliver)
                if failures:
                    log.warning("run %s: the store answers again; stored entries were sent", self._journal.run_id)
                failures = 0
            except Refused as error:
                self.refused = True
                log.warning("run %s: the store refuses the entries: %s", self._journal.run_id, summary(error))
            except Exception as error:  # any error of a network or a database: retry
                failures += 1
                if failures == 1:
                    why = summary(error)
                    log.warning(
                        "run %s: the store doesn't answer; entries are stored locally until it does (%s)",
                        self._journal.run_id,
                        why,
                    )
            with self._tried:
                self._tried.notify_all()
        self._closing.wait()
        self._journal.close()
