"""Requests of one model drawn together: whoever comes joins at the next call of the engine, whoever is done leaves.

Each request's sequences are those that it would get alone (components.generation.drawing), so sharing is nobody's
business but the clock's.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
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

STEPS = 16  # most tokens in one call: how long a request may wait to join, and what a stream shows at once
SHOW_SECONDS = 0.08  # between two looks at what has been drawn, where somebody watches
CHECK_SECONDS = 0.25  # between two looks at the clock, where nobody does
Watch = Callable[[list[np.ndarray]], None]


class Cancelled(Exception):
    """Whoever asked has gone."""


class Deadline:
    """How long a request may take, and whether anyone still waits for it."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.at = seconds, time.monotonic() + seconds
        self.cancelled = False

    def check(self, *_: Any) -> None:
        """Raises Late or Cancelled where the work is to stop."""
        if self.cancelled:
            raise Cancelled
        if time.monotonic() > self.at:
            raise Late(f"took longer than {self.seconds:g} s", hint="reduce the request: count, max_length")


class _Job:
    """One request in the drawing thread's hands."""

    def __init__(self, begin: Callable[[], Drawing], engine: Engine, count: int) -> None:
        self.begin, self.engine, self.count = begin, engine, count
        self.drawing: Drawing | None = None
        self.error: Exception | None = None
        self.cancelled = False
        self.finished = threading.Event()


class Batcher:
    """Draws for all requests of one model, in a thread that lives as long as there is something to draw."""

    def __init__(self, model: nn.Module, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.alone = threading.Lock()  # for what can't be shared: one request at a time uses the model
        self._lock = threading.Lock()
        self._engines: dict[str, Engine | None] = {}
        self._waiting: list[_Job] = []
        self._sequences, self._running = 0, False
        self.calls: list[int] = []  # sequences in each of the last calls of the engine

    def engine(self, precision: str) -> Engine | None:
        """The engine with the model's weights, made once; None where it doesn't apply."""
        with self.alone:
            if precision not in self._engines:
                self._engines[precision] = engine_for(self.model, precision)  # type: ignore[arg-type]
            return self._engines[precision]

    def draw(
        self, begin: Callable[[Engine], Drawing], engine: Engine, count: int, deadline: Deadline, watch: Watch | None
    ) -> Drawing:
        """The drawing, done; `watch` sees what there is of it now and then, in the caller's thread.

        Raises:
            Busy: too many sequences wait already.
            Late, Cancelled: see Deadline; what `begin` raises.
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
            job.cancelled = True  # means nothing to one that is done
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
            if len(group) > 1:  # one of them: the others go on
                for job in group:
                    self._advance([job])
            else:
                group[0].error = error

    def _over(self, job: _Job) -> bool:
        """Whether the job needs no more drawing; begins it where it hasn't begun."""
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
    """A model for one request: its tokens are drawn with those of the others, or alone where the engine can't."""

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
        affordable(settings.count * settings.particles, length, self.batcher.limits, "count, particles, the region")
        with turn(self.batcher.alone, self.deadline):
            return rewrite(self.batcher.model, replace(draft, progress=self.deadline.check))


def affordable(count: int, length: int, limits: Limits, reduced: str = "count, max_length, a shorter prompt") -> None:
    """Refuses what would keep the model for too long."""
    if count * length > limits.tokens:
        what = f"{count:,} × {length:,} tokens, {limits.tokens:,} are drawn for one request"
        raise UserError(what, where="settings", hint=f"reduce the request: {reduced}")


class turn:
    """`with turn(lock, deadline)`: the lock, waited for as long as the deadline may take."""

    def __init__(self, lock: threading.Lock | threading.Semaphore, deadline: Deadline) -> None:
        self.lock, self.deadline = lock, deadline

    def __enter__(self) -> None:
        while not self.lock.acquire(timeout=0.2):
            self.deadline.check()

    def __exit__(self, *_: Any) -> None:
        self.lock.release()
