"""The HTTP API of the registered models, and the playground. `build` creates the application; `serve` runs it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from components.errors import UserError
from components.serving import carrying
from components.serving.batching import Deadline, turn
from components.serving.connections import BACKLOG, configured
from components.serving.guard import LOOPBACK, Guard
from components.serving.pieces import FILES
from components.serving.problems import Limits, Refusal, mistake
from components.serving.requests import (
    Answered,
    Description,
    ExplainedAnswers,
    ExplainRequest,
    Generated,
    GenerateRequest,
    Health,
    PredictRequest,
    Problem,
    ScoredTexts,
    ScoreRequest,
)  # fmt: skip
from components.serving.requests import Models as ModelList
from components.tracking.mlflow_store import MlflowStore
from components.tracking.settings import Settings
from components.use.opening import PATTERN

HERE = FilePath(__file__).parent

REFUSALS = {
    400: "the request doesn't fit this model",
    404: "no such model or piece",
    413: "the request is too large",
    422: "the request doesn't match the schema",
    503: "too many requests, or the model can't be loaded at the moment",
    504: "the request took too long",
}
STREAM = """Server-sent events with JSON data: `started` (model, version, seed); `piece` (what is new: {number, text} to
append, {number, all} to replace the earlier text, or {number, length_steps, notes: [[part, start, duration, pitch],
…]}, where a repeated note has become longer); at the end `done` (the response of POST /generate) or `problem` (the
error)."""

EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["started", "piece", "done", "problem"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}


class Json(JSONResponse):
    """A model, or a problem, as JSON."""

    def render(self, content: Any) -> bytes:
        if isinstance(content, BaseModel):
            return content.model_dump_json().encode()
        return json.dumps(content, allow_nan=False).encode("ascii")  # a lone surrogate can't break it


def build(store: MlflowStore, limits: Limits | None = None, hosts: Iterable[str] | None = None) -> FastAPI:
    """The application. `hosts`: the accepted values of the Host header; None: all."""
    limits = limits or Limits()
    app = FastAPI(
        title="Reprise",
        summary="Registered recurrent networks: generate, predict, score, stream.",
        version=version("reprise"),
        docs_url=None,  # these pages load scripts from other servers
        redoc_url=None,
        responses={422: {"model": Problem, "description": REFUSALS[422]}},
        default_response_class=Json,
    )
    work, service = carrying.Work(limits), carrying.Service(store, limits)
    models, cache = service.models, service.cache
    app.state.models, app.state.work = models, work
    app.add_middleware(Guard, limits=limits, hosts=hosts)
    _answer_problems(app)

    def said(*statuses: int) -> dict[int | str, dict[str, Any]]:
        return {status: {"model": Problem, "description": REFUSALS[status]} for status in statuses}

    async def carried(function: Callable[[Deadline], BaseModel]) -> Any:
        """The result of the function as JSON, within the time limit."""
        deadline = Deadline(limits.seconds)
        return Json(await work.carry_out(deadline, lambda: function(deadline)))

    @app.get("/health", tags=["look"])
    async def health() -> Health:
        """The status of the server and the models it has loaded."""
        return Json(  # type: ignore[return-value]
            Health(status="ok", version=app.version, models_in_memory=models.in_memory, requests=work.count)
        )

    @app.get("/models", tags=["look"], responses=said(503))
    async def all_models() -> ModelList:
        """The registered models with their versions and aliases."""
        return await carried(lambda _: ModelList(models=models.all()))

    @app.get("/models/{model}", tags=["look"], responses=said(404, 503, 504))
    async def model(
        model: Annotated[
            str, Path(pattern=PATTERN, examples=["chorales@champion"], description="NAME or NAME@VERSION")
        ],
    ) -> Description:
        """A version's task, inputs, outputs and settings."""
        return await carried(lambda _: models.describe(model))

    @app.post("/generate", tags=["use"], responses=said(400, 404, 413, 503, 504))
    async def generate(request: GenerateRequest) -> Generated:
        """Generate texts or pieces. The model, version, settings and seed in the response reproduce them."""
        return await carried(lambda deadline: service.generate(request, deadline))

    @app.post(
        "/generate/stream",
        tags=["use"],
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": EVENT}}, "description": STREAM}}
        | said(400, 404, 413, 503, 504),
    )
    async def stream(request: GenerateRequest) -> StreamingResponse:
        """As POST /generate, streamed as server-sent events."""
        deadline = Deadline(limits.seconds)
        events = carrying.events(work, lambda begun: service.generate(request, deadline, begun), deadline)
        first = await anext(events)  # a request that can't be started is refused with an HTTP status
        return StreamingResponse(carrying.written(first, events), media_type="text/event-stream")

    @app.post("/predict", tags=["use"], responses=said(400, 404, 413, 503, 504))
    async def predict(request: PredictRequest) -> Answered:
        """Predict from texts, symbols, frames, recordings or series."""
        return await carried(lambda deadline: service.predict(request, deadline))

    @app.post("/explain", tags=["use"], responses=said(400, 404, 413, 503, 504))
    async def explain(request: ExplainRequest) -> ExplainedAnswers:
        """Predict and explain: choices, the contribution of each token or step, attention, times."""
        return await carried(lambda deadline: service.explain(request, deadline))

    @app.post("/score", tags=["use"], responses=said(400, 404, 413, 503, 504))
    async def score(request: ScoreRequest) -> ScoredTexts:
        """The likelihood of texts to a language model, token by token."""
        return await carried(lambda deadline: service.score(request, deadline))

    @app.get(
        "/generated/{key}/{file}",
        tags=["use"],
        response_class=Response,
        responses={200: {"content": {kind: {} for kind in FILES.values()}}} | said(400, 404, 503, 504),
    )
    async def generated(
        key: Annotated[str, Path(pattern="^[0-9a-f]{24}$")],
        file: Annotated[str, Path(pattern=r"^[1-9][0-9]?\.(mid|wav|html|svg)$", examples=["1.mid"])],
    ) -> Response:
        """A generated piece as MIDI, audio, a page with a player, or a drawing (svg); only of the last requests."""
        number, _, kind = file.partition(".")
        deadline = Deadline(limits.seconds)

        def made() -> bytes:
            with turn(cache.rendering, deadline):
                return cache.file(key, int(number), kind)

        content = await work.carry_out(deadline, made)
        # the page has its own policy; the sandbox gives it no origin, so that it can't access this server
        policies = {
            "html": "sandbox allow-scripts allow-downloads; frame-ancestors 'self'",
            "svg": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
        }
        headers = {"content-security-policy": policies[kind]} if kind in policies else {}
        return Response(content, media_type=FILES[kind], headers=headers)

    @app.get("/", include_in_schema=False)
    async def playground() -> Response:
        page, policy = _page()
        return Response(page, media_type="text/html", headers={"content-security-policy": policy})

    return app


