"""Reads untrusted files in subprocesses, so that a bad file can't crash the run.

A worker gets file names on stdin and answers each on stdout with one frame of JSON, so the current file is always
known. The kernel enforces its limits: memory (RLIMIT_AS), processor time per file (ITIMER_PROF, whose signal kills;
waiting for a busy machine isn't counted), no writing to disk (RLIMIT_FSIZE). No pickles are exchanged.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import resource
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.errors import UserError, one_line
from components.paths import CODE

WORKERS = 2
NEXT_SECONDS = 1.0  # seconds of reading per additional worker: a short reading ends before a worker has started
MANY = 512  # with more files, several workers are started at once
AT_ONCE = 8  # names sent ahead to a worker; with the longest paths they still fit into a pipe
AHEAD = 512  # answers kept until an earlier file is finished
START_SECONDS = 120.0
END_SECONDS = 1.0  # for a process whose output has ended to exit by itself: its exit code gives the reason
RESERVE_BYTES = 4 << 20  # freed when the memory limit is hit, so that the worker can report it
CHECK_SECONDS = 0.25  # between two calls of `check`


class Refused(Exception):
    """Raised by a reading function: why the file can't be read, for the user."""


@dataclass(frozen=True)
class Limits:
    """Limits for one file."""

    file_bytes: int = 8 << 20
    cpu_seconds: float = 10.0
    wall_seconds: float = 60.0  # against waiting for ever; a computation reaches cpu_seconds first
    memory_bytes: int = 1 << 30  # in addition to what the worker uses when it is ready
    answer_bytes: int = 64 << 20


@dataclass(frozen=True)
class Outcome:
    """The result for a file: `value`, or the `reason` why there is none."""

    value: Any = None
    reason: str = ""


class _Worker:
    def __init__(self, function: str, options: Mapping[str, Any], limits: Limits) -> None:
        ours, self._life = os.pipe()  # nothing is ever written to it
        settings = json.dumps([function, dict(options), asdict(limits), ours])
        command = [sys.executable, "-m", "components.datasets.files.sandbox", settings]
        # one thread: each thread of a linear algebra library would take address space
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=CODE,
            env=os.environ | threads,
            pass_fds=[ours],
        )
        os.close(ours)
        self.limits = limits
        self.assigned: deque[int] = deque()
        self.ready, self.served = False, 0
        self.deadline = time.monotonic() + START_SECONDS
        self._buffer = bytearray()

    def send(self, index: int, path: Path) -> None:
        if self.ready and not self.assigned:
            self.deadline = time.monotonic() + self.limits.wall_seconds
        self.assigned.append(index)
        with contextlib.suppress(OSError):  # the worker has died; its stdout shows it too
            self.process.stdin.write(json.dumps(str(path)).encode() + b"\n")
            self.process.stdin.flush()

    def frames(self) -> Iterator[Any] | None:
        """The answers that have arrived; None if the worker is dead or sends anything invalid."""
        block = os.read(self.process.stdout.fileno(), 1 << 16)
        self._buffer += block
        found = []
        while (end := self._buffer.find(b"\n", 0, 12)) >= 0:
            digits = bytes(self._buffer[:end])
            if not digits.isdigit() or int(digits) > self.limits.answer_bytes:
                return None
            stop = end + 1 + int(digits)
            if len(self._buffer) < stop:
                break
            found.append(json.loads(self._buffer[end + 1 : stop]))
            del self._buffer[:stop]
        if found:
            self.deadline = time.monotonic() + self.limits.wall_seconds
        return iter(found) if block or found else None

    def end(self) -> int:
        """Kill the worker; returns its exit code."""
        self.process.kill()
        code = self.process.wait()
        os.close(self._life)
        self.process.stdout.close()
        with contextlib.suppress(OSError):  # names that it will never read
            self.process.stdin.close()
        return code


