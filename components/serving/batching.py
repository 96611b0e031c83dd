"""Continuous batching: the requests of one model are sampled together. A request joins the batch at the next call of
the engine and leaves it when it is done.

Each request's sequences are the same as if it ran alone (components.generation.drawing).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from components.errors import UserError
from components.generation.draft import Draft, Sampler
from components.generation.drawing import Drawing, advance
from components.generation.engine import Engine, engine_for
from components.generation.infill import rewrite
from components.generation.region import Piece
from components.generation.sampling import check_plain, drawn, sample_plainly, steps_at_once
from components.generation.settings import Sampled
from components.serving.problems import Busy, Late, Limits

STEPS = 16  # maximum tokens in one call, after which requests can join and streams are updated
SHOW_SECONDS = 0.08  # between two updates of a stream
CHECK_SECONDS = 0.25  # between two checks of the deadline, without a stream
Watch = Callable[[list[np.ndarray]], None]


class Cancelled(Exception):
    """The client has disconnected."""


class Deadline:
    """The time limit of a request, and whether it was cancelled."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.at = seconds, time.monotonic() + seconds
        self.cancelled = False

    def check(self, *_: Any) -> None:
        """Raise Late or Cancelled if the work must stop."""
        if self.cancelled:
            raise Cancelled
        if time.monotonic() > self.at:
            raise Late(f"took longer than {self.seconds:g} s", hint="ask for less: reduce count or max_length")


class _Job:
    """One request in the queue of the sampling thread."""

    def __init__(self, begin: Callable[[], Drawing], engine: Engine, count: int) -> None:
        self.begin, self.engine, self.count = begin, engine, count
        self.drawing: Drawing | None = None
        self.error: Exception | None = None
        self.cancelled = False
        self.finished = threading.Event()


class Batcher:
    """Samples for all requests of one model, in a thread that ends when there are none left."""

    def __init__(self, model: nn.Module, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.alone = threading.Lock()  # for work that can't be batched: one request at a time uses the model
        self._lock = threading.Lock()
        self._engines: dict[str, Engine | None] = {}
        self._waiting: list[_Job] = []
        self._sequences, self._running = 0, False
        self.calls: list[int] = []  # batch sizes of the last calls of the engine

    def engine(self, precision: str) -> Engine | None:
        """The engine with the model's weights, created once; None if it doesn't support the model."""
        with self.alone:
            if precision not in self._engines:
                self._engines[precision] = engine_for(self.model, precision)  # type: ignore[arg-type]
            return self._engines[precision]

    def draw(
        self, begin: Callable[[Engine], Drawing], engine: Engine, count: int, deadline: Deadline, watch: Watch | None
    ) -> Drawing:
        """Queue a request and wait for it. `watch` is called with the sequences so far, in the caller's thread.

        Raises:
            Busy: too many sequences are waiting.
            Late, Cancelled: see Deadline; also anything that `begin` raises.
        """
        job = _Job(lambda: begin(engine), engine, count)
        with self._lock:
            if self._sequences + count > self.limits.sequences:
                raise Busy(f"{self._sequences:,} sequences are waiting for this model", hint="try again in a moment")
            self._sequences += count
            self._waiting.append(job)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, daemon=True, name="batcher").start()
        try:
            often = SHOW_SECONDS if watch else CHECK_SECONDS
            while not job.finished.wait(min(often, max(0.0, deadline.at - time.monotonic()))):
                deadline.check()
                if watch and job.drawing is not None:
                    watch(job.drawing.so_far())
        finally:
            job.cancelled = True  # no effect on a finished job
        if job.error is not None:
            raise job.error
        return job.drawing

    def _run(self) -> None:
        active: list[_Job] = []
        while True:
            with self._lock:
                active, self._waiting = active + self._waiting, []
                self._running = bool(active)
                if not active:
                    return
            still = [job for job in active if not self._over(job)]
            groups = itertools.groupby(sorted(still, key=_manner), key=_manner)
            for group in (list(group) for _, group in groups):
                self._advance(group)
            active = [job for job in still if not self._over(job)]

    def _advance(self, group: list[_Job]) -> None:
        engine, count = group[0].engine, sum(job.count for job in group)
        try:
            advance(engine, [job.drawing for job in group], min(STEPS, steps_at_once(engine, count)))
            self.calls = [*self.calls[-999:], count]
        except Exception as error:
            if len(group) > 1:  # find the job that fails; the others go on
                for job in group:
                    self._advance([job])
            else:
                group[0].error = error

    def _over(self, job: _Job) -> bool:
        """Whether the job is finished, cancelled or failed. Starts a new job."""
        try:
            if job.drawing is None and not job.cancelled and job.error is None:
                job.drawing = job.begin()
        except Exception as error:
            job.error = error
        if not (job.cancelled or job.error or job.drawing is None or not job.drawing.left):
            return False
        with self._lock:
            self._sequences -= job.count
        job.finished.set()
        return True


def _manner(job: _Job) -> tuple[Any, ...]:
    return (id(job.engine), *job.drawing.manner)


class Shared(Sampler):
    """The sampler of one request: batched with the others, or alone if the engine doesn't support the model."""

    def __init__(self, batcher: Batcher, deadline: Deadline, watch: Watch | None = None) -> None:
        self.batcher, self.deadline, self.watch = batcher, deadline, watch

    def sample(self, draft: Draft) -> list[Sampled]:
        if draft.piece:
            return self._rewritten(draft, draft.piece)
        model, settings = self.batcher.model, draft.settings
        affordable(settings.count, len(draft.prompt_ids) + settings.max_length, self.batcher.limits)
        engine = self.batcher.engine(settings.precision)
        if engine is None:
            check_plain(model, settings)
            with turn(self.batcher.alone, self.deadline):
                return sample_plainly(model, replace(draft, progress=self.deadline.check))

        def begin(engine: Engine) -> Drawing:
            with torch.inference_mode():
                return Drawing(engine, model, draft)

        return drawn(self.batcher.draw(begin, engine, settings.count, self.deadline, self.watch))

    def _rewritten(self, draft: Draft, piece: Piece) -> list[Sampled]:
        free, settings = np.flatnonzero(piece.free), draft.settings
        length = int(free[-1] - free[0]) + 1
        affordable(
            settings.count * settings.particles, length, self.batcher.limits, "count, particles, length of the region"
        )
        with turn(self.batcher.alone, self.deadline):
            return rewrite(self.batcher.model, replace(draft, progress=self.deadline.check))


def affordable(
    count: int, length: int, limits: Limits, reduced: str = "count, max_length, length of the prompt"
) -> None:
    """Raise UserError for a request that would occupy the model for too long."""
    if count * length > limits.tokens:
        what = f"{count:,} × {length:,} tokens; at most {limits.tokens:,} can be sampled in one request"
        raise UserError(what, where="settings", hint=f"reduce one of: {reduced}")


@contextmanager
def turn(lock: threading.Lock | threading.Semaphore, deadline: Deadline) -> Iterator[None]:
    """Context manager that holds the lock, after waiting for it until the deadline at most."""
    while not lock.acquire(timeout=0.2):
        deadline.check()
    try:
        yield
    finally:
        lock.release()
