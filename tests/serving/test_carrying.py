"""Requests under way: their threads end with them, and a stream that nobody reads leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from types import SimpleNamespace

import pytest

from components.errors import UserError
from components.serving import carrying
from components.serving.batching import Deadline
from components.serving.problems import Busy, Limits


def threads() -> int:
    return sum(thread.name == "request" for thread in threading.enumerate())


def drawing(work: carrying.Work, deadline: Deadline):
    """The events of a generation that shows one piece, and then takes until nobody wants it any more."""

    def generate(begun) -> None:
        shown = begun(SimpleNamespace(ref=SimpleNamespace(name="m", version="1"), bundle=BUNDLE), 0)
        shown([])
        while True:
            deadline.check()
            time.sleep(0.01)

    return carrying.events(work, generate, deadline)


BUNDLE = SimpleNamespace(encoding=None)


@pytest.mark.slow
def test_a_stream_that_is_left_leaves_no_task_and_no_thread() -> None:
    async def leave(how: str) -> None:
        deadline = Deadline(60.0)
        events = drawing(carrying.Work(Limits()), deadline)
        assert (await anext(events))[0] == "started"
        if how == "closed":
            await events.aclose()
        elif how == "cancelled":
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.02)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        del events
        gc.collect()
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert deadline.cancelled

    told = []

    async def all_ways() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        for how in ("closed", "cancelled", "forgotten"):
            await leave(how)

    asyncio.run(all_ways())
    gc.collect()
    assert told == []
    until(lambda: not threads())


def test_a_stream_that_fails_says_why() -> None:
    def refuse(*_: object) -> None:
        raise UserError("no")

    async def ask() -> None:
        with pytest.raises(UserError, match="no"):
            await anext(carrying.events(carrying.Work(Limits()), refuse, Deadline(60.0)))

    asyncio.run(ask())


def test_threads_are_as_many_as_the_requests_under_way_and_end_with_them() -> None:
    over = threading.Event()

    async def ask() -> None:
        work = carrying.Work(Limits(requests=7))
        asked = [asyncio.ensure_future(work.carry_out(Deadline(60.0), over.wait)) for _ in range(20)]
        while work.count < 7:
            await asyncio.sleep(0.01)
        assert threads() == 7
        over.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(one, Busy) for one in found) == 13

    asyncio.run(ask())
    until(lambda: not threads())


def until(holds) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
