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

T = TypeVar("T")
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


def generate(
    models: Models,
    uploads: Uploads,
    cache: PieceCache,
    request: GenerateRequest,
    deadline: Deadline,
    begun: Callable[[Served, int], Watch] | None = None,
) -> Generated:
    """Run a request to generate. `begun(model, seed)` returns the callback for the sequences so far."""
    served = models.open(request.model)
    asked = uploads.given(served.bundle, request, deadline)
    asked |= {name: v for name, v in request.settings.model_dump().items() if v is not None}
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    made: Generation = served.generate(asked, seed, deadline, begun(served, seed) if begun else None)
    return answer(served.opened, made, cache)


def predict(models: Models, request: PredictRequest, deadline: Deadline) -> Answered:
    served, items, doubts = _items(models, request)
    answers = served.predict(items, deadline)
    return Answered(model=served.ref.name, version=served.ref.version, answers=answers, warnings=doubts.lines())


def explain(models: Models, request: ExplainRequest, deadline: Deadline) -> ExplainedAnswers:
    served, items, doubts = _items(models, request)
    found = [Explained(**one.as_dict()) for one in served.explain(items, request.best, deadline)]
    about = {"model": served.ref.name, "version": served.ref.version, "warnings": doubts.lines()}
    return ExplainedAnswers(**about, explanations=found)


def _items(models: Models, request: PredictRequest | ExplainRequest) -> tuple[Served, list[Any], Doubts]:
    """The model of a request, its inputs converted for the model, and the warnings about them."""
    served = models.open(request.model)
    if len(request.inputs) > models.limits.inputs:
        raise UserError(f"{len(request.inputs):,} inputs; at most {models.limits.inputs:,} are allowed", where="inputs")
    doubts, limits = Doubts(), models.limits
    items = [item(served.bundle, one, f"inputs[{n}]", limits, doubts) for n, one in enumerate(request.inputs)]
    return served, items, doubts


def score(models: Models, request: ScoreRequest, deadline: Deadline) -> ScoredTexts:
    served = models.open(request.model)
    if len(request.texts) > models.limits.inputs:
        raise UserError(f"{len(request.texts):,} texts; at most {models.limits.inputs:,} are allowed", where="texts")
    doubts = Doubts()
    scores = [
        Likelihood(
            nats_per_token=one.nats_per_token, bits_per_token=one.bits_per_token, perplexity=one.perplexity,
            unknown=one.unknown, tokens=one.tokens, nats=one.nats.tolist(),
        )
        for one in served.score(request.texts, deadline, doubts)
    ]  # fmt: skip
    about = {"model": served.ref.name, "version": served.ref.version, "warnings": doubts.lines()}
    return ScoredTexts(**about, unit=served.bundle.encoding.unit, scores=scores)


async def events(
    work: Work, models: Models, uploads: Uploads, cache: PieceCache, request: GenerateRequest, deadline: Deadline
) -> AsyncIterator[tuple[str, Any]]:
    """The events of a request. A request that can't be started raises before the first event."""
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

    def run() -> Generated:
        return generate(models, uploads, cache, request, deadline, begun)

    task = asyncio.ensure_future(work.carry_out(deadline, run))
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
