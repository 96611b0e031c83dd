"""Subprocesses that end with this process: closing their standard input stops them, and a kill closes it too."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

LAUNCHED = "TORCHELASTIC_RUN_ID"  # set by torchrun
STOP_SECONDS = 45.0  # an interrupted run closes its tracked run, which may wait 30 s for the store


class Processes:
    """Runs subprocesses from any number of threads. Leaving the block stops those still running."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping, self._mutex = False, threading.Lock()

    def run(self, command: Sequence[str], *, log: Path, cwd: Path) -> tuple[int, str]:
        """Run a command to its end, its output at the end of `log`: (exit code, last line of output).

        Raises:
            RuntimeError: the processes are being stopped.
        """
        with log.open("ab") as output, self._mutex:
            if self._stopping:
                raise RuntimeError("stopped")
            # in a separate session, so that Ctrl-C in the terminal reaches only this process, which passes it on once
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=cwd, start_new_session=True
            )
            self._running.add(process)
        try:
            code = process.wait()
        finally:
            with self._mutex:
                self._running.discard(process)
            if process.stdin:
                process.stdin.close()
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return code, lines[-1] if lines else ""

    def stop(self) -> None:
        """Ask all to end. Those still running after 45 s, or at a second Ctrl-C, are killed."""
        with self._mutex:
            self._stopping = True
            running = list(self._running)
        for process in running:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
        finally:
            for process in running:
                process.kill()  # no effect if it has ended

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def launched_as() -> tuple[int, int]:
    """(rank, number of processes) as set by torchrun; (0, 1) if torchrun didn't start this process."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if LAUNCHED in os.environ else (0, 1)


def end_with_input() -> None:
    """Interrupt this process, like Ctrl-C, when its standard input closes."""
    # a shell's background jobs ignore the signal, Ray's workers block it, and their children with them
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    def watch() -> None:
        while sys.stdin.buffer.raw.read(1024):  # type: ignore[attr-defined]
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, name="input", daemon=True).start()
