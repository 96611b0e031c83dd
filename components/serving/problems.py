"""The server's errors, with their HTTP statuses, and its limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from components.bounds import MAX_INPUTS
from components.errors import UserError

ANY_INPUT = "an input must be a text, a list of words or of lists of numbers, a recording or a series"


class Refusal(UserError):
    """A refused request. A plain UserError also gives status 400."""

    status: ClassVar[int] = 400


class NotFound(Refusal):
    status = 404


class TooLarge(Refusal):
    status = 413


class Busy(Refusal):
    """The server is at a limit or can't load the model now; the same request may succeed later."""

    status = 503


class Late(Refusal):
    """The request took longer than `Limits.seconds`."""

    status = 504


@dataclass(frozen=True)
class Limits:
    """Limits of one request and of all requests together."""

    body_bytes: int = 8 << 20
    values: int = 1 << 20  # in a body: parsing more would block the event loop
    body_seconds: float = 20.0  # to receive the body
    header_seconds: float = 10.0  # to receive the headers
    read_seconds: float = 30.0  # in which the client must read part of a response
    unread_bytes: int = 256 << 20  # of all responses
    connections: int = 768  # at once
    connections_of_address: int = 256
    requests: int = 256  # at once
    sequences: int = 1024  # of one model, waiting and being sampled
    tokens: int = 65_536  # of one request: count × (prompt + max_length)
    inputs: int = MAX_INPUTS  # in one request
    upload_bytes: int = 4 << 20  # a music or wav file
    readers: int = 2  # subprocesses that read uploaded files, at once
    readers_waiting: int = 8  # requests in the queue for them
    reader_bytes: int = 160 << 20  # of memory, in addition to the 40 MB of a new reader
    reader_seconds: float = 20.0  # of CPU time for one file
    seconds: float = 120.0  # of one request
    models: int = 4  # in the cache, and as many again that running requests still use
    kept: int = 64  # requests whose pieces can be fetched as files
    audio_seconds: float = 900.0  # of a piece rendered as audio


def mistake(errors: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """The first of pydantic's errors in a body. For an input, a union of types, pydantic lists the errors of every
    type: the first one of the type with the fewest is returned."""
    first, more = errors[0], len(errors) - 1
    item = first["loc"][:3]
    if first["loc"][:2] == ("body", "inputs") and len(first["loc"]) > 3:
        kinds: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for error in errors:
            if error["loc"][:3] == item:
                kinds[error["loc"][3]].append(error)
        more = len(errors) - sum(map(len, kinds.values()))
        near = [one for one in kinds.values() if len(one[0]["loc"]) > 4 or not one[0]["type"].endswith("_type")]
        what, place = ANY_INPUT, item
        if near:
            nearest = min(near, key=lambda one: (len(one), -len(one[0]["loc"])))[0]
            what, place = nearest["msg"], (*item, *nearest["loc"][4:])
    else:
        what, place = first["msg"], first["loc"]
    where = ".".join(map(str, place))[:200]
    return {"error": what, "where": where, "hint": f"and {more} more" if more else None}
