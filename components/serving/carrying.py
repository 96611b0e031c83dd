"""Running of requests, each in a thread; its events are passed to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from components.bundle import Generation
from components.encodings.doubts import Doubts
from components.errors import UserError
from components.serving.batching import Cancelled, Deadline, Watch
from components.serving.models import Models, Served
from components.serving.pieces import PieceCache, Shown, answer
from components.serving.problems import Busy, Limits
from components.serving.requests import (
    Answered,
    Explained,
    ExplainedAnswers,
    ExplainRequest,
    Generated,
    GenerateRequest,
    Likelihood,
    PredictRequest,
    ScoredTexts,
    ScoreRequest,
)
from components.serving.uploads import Uploads, item
from components.tracking.mlflow_store import MlflowStore

T = TypeVar("T")
Begun = Callable[[Served, int], Watch]
log = logging.getLogger(__name__)


class Work:
    """The running requests, each in a thread that ends with it."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.count = limits, 0
        self._under_way: set[Deadline] = set()
        self._ended = False

    async def carry_out(self, deadline: Deadline, function: Callable[[], T]) -> T:
        """Run the function in a thread and return its value. If the caller is cancelled, so is the deadline.

        Raises:
            Busy: `limits.requests` are running, or the server is shutting down.
        """
        if self._ended:
            raise Busy("the server is ending")
        if self.count >= self.limits.requests:
            raise Busy(f"{self.count} requests are running", hint="try again in a moment")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            self.count -= 1
            if future.done():
                return
            future.set_exception(error) if error else future.set_result(value)

        def run() -> None:
            value, error = None, None
            try:
                value = function()
            except BaseException as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(settle, value, error)

        # no thread pool: each idle thread would keep the threads that torch starts for it, one for each core
        try:
            threading.Thread(target=run, daemon=True, name="request").start()
        except RuntimeError as error:
            raise Busy("no more threads can be started", hint="try again in a moment") from error
        self.count += 1
        self._under_way.add(deadline)
        try:
            return await future
        except Cancelled as error:
            raise Busy("the server is ending") from error
        finally:
            self._under_way.discard(deadline)
            deadline.cancelled = True  # no effect on a finished request

    def end(self) -> None:
        """Cancel the running requests."""
        self._ended = True
        for deadline in list(self._under_way):
            deadline.cancelled = True


def problem(error: UserError) -> dict[str, Any]:
    """An error as the API returns it."""
    return {"error": error.what, "where": error.where, "hint": error.hint}


class Service:
    """Answers the requests to use a store's models."""

    def __init__(self, store: MlflowStore, limits: Limits) -> None:
        self.limits = limits
        self.models, self.uploads, self.cache = Models(store, limits), Uploads(limits), PieceCache(limits)

    def generate(self, request: GenerateRequest, deadline: Deadline, begun: Begun | None = None) -> Generated:
        """`begun` is called with the model and the seed, and returns the callback for the sequences so far."""
        served = self.models.open(request.model)
        told: list[str] = []
        asked = self.uploads.given(served.bundle, request, deadline, told)
        asked |= {name: v for name, v in request.settings.model_dump().items() if v is not None}
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        made: Generation = served.generate(asked, seed, deadline, begun(served, seed) if begun else None)
        generated = answer(served.opened, made, self.cache)
        generated.warnings[:0] = told
        return generated

    def predict(self, request: PredictRequest, deadline: Deadline) -> Answered:
        served, items, doubts = self._items(request)
        answers = served.predict(items, deadline)
        return Answered(**_about(served, doubts), answers=answers)

    def explain(self, request: ExplainRequest, deadline: Deadline) -> ExplainedAnswers:
        served, items, doubts = self._items(request)
        found = [Explained(**one.as_dict()) for one in served.explain(items, request.best, deadline)]
        return ExplainedAnswers(**_about(served, doubts), explanations=found)

    def score(self, request: ScoreRequest, deadline: Deadline) -> ScoredTexts:
        served, doubts = self._opened(request.model, len(request.texts), "texts"), Doubts()
        scores = [
            Likelihood(
                nats_per_token=one.nats_per_token, bits_per_token=one.bits_per_token, perplexity=one.perplexity,
                unknown=one.unknown, tokens=one.tokens, nats=one.nats.tolist(),
            )
            for one in served.score(request.texts, deadline, doubts)
        ]  # fmt: skip
        return ScoredTexts(**_about(served, doubts), unit=served.bundle.encoding.unit, scores=scores)

    def _items(self, request: PredictRequest | ExplainRequest) -> tuple[Served, list[Any], Doubts]:
        """The model of a request, its inputs converted for the model, and the warnings about them."""
        served, doubts = self._opened(request.model, len(request.inputs), "inputs"), Doubts()
        given = enumerate(request.inputs)
        return served, [item(served.bundle, one, f"inputs[{n}]", self.limits, doubts) for n, one in given], doubts

    def _opened(self, model: str, count: int, what: str) -> Served:
        served = self.models.open(model)
        if count > self.limits.inputs:
            raise UserError(f"{count:,} {what}; at most {self.limits.inputs:,} are allowed", where=what)
        return served


def _about(served: Served, doubts: Doubts) -> dict[str, Any]:
    return {"model": served.ref.name, "version": served.ref.version, "warnings": doubts.lines()}


async def events(
    work: Work, generate: Callable[[Begun], Generated], deadline: Deadline
) -> AsyncIterator[tuple[str, Any]]:
    """The events of a request to `generate`. A request that can't be started raises before the first event."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[str, Any] | None]()

    def tell(kind: str, data: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(queue.put_nowait, (kind, data))

    def begun(served: Served, seed: int) -> Watch:
        start = {"model": served.ref.name, "version": served.ref.version, "seed": seed}
        shown = Shown(served.bundle.encoding, lambda piece: tell("piece", piece))

        def watch(sequences: Any) -> None:
            nonlocal start
            if start:
                tell("started", start)
            start = {}
            shown(sequences)

        return watch

    task = asyncio.ensure_future(work.carry_out(deadline, lambda: generate(begun)))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (event := await queue.get()) is not None:
            yield event
        yield "done", task.result().model_dump()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # an error was raised above
            await task


async def written(first: tuple[str, Any], events: AsyncIterator[tuple[str, Any]]) -> AsyncIterator[bytes]:
    """Events encoded as server-sent events. An error after the first event is sent as a `problem` event."""
    try:
        yield _event(*first)
        async for event in events:
            yield _event(*event)
            await asyncio.sleep(0)  # lets the disconnection of the client be noticed
    except UserError as error:
        yield _event("problem", problem(error))
    except Exception:
        log.exception("a stream failed")
        yield _event("problem", {"error": "internal server error", "where": None, "hint": "see the server's log"})
    finally:
        await events.aclose()  # type: ignore[attr-defined]


def _event(kind: str, data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode("ascii")
