"""The API over the registered models, and the playground's page. `build` makes it; `serve` runs it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import sys
from collections.abc import Iterable
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
from components.serving.models import Models
from components.serving.pieces import FILES, PieceCache
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
from components.serving.uploads import Uploads
from components.tracking.mlflow_store import MlflowStore
from components.tracking.settings import Settings
from components.use.opening import PATTERN

HERE = FilePath(__file__).parent

REFUSALS = {
    400: "what is asked for makes no sense for this model",
    404: "no such model or piece",
    413: "more than is taken",
    422: "not a request of this form",
    503: "too much is asked for at once, or the model can't be had now",
    504: "took longer than a request may",
}
STREAM = """Events, each with JSON as its data:
`started` (model, version, seed), `piece` (what has been drawn since: {number, text} to be added, {number, all} in the
place of what came before, or {number, length_steps, notes: [[part, start, duration, pitch], …]}; a note that is told
again has become longer), at the end `done` (as POST /generate answers) or `problem` (why there is none)."""

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
        return json.dumps(content, allow_nan=False).encode("ascii")  # half a surrogate pair can't break it


def build(store: MlflowStore, limits: Limits | None = None, hosts: Iterable[str] | None = None) -> FastAPI:
    """The application. `hosts`: the names it answers to, None: all."""
    limits = limits or Limits()
    app = FastAPI(
        title="Reprise",
        summary="Registered recurrent networks: generate, predict, score, stream.",
        version=version("reprise"),
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        responses={422: {"model": Problem, "description": REFUSALS[422]}},
        default_response_class=Json,
    )
    models, uploads, cache, work = Models(store, limits), Uploads(limits), PieceCache(limits), carrying.Work(limits)
    app.state.models, app.state.work = models, work
    app.add_middleware(Guard, limits=limits, hosts=hosts)
    _answer_problems(app)

    def said(*statuses: int) -> dict[int | str, dict[str, Any]]:
        return {status: {"model": Problem, "description": REFUSALS[status]} for status in statuses}

    @app.get("/health", tags=["look"])
    async def health() -> Health:
        """Whether the server is there, and what it has at hand."""
        return Json(  # type: ignore[return-value]
            Health(status="ok", version=app.version, models_in_memory=models.in_memory, requests=work.count)
        )

    @app.get("/models", tags=["look"], responses=said(503))
    async def all_models() -> ModelList:
        """The registered models with their versions and aliases."""
        found = await work.carry_out(Deadline(limits.seconds), models.all)
        return Json(ModelList(models=found))  # type: ignore[return-value]

    @app.get("/models/{model}", tags=["look"], responses=said(404, 503, 504))
    async def model(
        model: Annotated[
            str, Path(pattern=PATTERN, examples=["chorales@champion"], description="NAME or NAME@VERSION")
        ],
    ) -> Description:
        """What a version does and what it can be asked for."""
        return Json(await work.carry_out(Deadline(limits.seconds), lambda: models.describe(model)))  # type: ignore

    @app.post("/generate", tags=["use"], responses=said(400, 404, 413, 503, 504))
    async def generate(request: GenerateRequest) -> Generated:
        """New texts or pieces. Model, version, settings and seed of the answer make them again."""
        deadline = Deadline(limits.seconds)
        made = await work.carry_out(deadline, lambda: carrying.generate(models, uploads, cache, request, deadline))
        return Json(made)  # type: ignore[return-value]

    @app.post(
        "/generate/stream",
        tags=["use"],
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": EVENT}}, "description": STREAM}}
        | said(400, 404, 413, 503, 504),
    )
    async def stream(request: GenerateRequest) -> StreamingResponse:
        """As POST /generate, told as it is drawn: server-sent events."""
        events = carrying.events(work, models, uploads, cache, request, Deadline(limits.seconds))
        first = await anext(events)  # what can't be begun is refused with its status
        return StreamingResponse(carrying.written(first, events), media_type="text/event-stream")

    @app.post("/predict", tags=["use"], responses=said(400, 404, 413, 503, 504))
    async def predict(request: PredictRequest) -> Answered:
        """A model's answers to texts, symbols, frames or recordings."""
        deadline = Deadline(limits.seconds)
        return Json(await work.carry_out(deadline, lambda: carrying.predict(models, request, deadline)))  # type: ignore

    @app.post("/explain", tags=["use"], responses=said(400, 404, 413, 503, 504))
    async def explain(request: ExplainRequest) -> ExplainedAnswers:
        """Why a model answers as it does: choices, what each token or step contributes, attention, times."""
        deadline = Deadline(limits.seconds)
        return Json(await work.carry_out(deadline, lambda: carrying.explain(models, request, deadline)))  # type: ignore

    @app.post("/score", tags=["use"], responses=said(400, 404, 413, 503, 504))
    async def score(request: ScoreRequest) -> ScoredTexts:
        """How likely texts are to a language model, token by token."""
        deadline = Deadline(limits.seconds)
        return Json(await work.carry_out(deadline, lambda: carrying.score(models, request, deadline)))  # type: ignore

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
        """A generated piece as MIDI, as sound, or as a page to listen to, or as a drawing (svg); kept for the last
        requests only."""
        number, _, kind = file.partition(".")
        deadline = Deadline(limits.seconds)

        def made() -> bytes:
            with turn(cache.rendering, deadline):
                return cache.file(key, int(number), kind)

        content = await work.carry_out(deadline, made)
        # the page brings a policy of its own; here it gets no origin, so nothing of this server is within its reach
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
    """Say where the server is, and run it until Ctrl-C.

    Raises:
        UserError: the port can't be had.
    """
    import uvicorn

    app = build(MlflowStore(settings), hosts={*LOOPBACK, host} if host in LOOPBACK else None)
    config = configured(app, host=host, port=port)
    listening = _listening(host, port)
    shown = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"playground  {shown}/\nAPI         {shown}/openapi.json\nCtrl-C stops it", flush=True)
    # the thread that draws needs Python's lock between its calls, however many requests are being read
    sys.setswitchinterval(0.001)
    server = uvicorn.Server(config)
    leave = server.handle_exit

    def end(*signal: Any) -> None:
        app.state.work.end()  # those who wait are told, within tenths of a second
        leave(*signal)

    server.handle_exit = end  # type: ignore[method-assign]
    with contextlib.suppress(KeyboardInterrupt), listening:
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections, so that a port that is taken is told before anything else."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"can't listen there: {error}", where=f"{host[:80]}:{port}", hint="see --host") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)  # who comes before the server is ready waits
    except (OSError, OverflowError) as error:
        listening.close()
        hint = "is the port taken? --port chooses another"
        raise UserError(f"can't listen there: {error}", where=f"{host[:80]}:{port}", hint=hint) from None
    return listening


def _answer_problems(app: FastAPI) -> None:
    """One shape for whatever is refused: {error, where, hint}."""

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
        # the traceback is in the server's log; what was sent isn't
        problem = {"error": "the server failed", "where": request.url.path[:200], "hint": "its log says more"}
        return Json(problem, status_code=500)


@cache
def _page() -> tuple[str, str]:
    """The playground as one page, and the policy that lets it run its own script and nothing else."""
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
