"""Limits on connections: their number, the time to send a request, and the speed of reading a response.

uvicorn limits none of these: it waits forever for the rest of a header, and for a client that doesn't read.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from functools import partial
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from components.serving.problems import Limits

LOOK_SECONDS = 1.0  # between two checks of a connection
BACKLOG = 128  # connections accepted at once, before any is counted; fewer than the limit of an address
OTHER_FILES = 256  # file descriptors for everything but connections
KERNEL_BYTES = 256 << 10  # the socket's send buffer: small, so that slow reading shows here
PROGRESS_BYTES = 16 << 10  # of a response that must be read in `Limits.read_seconds`


class Connection(H11Protocol):
    """A connection with timeouts.

    If there are too many, of one address or in all, the one that has kept the server waiting longest is closed: a
    normal client sends its request at once, a slowloris attack doesn't. If none keeps the server waiting, the new one
    is refused. `most`: the limit for all addresses.
    """

    def __init__(self, *arguments: Any, limits: Limits, most: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits, self.most = limits, most
        self.ended = False
        self._begun, self._since = True, self.loop.time()  # whether a request is due, and since when
        self._slow: tuple[int, float] | None = None  # unread bytes of a response, and when they were counted
        self._looking: asyncio.TimerHandle | None = None

    @property
    def waiting_since(self) -> float | None:
        """When the server began to wait for the client; None while it runs a request."""
        cycle = self.cycle
        return self._since if cycle is None or cycle.response_complete or cycle.more_body else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if (own := transport.get_extra_info("socket")) is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        self._look()
        others = [one for one in self.connections if one is not self and not one.ended]
        neighbours = [one for one in others if one.client and self.client and one.client[0] == self.client[0]]
        if len(neighbours) >= self.limits.connections_of_address:
            self._room_among(neighbours)
        elif len(others) >= self.most:
            self._room_among(others)

    def connection_lost(self, exc: Exception | None) -> None:
        self._looking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._begun and self.waiting_since is not None:
            self._begun, self._since = True, self.loop.time()
        super().data_received(data)

    def on_response_complete(self) -> None:
        # the rest of the body is due, though it is discarded; a next request isn't
        self._begun, self._since = self.conn.their_state is h11.SEND_BODY, self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        unread = [one for one in self.connections if one.unread]
        if sum(one.unread for one in unread) > self.limits.unread_bytes:
            min(unread, key=lambda one: one._since).end()

    @property
    def unread(self) -> int:
        """Bytes of responses that the client hasn't read yet."""
        return 0 if self.ended else self.transport.get_write_buffer_size()

    def end(self) -> None:
        """Close it at once, discarding unsent data."""
        self.ended = True
        self.transport.abort()

    def _room_among(self, others: list[Connection]) -> None:
        waiting = [one for one in others if one.waiting_since is not None]
        if waiting:
            min(waiting, key=lambda one: one._since).end()
        else:
            self._refuse(b"503 Service Unavailable", b"too many connections")

    def _refuse(self, status: bytes, why: bytes) -> None:
        head = (
            b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nretry-after: 1\r\nconnection: close\r\n"
        )
        self.transport.write(head % (status, len(why)) + b"\r\n" + why)
        self.transport.close()

    def _look(self) -> None:
        """Close the connection after a timeout; called every LOOK_SECONDS."""
        now, limits = self.loop.time(), self.limits
        self._looking = self.loop.call_later(min(LOOK_SECONDS, limits.header_seconds / 4), self._look)
        if not self._takes(now):
            self.end()
        elif self.transport.is_closing() or not self._begun or self.waiting_since is None:
            pass  # the application has its own time limits
        elif now - self._since > limits.header_seconds and self.conn.their_state is h11.IDLE:
            self._refuse(b"408 Request Timeout", b"the request took too long to come")
        elif now - self._since > limits.header_seconds + limits.body_seconds:
            self.end()

    def _takes(self, now: float) -> bool:
        """Whether the client reads its response fast enough; checked while nothing is added to it."""
        unread = self.unread
        if not unread or not (self.flow.write_paused or self.waiting_since is not None):
            self._slow = None
        elif self._slow is None or unread <= self._slow[0] - PROGRESS_BYTES:
            self._slow = unread, now
        return self._slow is None or now - self._slow[1] <= self.limits.read_seconds


def configured(app: Any, limits: Limits | None = None, **options: Any) -> uvicorn.Config:
    """uvicorn's configuration for the application, with bounded connections."""
    limits = limits or Limits()
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = limits.connections if files < 0 else max(1, min(limits.connections, files - OTHER_FILES - BACKLOG))
    return uvicorn.Config(
        app,
        http=partial(Connection, limits=limits, most=most),  # type: ignore[arg-type]
        ws="none",
        backlog=BACKLOG,
        log_level="error",  # warnings about malformed requests would let any client fill the log
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,  # sampling threads are daemons and end with the process
        **options,
    )
