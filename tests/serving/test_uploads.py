"""Music that is sent is read by few processes, each with little memory, and by none when nobody waits for it."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from components.errors import UserError
from components.serving.batching import Cancelled, Deadline
from components.serving.problems import Busy, Limits
from components.serving.requests import GenerateRequest, Upload
from components.serving.uploads import Uploads

BUNDLE: Any = SimpleNamespace(
    grid=lambda where: 12,
    onwards=lambda score: {"score": score},
    encoding=SimpleNamespace(doubts=lambda score: [f"{score.title}: its tempo isn't kept"]),
)


def sent(name: str, text: str) -> GenerateRequest:
    return GenerateRequest(model="m", start=Upload(name=name, base64=base64.b64encode(text.encode()).decode()))


LARGE = sent("large.krn", "**kern\n*M4/4\n" + "16cc\n" * 30_000 + "*-\n")
SMALL = sent("small.abc", "X:1\nM:4/4\nL:1/8\nK:C\n" + "CDEF GABc|" * 4)


def readers() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if "components.datasets.files.sandbox" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


@pytest.mark.slow
def test_uploads_share_their_readers_and_too_many_are_told_to_come_again() -> None:
    uploads = Uploads(Limits(readers=1, readers_waiting=1, reader_seconds=0.4))
    most, over = [0], threading.Event()

    def count() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], len(readers()))

    def ask(_: int) -> str:
        try:
            return str(uploads.given(BUNDLE, LARGE, Deadline(60.0)))
        except UserError as error:
            return "busy" if isinstance(error, Busy) else error.what

    counting = threading.Thread(target=count)
    counting.start()
    with ThreadPoolExecutor(3) as pool:
        found = sorted(pool.map(ask, range(3)))
    over.set()
    counting.join()
    assert found == ["busy"] + ["no piece could be read: takes longer than 0.4 s to read"] * 2
    assert most == [1]
    assert readers() == []
    assert "score" in uploads.given(BUNDLE, SMALL, Deadline(60.0)), "the next is read as ever"


@pytest.mark.slow
def test_a_file_that_needs_much_memory_is_refused() -> None:
    uploads = Uploads(Limits(reader_bytes=60 << 20))
    with pytest.raises(UserError, match=r"needs more than 60 MB of memory|made the reading process crash"):
        uploads.given(BUNDLE, LARGE, Deadline(60.0))


@pytest.mark.slow
def test_a_reading_ends_when_nobody_waits_for_it() -> None:
    uploads, deadline = Uploads(Limits()), Deadline(60.0)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(uploads.given, BUNDLE, LARGE, deadline)
        while not readers():
            time.sleep(0.01)
        deadline.cancelled = True
        with pytest.raises(Cancelled):
            reading.result(10)
    assert readers() == []


@pytest.mark.slow
def test_what_is_not_read_of_a_file_is_told() -> None:
    head, told = "X:1\nT:One\nM:4/4\nL:1/4\nK:Es\n", []
    request = sent("two.abc", f"{head}CDEF|CDE|CDEF|CDEF|CDEF|\n\n{head.replace('One', 'Two')}CDEF|\n")
    assert Uploads(Limits()).given(BUNDLE, request, Deadline(60.0), told)["score"].title == "One"
    assert any("bar lines aren't where bars of the metre end (4 of 5)" in line for line in told)
    assert "2 × key that can't be read: no sharps or flats (kept)" in told
    assert told[-2:] == ["2 pieces; the first is used: 'One'", "One: its tempo isn't kept"]
