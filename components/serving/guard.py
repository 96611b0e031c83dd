"""Middleware that checks the host, size and speed of a request before it is parsed, cancels the work of clients that
disconnect, and adds security headers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from components.serving.problems import Limits

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # JSON's escape of a surrogate
HELD_BODIES = 16  # bodies of the maximum size in memory at once
MOST_DRAINED = 4  # times the maximum size: how much of a refused body is read and discarded


class Guard:
    """ASGI middleware. `hosts`: the accepted values of the Host header; None: all. This prevents DNS rebinding, where
    another site reaches a server on this machine under its own host name."""

    def __init__(self, app: Any, limits: Limits, hosts: Iterable[str] | None) -> None:
        self.app, self.limits = app, limits
        self.hosts = None if hosts is None else {host.lower() for host in hosts}
        self._held = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        complete = False  # whether the response is complete

        async def guarded(message: Any) -> None:
            nonlocal complete
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        headers = dict(scope["headers"])
        if self.hosts is not None and _host(headers.get(b"host", b"")) not in self.hosts:
            await _refuse(
                guarded,
                421,
                "this server isn't reachable under this host name",
                hint="set it with --host of `reprise api`",
            )
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > MOST_DRAINED * self.limits.body_bytes:
            await _refuse(guarded, 413, self._too_large)
            return
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._answer(scope, b"", receive, guarded, lambda: complete)
            return
        if self._held > HELD_BODIES * self.limits.body_bytes:
            await _refuse(guarded, 503, "too much data is being received", hint="try again in a moment")
            return
        body = bytearray()
        try:
            refused = await self._read(receive, body)
            if refused is None:
                await self._answer(scope, bytes(body), receive, guarded, lambda: complete)
            elif refused:
                await _refuse(guarded, *refused)
        finally:
            self._held -= len(body)

    async def _answer(self, scope: Any, body: bytes, receive: Any, send: Any, complete: Callable[[], bool]) -> None:
        """Run the application; it is cancelled if the client disconnects before the end of the response."""
        leaving = asyncio.ensure_future(_disconnected(receive))
        answering = asyncio.ensure_future(self.app(scope, _replay(body, leaving), send))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done() or complete():
                await answering
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _read(self, receive: Any, body: bytearray) -> tuple[int, str] | tuple[()] | None:
        """Fill `body`. Returns None, the status and reason of a refusal, or () if the client has disconnected."""
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return ()
                    part = message.get("body", b"")
                    self._held += len(part)
                    body += part
                    if len(body) > self.limits.body_bytes:
                        await _drain(receive, message, MOST_DRAINED * self.limits.body_bytes)
                        return 413, self._too_large
                    if not message.get("more_body"):
                        if body.count(b",") > self.limits.values:
                            return 413, f"the body has more than {self.limits.values:,} values"
                        return None if _is_text(body) else (422, "contains half of a surrogate pair, not valid text")
        except TimeoutError:
            return 408, f"the body took longer than {self.limits.body_seconds:g} s"

    @property
    def _too_large(self) -> str:
        return f"the body has more than {self.limits.body_bytes:,} bytes"


async def _drain(receive: Any, message: Any, most: int) -> None:
    """Discard the rest of a body: most clients read a response only after they have sent everything."""
    passed = 0
    while message.get("more_body") and passed < most:
        message = await receive()
        passed += len(message.get("body", b""))


def _is_text(body: bytearray) -> bool:
    """Whether a JSON body has no escape of a lone surrogate. The application refuses bodies that aren't JSON."""
    if not SURROGATE.search(body):
        return True
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except (ValueError, RecursionError):
        pass
    return True


def _replay(body: bytes, leaving: asyncio.Future[None]) -> Any:
    """A `receive` that gives the body, then waits for the client to disconnect."""
    sent = False

    async def again() -> Any:
        nonlocal sent
        if sent:
            await asyncio.shield(leaving)
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _disconnected(receive: Any) -> None:
    """Return when the client has disconnected. Anything else it sends is discarded."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _host(value: bytes) -> str:
    """The name in a Host header, without its port."""
    name = value.decode("latin-1").lower()
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


async def _refuse(send: Any, status: int, error: str, hint: str | None = None) -> None:
    body = json.dumps({"error": error, "where": "request", "hint": hint}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # closed: the unread rest of the body would be taken for the next request
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