def serve(settings: Settings, host: str, port: int) -> None:
    """Print the server's URLs and run it until Ctrl-C.

    Raises:
        UserError: the port isn't available.
    """
    import uvicorn

    app = build(MlflowStore(settings), hosts={*LOOPBACK, host} if host in LOOPBACK else None)
    config = configured(app, host=host, port=port)
    listening = _listening(host, port)
    shown = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"playground  {shown}/\nAPI         {shown}/openapi.json\nCtrl-C stops it", flush=True)
    # so that the sampling threads get Python's lock between their calls, however many requests are being parsed
    sys.setswitchinterval(0.001)
    server = uvicorn.Server(config)
    leave = server.handle_exit

    def end(*signal: Any) -> None:
        app.state.work.end()  # waiting clients get their error within tenths of a second
        leave(*signal)

    server.handle_exit = end  # type: ignore[method-assign]
    with contextlib.suppress(KeyboardInterrupt), listening:
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket, opened first so that a port in use is reported before anything else."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(
            f"can't listen on this address: {error}", where=f"{host[:80]}:{port}", hint="change --host"
        ) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)  # clients that connect before the server is ready wait
    except (OSError, OverflowError) as error:
        listening.close()
        hint = "is the port in use? Choose another with --port"
        raise UserError(f"can't listen on this address: {error}", where=f"{host[:80]}:{port}", hint=hint) from None
    return listening


def _answer_problems(app: FastAPI) -> None:
    """Return all errors in one format: {error, where, hint}."""

    @app.exception_handler(UserError)
    async def refused(request: Request, error: UserError) -> Response:
        status = error.status if isinstance(error, Refusal) else 400
        headers = {"retry-after": "1"} if status == 503 else None
        return Json(carrying.problem(error), status_code=status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def misformed(request: Request, error: RequestValidationError) -> Response:
        return Json(mistake(error.errors()), status_code=422)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        hint = "see /openapi.json" if error.status_code in (404, 405) else None
        problem = {"error": str(error.detail), "where": "request", "hint": hint}
        return Json(problem, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        # the server's log has the traceback, but not the content of the request
        problem = {"error": "internal server error", "where": request.url.path[:200], "hint": "see the server's log"}
        return Json(problem, status_code=500)


@cache
def _page() -> tuple[str, str]:
    """The playground as one page, and the content security policy that allows only its own script and styles."""
    parts = {name: (HERE / f"playground.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    parts["js"] += "".join((HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("explained", "again"))
    page = re.sub("@@(css|js)@@", lambda place: parts[place.group(1)], parts["html"])

    def own(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    policy = (
        f"default-src 'none'; script-src {own(parts['js'])}; style-src {own(parts['css'])}; connect-src 'self'; "
        "frame-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy
