"""The web page and the JSON beside it, as a FastAPI application."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar

import matplotlib
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, JSONResponse
from pydantic import create_model
from starlette.exceptions import HTTPException as StarletteHTTPException

from regattn_allennlp import visualization
from regattn_allennlp.server.guard import Guard
from regattn_allennlp.server.loaded_models import LoadedModels
from regattn_allennlp.server.schema import Archives, AttentionAnswer, Examples, ExamplesQuery, Picture, Problem
from regattn_allennlp.server.tasks import RequestError
from regattn_allennlp.version import VERSION
from regattn_allennlp.visualization.attention_figure import attention_figure

T = TypeVar("T")

STATIC = Path(__file__).parent / "static"
VISUALIZATION = Path(visualization.__file__).parent
FILES = {
    path.name: path
    for path in (*STATIC.iterdir(), VISUALIZATION / "heat_map.css", VISUALIZATION / "heat_map.js")
    if path.suffix in (".css", ".js", ".svg")
}

# A character is at most 12 bytes in JSON ("\ud83d\ude00"). The rest is for the values.
BYTES_FOR_A_CHARACTER = 12
BYTES_FOR_VALUES = 2**16

# Smaller answers fit into a packet or two as they are.
BYTES_TO_COMPRESS = 2000

# Who moves a slider waits for no more than a batch of examples.
SECONDS_FOR_A_BATCH = 0.1
DOTS_PER_INCH = 150
# matplotlib refuses to draw more in a row or column.
MAX_PIXELS = 2**16

# Nginx's status for a client that went before it was answered. No one sees it.
CLIENT_CLOSED_REQUEST = 499


def create_application(models: LoadedModels, host_names: Optional[set[str]]) -> FastAPI:
    """
    # Parameters

    models : `LoadedModels`
    host_names : `Optional[set[str]]`
        See `Guard`.
    """
    task = models.task
    request_model: Any = task.request
    # What is drawn of an answer is asked beside the request itself.
    picture_model: Any = create_model("PictureRequest", __base__=(request_model, Picture))
    right_request = (
        'A request is JSON with the header "Content-Type: application/json", such as '
        f'{task.example_request}, with or without "regularization": {{"name of an archive": {{"gamma": 0.5}}}}.'
    )
    # The models serve one request at a time, in the order of arrival. All others wait here, not in threads.
    turn = asyncio.Lock()

    async def predict_examples() -> None:
        size, predicted = 1, True
        while predicted:
            async with turn:
                started = time.monotonic()
                predicted = await run_in_threadpool(models.predict_examples, size) > 0
            size = max(1, min(2 * size, int(size * SECONDS_FOR_A_BATCH / (time.monotonic() - started))))

    @asynccontextmanager
    async def predicting_examples(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(predict_examples())
        yield
        task.cancel()
        await asyncio.wait([task])

    application = FastAPI(
        lifespan=predicting_examples,
        title="regattn_allennlp: attention side by side",
        description=f"What the archives that the server was started with attend to, in the task {task.name}.",
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
    application.state.right_request = right_request
    # Nothing that is sent is secret: its length may tell of it. The lowest level is the one that is not waited for.
    application.add_middleware(GZipMiddleware, minimum_size=BYTES_TO_COMPRESS, compresslevel=1)
    application.add_middleware(
        Guard,
        max_body_bytes=len(task.fields) * BYTES_FOR_A_CHARACTER * models.max_characters + BYTES_FOR_VALUES,
        host_names=host_names,
    )

    async def answered(request: Request, work: Callable[[], T]) -> T:
        async with turn:
            # Who moves a slider leaves many requests behind.
            if await request.is_disconnected():
                raise HTTPException(CLIENT_CLOSED_REQUEST, "The client is gone.")
            return await run_in_threadpool(work)

    @application.get(
        "/api/archives", summary="What is loaded", responses=_problems({400: "The Host header is foreign"})
    )
    async def archives() -> Archives:
        return models.archives()

    @application.get(
        "/api/examples",
        summary="Examples to try",
        responses=_problems({400: "The Host header is foreign", 422: "The query is none"}),
    )
    def examples(query: Annotated[ExamplesQuery, Query()]) -> Examples:
        return models.examples.find(query)

    predicting = _problems(
        {
            400: "The body is no JSON, or the Host header is foreign",
            408: "The body did not come in time",
            413: "The body is too large",
            422: "The JSON is not a request that can be answered",
            500: "The server failed",
            503: "Too many connections are open",
        }
    )

    @application.post(
        "/api/attention",
        summary="What the models answer, and what they attend to",
        response_model=AttentionAnswer[task.answer],  # type: ignore[name-defined]
        responses=predicting,
    )
    async def attention(body: request_model, request: Request) -> Any:
        models.check(body)
        answer = await answered(request, lambda: models.predict(body))
        # It is valid: it was made of the models that check it.
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    @application.post(
        "/api/picture",
        summary="The maps of an answer as a picture",
        response_class=Response,
        responses={200: {"content": {"image/svg+xml": {}, "image/png": {}}}, **predicting},
    )
    async def picture(body: picture_model, request: Request) -> Response:
        models.check(body)
        content = await answered(request, lambda: _draw(*models.figure_maps(models.predict(body), body), body.format))
        return Response(content, media_type="image/svg+xml" if body.format == "svg" else "image/png")

    @application.get(
        "/api/image/{image_id:path}",
        summary="An image by its id",
        response_class=FileResponse,
        responses=_problems({404: "There is no picture of it", 422: "The id is none"}),
    )
    async def image(image_id: str) -> FileResponse:
        path = models.picture_of(image_id)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path)

    @application.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @application.api_route("/files/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(name: str) -> FileResponse:
        if name not in FILES:
            raise HTTPException(404)
        return FileResponse(FILES[name])

    return application


def _draw(titles: list[str], maps: list[Any], suffix: str) -> bytes:
    content = BytesIO()
    # Text that stays text, to select and to search.
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure = attention_figure(titles, maps)
        if suffix == "png" and max(figure.get_size_inches()) * DOTS_PER_INCH >= MAX_PIXELS:
            raise RequestError('"format": the picture would be larger than a PNG may be; take svg.')
        figure.savefig(content, format=suffix, dpi=DOTS_PER_INCH)
    return content.getvalue()


def _problems(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": text} for status, text in descriptions.items()}


def _problem(status: int, message: str, headers: Any = None, field: Optional[str] = None) -> JSONResponse:
    # What the request had of surrogates is no character that could be sent.
    writable = message.encode("utf-8", "backslashreplace").decode()
    problem = Problem(error=writable, field=field).model_dump(exclude_none=True)
    return JSONResponse(problem, status_code=status, headers=headers)


async def _http_problem(request: Request, error: Any) -> JSONResponse:
    messages = {
        404: f'There is nothing at "{request.url.path}"; there are /, /api/archives, /api/attention, /openapi.json.',
        405: f'"{request.url.path}" does not take {request.method}; '
        f"it takes {(error.headers or {}).get('Allow', 'another method')}.",
        400: f"The body cannot be read. {request.app.state.right_request}",
    }
    return _problem(error.status_code, messages.get(error.status_code, error.detail), error.headers)


async def _validation_problem(request: Request, error: Any) -> JSONResponse:
    first, *others = error.errors()
    right_request = request.app.state.right_request
    if first["type"] == "json_invalid":
        return _problem(400, f"The body is no JSON: {first['ctx']['error']}. {right_request}")
    found = "; ".join(
        f'"{".".join(map(str, details["loc"][1:]))}": {details["msg"]}' if details["loc"][1:] else details["msg"]
        for details in (first, *others)
    )
    return _problem(422, f"{found}. {right_request}" if first["loc"][0] == "body" else f"{found}.")


async def _request_problem(request: Request, error: Any) -> JSONResponse:
    return _problem(422, str(error), field=error.field)


async def _unexpected_problem(request: Request, error: Exception) -> JSONResponse:
    return _problem(500, "The server failed at this request; where it was started stands why.")
