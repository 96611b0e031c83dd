"""A client that sends or reads slowly keeps nobody else from being answered, and is let go."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from small_models import serving
from test_carrying import until

from components.serving.connections import configured
from components.serving.guard import Guard
from components.serving.problems import Limits

LIMITS = Limits(header_seconds=0.4, body_seconds=0.4, read_seconds=0.4, connections_of_address=5, connections=50)
LARGE = 8 << 20


async def application(scope, receive, send) -> None:
    """Answers /health at once, /large with much, and /work when it is cancelled."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/work":
        WORKING.append(path)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            CANCELLED.append(path)
            raise
    content = b"x" * (LARGE if path == "/large" else 1)
    headers = [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


WORKING: list[str] = []
CANCELLED: list[str] = []


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(Guard(application, LIMITS, hosts=None), LIMITS) as found:
        yield found


def connect(address: str, sent: bytes) -> socket.socket:
    host, _, port = address.removeprefix("http://").rpartition(":")
    one = socket.create_connection((host, int(port)), timeout=10)
    one.sendall(sent)
    return one


def ended(one: socket.socket) -> bytes:
    """What is read until the server ends the connection."""
    found = b""
    try:
        while block := one.recv(1 << 16):
            found += block
    except ConnectionResetError:
        pass
    one.close()
    return found


def status(address: str, one: socket.socket | None = None) -> int:
    """Of an honest request, over a connection that is there or a new one."""
    one = one or connect(address, b"")
    one.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    found = b""
    while not found.endswith(b"\r\n\r\nx"):
        block = one.recv(1 << 16)
        assert block, found
        found += block
    return int(found.split()[1])


HALF = b"GET /health HTTP/1.1\r\nhost: x\r\nx-more: "


def test_a_header_sent_by_halves_is_not_waited_for(address: str) -> None:
    half, silent = connect(address, HALF), connect(address, b"")
    trickling = connect(address, HALF)
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.05):
            try:
                trickling.sendall(b"x")
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    assert all(b"408" in ended(one) for one in (half, silent))
    assert b"408" in (ended(trickling) or b"408")  # what it still sends may cost it the answer
    stop.set()
    thread.join()


def test_the_second_header_of_a_connection_is_not_waited_for_either(address: str) -> None:
    again = connect(address, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"200" in again.recv(12)
    again.sendall(HALF)
    assert b"408" in ended(again)


def test_a_body_that_nobody_needs_is_not_waited_for(address: str) -> None:
    one = connect(address, b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert b"200" in ended(one)


def test_half_sent_headers_keep_no_honest_request_from_being_answered(address: str) -> None:
    halves = []
    for number in range(20):
        halves.append(connect(address, HALF))
        if number % 4 == 3:
            assert status(address) == 200
    kept = connect(address, b"")
    assert [status(address, kept) for _ in range(3)] == [200] * 3
    for one in halves:
        ended(one)


def test_where_all_of_an_address_are_at_work_a_further_connection_is_refused(address: str) -> None:
    WORKING.clear()
    CANCELLED.clear()
    ask = b"POST /work HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    asked = [connect(address, ask) for _ in range(LIMITS.connections_of_address)]
    until(lambda: len(WORKING) == len(asked))
    refused = ended(connect(address, b""))
    assert b"503" in refused
    assert b"retry-after" in refused
    for one in asked:
        one.close()
    until(lambda: len(CANCELLED) == len(asked))  # when nobody waits any more, nobody works
    assert status(address) == 200


def test_an_answer_that_nobody_reads_is_given_up(address: str) -> None:
    one = connect(address, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
    time.sleep(1.0)
    assert len(ended(one)) < LARGE


def test_an_answer_that_is_read_slowly_arrives(address: str) -> None:
    one, got = connect(address, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n"), 0
    while block := one.recv(1 << 20):
        got += len(block)
        time.sleep(0.05)
        if got > LARGE:
            break
    one.close()
    assert got > LARGE


def test_the_connections_leave_room_for_other_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    for files, most in ((1024, 640), (400, 16), (300, 1), (1 << 20, 768), (resource.RLIM_INFINITY, 768)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert configured(application).http.keywords["most"] == most
