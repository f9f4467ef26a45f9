"""The web page and the JSON beside it, as a FastAPI application."""

import asyncio
from pathlib import Path
from typing import Any, Optional

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from regattn_allennlp import visualization
from regattn_allennlp.server.guard import Guard
from regattn_allennlp.server.loaded_models import LoadedModels, RequestError
from regattn_allennlp.server.schema import Archives, AttentionAnswer, AttentionRequest, Problem
from regattn_allennlp.version import VERSION

STATIC = Path(__file__).parent / "static"
VISUALIZATION = Path(visualization.__file__).parent
FILES = {
    path.name: path
    for path in (
        STATIC / "icon.svg",
        STATIC / "page.css",
        STATIC / "page.js",
        VISUALIZATION / "heat_map.css",
        VISUALIZATION / "heat_map.js",
    )
}

# A character is at most 12 bytes in JSON ("\ud83d\ude00"), and there are two sentences; the rest is for the values.
BYTES_FOR_A_CHARACTER = 2 * 12
BYTES_FOR_VALUES = 2**16

# Smaller answers fit into a packet or two as they are.
BYTES_TO_COMPRESS = 2000

RIGHT_REQUEST = (
    'A request is JSON with the header "Content-Type: application/json", such as '
    '{"premise": "A dog sleeps.", "hypothesis": "An animal sleeps."}, '
    'with or without "regularization": {"name of an archive": {"gamma": 0.5}}.'
)

# Nginx's status for a client that went before it was answered. No one sees it.
CLIENT_CLOSED_REQUEST = 499


def create_application(models: LoadedModels, host_names: Optional[set[str]]) -> FastAPI:
    """
    # Parameters

    models : `LoadedModels`
    host_names : `Optional[set[str]]`
        See `Guard`.
    """
    application = FastAPI(
        title="regattn_allennlp: attention side by side",
        description="Label probabilities and attention weights of the archives that the server was started with.",
        version=VERSION,
        # FastAPI's own pages of documentation load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        exception_handlers={
            StarletteHTTPException: _http_problem,
            RequestValidationError: _validation_problem,
            RequestError: _request_problem,
            Exception: _unexpected_problem,
        },
    )
    # Nothing that is sent is secret: its length may tell of it. The lowest level is the one that is not waited for.
    application.add_middleware(GZipMiddleware, minimum_size=BYTES_TO_COMPRESS, compresslevel=1)
    application.add_middleware(
        Guard,
        max_body_bytes=BYTES_FOR_A_CHARACTER * models.max_characters + BYTES_FOR_VALUES,
        host_names=host_names,
    )

    # The models serve one request at a time, in the order of arrival. All others wait here, not in threads.
    turn = asyncio.Lock()

    @application.get(
        "/api/archives", summary="What is loaded", responses=_problems({400: "The Host header is foreign"})
    )
    async def archives() -> Archives:
        return Archives(archives=models.archives(), max_characters=models.max_characters, max_tokens=models.max_tokens)

    @application.post(
        "/api/attention",
        summary="Labels and attention weights for a pair of sentences",
        response_model=AttentionAnswer,
        responses=_problems(
            {
                400: "The body is no JSON, or the Host header is foreign",
                408: "The body did not come in time",
                413: "The body is too large",
                422: "The JSON is not a request that can be answered",
                500: "The server failed",
                503: "Too many connections are open",
            }
        ),
    )
    async def attention(body: AttentionRequest, request: Request) -> Any:
        models.check(body)
        async with turn:
            # Who moves a slider leaves many requests behind.
            if await request.is_disconnected():
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            return await run_in_threadpool(models.predict, body)

    @application.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @application.api_route("/files/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(name: str) -> FileResponse:
        if name not in FILES:
            raise HTTPException(404)
        return FileResponse(FILES[name])

    return application


def _problems(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": text} for status, text in descriptions.items()}


def _problem(status: int, message: str, headers: Any = None) -> JSONResponse:
    # What the request had of surrogates is no character that could be sent.
    writable = message.encode("utf-8", "backslashreplace").decode()
    return JSONResponse(Problem(error=writable).model_dump(), status_code=status, headers=headers)


async def _http_problem(request: Request, error: Any) -> JSONResponse:
    messages = {
        404: f'There is nothing at "{request.url.path}"; there are /, /api/archives, /api/attention, /openapi.json.',
        405: f'"{request.url.path}" does not take {request.method}; '
        f"it takes {(error.headers or {}).get('Allow', 'another method')}.",
        400: f"The body cannot be read. {RIGHT_REQUEST}",
    }
    return _problem(error.status_code, messages.get(error.status_code, error.detail), error.headers)


async def _validation_problem(request: Request, error: Any) -> JSONResponse:
    first, *others = error.errors()
    if first["type"] == "json_invalid":
        return _problem(400, f"The body is no JSON: {first['ctx']['error']}. {RIGHT_REQUEST}")
    found = "; ".join(
        f'"{".".join(map(str, details["loc"][1:]))}": {details["msg"]}' if details["loc"][1:] else details["msg"]
        for details in (first, *others)
    )
    return _problem(422, f"{found}. {RIGHT_REQUEST}")


async def _request_problem(request: Request, error: Any) -> JSONResponse:
    return _problem(422, str(error))


async def _unexpected_problem(request: Request, error: Exception) -> JSONResponse:
    return _problem(500, "The server failed at this request; where it was started stands why.")
