"""What the server refuses, with the HTTP status it says so with; and how much it takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from components.bounds import MAX_INPUTS
from components.errors import UserError

ANY_INPUT = "an input is a text, a list of words or of lists of numbers, a recording or a series"


class Refusal(UserError):
    """A request that isn't carried out. A plain UserError is one too: 400."""

    status: ClassVar[int] = 400


class NotFound(Refusal):
    status = 404


class TooLarge(Refusal):
    status = 413


class Busy(Refusal):
    """Too much is asked for at once, or a model can't be had just now: the same request may do later."""

    status = 503


class Late(Refusal):
    """The request took longer than a request may."""

    status = 504


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may cost."""

    body_bytes: int = 8 << 20
    values: int = 1 << 20  # in a body: lists of more keep the server from answering others while they are read
    body_seconds: float = 20.0  # to send the body
    header_seconds: float = 10.0  # to send a request up to its body
    read_seconds: float = 30.0  # in which something of an answer has to be read
    unread_bytes: int = 256 << 20  # of all answers
    connections: int = 768  # at once
    connections_of_address: int = 256
    requests: int = 256  # at once
    sequences: int = 1024  # of one model, waiting and being drawn
    tokens: int = 65_536  # of one request: count × (prompt + max_length)
    inputs: int = MAX_INPUTS  # to be answered in one request
    upload_bytes: int = 4 << 20  # a music or wav file
    readers: int = 2  # processes that read what was sent, at once
    readers_waiting: int = 8  # requests whose file waits for one of them
    reader_bytes: int = 160 << 20  # of memory, beside the 40 MB that a reader has from the start
    reader_seconds: float = 20.0  # of processor time for one file
    seconds: float = 120.0  # of one request
    models: int = 4  # held in memory, and as many again for as long as requests that use them last
    kept: int = 64  # requests whose pieces can still be fetched as files
    audio_seconds: float = 900.0  # of a piece that is played


def mistake(errors: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """The first of the mistakes that pydantic found in a body. An input may be of several kinds, and pydantic tells
    what keeps it from being each of them: what is told is the mistake of the kind that it comes closest to."""
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
