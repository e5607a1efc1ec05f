"""The endpoints."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from blemish import __version__
from blemish.serving.errors import RequestError
from blemish.serving.middleware import ServiceMiddleware
from blemish.serving.schemas import BatchAnswer, ErrorAnswer, FailureAnswer, ModelAnswer, ScoreAnswer
from blemish.serving.service import Service
from blemish.serving.uploads import is_form

T = TypeVar("T")

CLIENT_GONE = 499  # the client has left; the status is for the metrics
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "The request is malformed.",
        401: "The API key is missing or wrong.",
        403: "The Host or Origin is not this server's.",
        404: "There is no such model.",
        408: "The body came too slowly.",
        413: "The body is too large.",
        422: "No image could be read.",
        429: "The queue is full; Retry-After says when to come again.",
        503: "The server is shutting down or took too long.",
    }.items()
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {
    "schema": {
        "type": "object",
        "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
}
PAGE = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}

ModelName = Annotated[str | None, Query(description="A model's name; may be left out where only one is served.")]


def make_app(service: Service) -> FastAPI:
    """The application: endpoints, errors as {"error": sentence}, security headers, metrics."""
    app = FastAPI(
        title="Blemish",
        version=__version__,
        description="Scores images: how anomalous they are, where, and at which false-alarm rate.",
        docs_url=None,  # both pages load scripts from other servers
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.service = service
    _add_scoring(app, service)
    _add_operations(app, service)
    _add_page(app)
    _add_errors(app)
    app.add_middleware(ServiceMiddleware, service=service)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.service.close()


def _key_check(service: Service) -> Any:
    """A dependency that checks the API key before the body is read."""
    bearer = HTTPBearer(auto_error=False, description="The API key, where the server has one.")

    async def check(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if service.api_key is None:
            return
        key = credentials.credentials if credentials else ""
        if not secrets.compare_digest(key.encode(), service.api_key.encode()):
            raise RequestError(
                401,
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return Depends(check)


def _add_scoring(app: FastAPI, service: Service) -> None:
    checks = [_key_check(service)]

    @app.post(
        "/v1/score",
        dependencies=checks,
        responses=ERROR_RESPONSES | {422: ERROR_RESPONSES[422] | {"model": ErrorAnswer | BatchAnswer}},
        response_model=ScoreAnswer | BatchAnswer,
        openapi_extra=_body({"image/*": BINARY, "multipart/form-data": FORM}),
    )
    async def score(request: Request, model: ModelName = None) -> Response:
        """Score one image (the body is the file: one answer) or many (multipart/form-data: a list of answers).

        In a batch an image that cannot be read gets an entry with its error and the others go on.
        """
        answers = await service.score(request, service.model(model))
        if not is_form(request):
            (answer,) = answers
            return _json(_unless_failed(answer))
        failed = all(isinstance(answer, FailureAnswer) for answer in answers)
        return _json(BatchAnswer(images=answers), status=422 if failed else 200)

    @app.post(
        "/v1/heatmap",
        dependencies=checks,
        responses=ERROR_RESPONSES,
        response_class=PngResponse,
        openapi_extra=_body({"image/*": BINARY, "multipart/form-data": FORM}),
    )
    async def draw(request: Request, model: ModelName = None) -> Response:
        """Draw the heatmap of one image: a PNG with outlined regions and colour bar, the scores in its headers."""
        name = service.model(model)
        heatmap = _unless_failed(await service.draw(request, name))
        scored = heatmap.scored
        facts = {
            "Blemish-Model": quote(name),  # a header is ASCII
            "Blemish-Verdict": scored.verdict,
            "Blemish-Score": repr(scored.score),
            "Blemish-P-Value": repr(scored.p_value),
            "Blemish-Threshold": repr(service.models[name].calibration.threshold),
        }
        return PngResponse(heatmap.png, headers=facts)

    @app.get("/v1/models", dependencies=checks, responses={401: ERROR_RESPONSES[401], 403: ERROR_RESPONSES[403]})
    async def models() -> list[ModelAnswer]:
        """What is served."""
        return [
            ModelAnswer(
                name=name,
                fingerprint=detector.fingerprint,
                size=detector.metadata.size,
                supervision=detector.metadata.supervision,
                threshold=detector.calibration.threshold,
                false_alarm_rate=detector.calibration.false_alarm_rate,
                held_rate=detector.calibration.effective_rate,
                calibration_images=detector.calibration.images,
                ignored=(detector.metadata.ignored or {}).get("share") or 0.0,
            )
            for name, detector in service.models.items()
        ]


class PngResponse(Response):
    """A picture."""

    media_type = "image/png"


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"description": "Shutting down, or every worker is stuck."}})
    async def readiness() -> Response:
        """Whether to send work here."""
        if service.draining:
            return JSONResponse({"status": "shutting down"}, status_code=503)
        if service.stuck:
            return JSONResponse({"status": "every worker is stuck"}, status_code=503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", dependencies=[_key_check(service)], response_class=Response)
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _add_page(app: FastAPI) -> None:
    folder = files("blemish.serving") / "page"
    for path, media_type in PAGE.items():
        content = (folder / (path.lstrip("/") or "page.html")).read_bytes()
        page = partial(_static_file, content, media_type)
        app.add_api_route(path, page, include_in_schema=False, response_class=Response)


async def _static_file(content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        sentences = {
            404: f"there is nothing at {request.url.path}; see /openapi.json",
            405: f"{request.url.path} does not take {request.method}; see /openapi.json",
        }
        return JSONResponse(
            {"error": sentences.get(error.status_code, error.detail)},
            status_code=error.status_code,
            headers=error.headers,
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return RequestError(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}").response()

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "the server failed on this request; its log says why"}, status_code=500)


def _unless_failed(answer: T | FailureAnswer) -> T:
    """The answer to a request for one image. Raises RequestError where it could not be read."""
    if isinstance(answer, FailureAnswer):
        raise RequestError(422, answer.error)
    return answer


def _json(answer: ScoreAnswer | BatchAnswer, *, status: int = 200) -> Response:
    return Response(answer.model_dump_json(), status_code=status, media_type="application/json")


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}