def read_all(
    function: str,
    paths: Sequence[Path],
    options: Mapping[str, Any],
    limits: Limits = Limits(),
    workers: int = WORKERS,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """An outcome for each path, in order. `function` is "module:name" of a function (bytes, file name, options) that
    returns JSON-ready data; an exception becomes the file's reason. `warm_up()` of that module runs before the limits
    are set. `check` is called several times a second while waiting; an exception in it ends the workers.

    Raises:
        UserError: the workers can't be started.
    """
    pool, began = _Pool(function, paths, options, limits), time.monotonic()
    try:
        for at in range(len(paths)):
            while at not in pool.done:
                check()
                lasted = int((time.monotonic() - began) / NEXT_SECONDS)
                pool.run(min(workers, os.cpu_count() or 1, 1 + lasted + len(paths) // MANY), at + AHEAD)
            yield pool.done.pop(at)
    finally:
        pool.close()


class _Pool:
    def __init__(self, function: str, paths: Sequence[Path], options: Mapping[str, Any], limits: Limits) -> None:
        self.function, self.paths, self.options, self.limits = function, paths, options, limits
        self.waiting = deque(range(len(paths)))
        self.done: dict[int, Outcome] = {}
        self.suspects: set[int] = set()  # files at which a worker died that had read others before
        self.selector = selectors.DefaultSelector()

    @property
    def live(self) -> list[_Worker]:
        return [key.data for key in self.selector.get_map().values()]

    def run(self, most: int, end: int) -> None:
        """Keep up to `most` workers busy with files before `end`, and process the next answers."""
        while self.waiting and len(self.selector.get_map()) < most:
            self._start()
        for worker in self.live:
            while self.waiting and len(worker.assigned) < AT_ONCE and self.waiting[0] < end:
                worker.send(index := self.waiting.popleft(), self.paths[index])
        deadlines = [worker.deadline for worker in self.live if worker.assigned or not worker.ready]
        left = min(deadlines, default=0.0) - time.monotonic()
        for key, _ in self.selector.select(max(0.0, min(left, CHECK_SECONDS))):
            self._take(key.data)
        for worker in self.live:
            if (worker.assigned or not worker.ready) and time.monotonic() > worker.deadline:
                self._lost(worker, f"gave no answer for {self.limits.wall_seconds:g} s")

    def close(self) -> None:
        for worker in self.live:
            worker.end()
        self.selector.close()

    def _start(self) -> _Worker:
        worker = _Worker(self.function, self.options, self.limits)
        self.selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _take(self, worker: _Worker) -> None:
        frames = worker.frames()
        if frames is None:
            return self._lost(worker)
        for frame in frames:
            if not worker.ready:
                if "failed" in frame:
                    raise UserError(f"files can't be read: {frame['failed']}", hint="see reprise doctor")
                worker.ready = True
            elif frame.get("memory") and self._again(worker.assigned[0], worker):
                return self._lost(worker)
            else:
                self.done[worker.assigned.popleft()] = Outcome(frame.get("value"), frame.get("reason", ""))
                worker.served += 1
        return None

    def _again(self, index: int, worker: _Worker) -> bool:
        """Whether to retry a file in a new process: a crash or spent memory may be caused by an earlier file."""
        return worker.served > 0 and index not in self.suspects

    def _lost(self, worker: _Worker, idle: str = "") -> None:
        """Replace a worker that is dead or must be killed: its files go to others, except for the current one."""
        self.selector.unregister(worker.process.stdout)
        if not idle:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(END_SECONDS)
        code = worker.end()
        if not worker.ready:
            what = idle or f"exit code {code}"
            raise UserError(f"the process that reads files can't be started: {what}", hint="see reprise doctor")
        if not worker.assigned:
            return
        index = worker.assigned.popleft()
        self.waiting.extendleft(reversed(worker.assigned))
        if not idle and code != -signal.SIGPROF and self._again(index, worker):
            self.suspects.add(index)
            self._start().send(index, self.paths[index])
        else:
            self.done[index] = Outcome(reason=idle or _death(code, self.limits))


def _death(code: int, limits: Limits) -> str:
    if code == -signal.SIGPROF:
        return f"takes longer than {limits.cpu_seconds:g} s to read"
    return f"made the reading process crash ({'signal ' + str(-code) if code < 0 else 'exit code ' + str(code)})"


def serve(settings: str) -> None:
    """Main loop of a worker: names from stdin, a frame to stdout for each, until stdin ends."""
    function, options, limits_, life = json.loads(settings)
    limits = Limits(**limits_)
    _end_with(life)
    out = os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)  # output printed by a library must not mix with frames

    def answer(frame: Mapping[str, Any]) -> None:
        content = json.dumps(frame).encode()
        if len(content) > limits.answer_bytes:
            content = json.dumps({"reason": f"gives more than {limits.answer_bytes:,} bytes of notes"}).encode()
        out.write(b"%d\n" % len(content) + content)
        out.flush()

    module, _, name = function.partition(":")
    try:
        read = getattr(importlib.import_module(module), name)
        getattr(importlib.import_module(module), "warm_up", lambda: None)()
    except Exception as error:  # a broken installation: reported once, for all files
        answer({"failed": one_line(repr(error))})
        return
    _hold(limits)
    reserve = bytearray(RESERVE_BYTES)
    answer({})
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)
        try:
            path = Path(json.loads(line))
            frame = {"value": read(_bytes(path, limits), path.name, options)}
        except MemoryError:
            reserve = b""
            frame = {"reason": f"needs more than {limits.memory_bytes >> 20} MB of memory", "memory": True}
        except Refused as refused:
            frame = {"reason": str(refused)}
        except RecursionError:
            frame = {"reason": "is nested too deeply"}
        except Exception as error:  # a parser may raise anything on untrusted input
            frame = {"reason": f"can't be parsed: {one_line(str(error)) or type(error).__name__}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        answer(frame)
        if not reserve:  # memory may not be released completely: the next file gets a new process
            return


def _end_with(life: int) -> None:
    """End this process when the other end of the pipe is closed, which happens when the process that holds it ends."""
    if sys.platform == "linux":  # the kernel's signal also ends it during a library call
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life, fcntl.F_SETFL, os.O_ASYNC)
        if select.select([life], [], [], 0)[0]:  # it was closed before
            os._exit(1)
    else:
        threading.Thread(target=lambda: os._exit(len(os.read(life, 1)) or 1), daemon=True).start()


def _bytes(path: Path, limits: Limits) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.file_bytes + 1)
    except OSError as error:
        raise Refused(f"can't be opened: {error.strerror or error}") from error
    if len(data) > limits.file_bytes:
        raise Refused(f"has more than {limits.file_bytes:,} bytes")
    if not data.strip(b"\0"):
        raise Refused("is empty" if not data else "contains only zeros")
    return data


def _hold(limits: Limits) -> None:
    """Set the limits that the kernel enforces."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:  # not Linux: RLIMIT_AS isn't enforced reliably
        pages = None
    if pages is not None:
        most = pages * resource.getpagesize() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    # the module as readers import it: the class Refused of __main__ would be a different one
    from components.datasets.files import sandbox

    sandbox.serve(sys.argv[1])
