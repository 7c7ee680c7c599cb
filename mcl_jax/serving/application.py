"""The endpoints of the service and their OpenAPI description."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

import mcl_jax
from mcl_jax.errors import DataError, UserError
from mcl_jax.serving.answers import (
    CompareAnswer,
    EmbedAnswer,
    EnrollAnswer,
    ErrorAnswer,
    HealthAnswer,
    IdentifyAnswer,
)
from mcl_jax.serving.guard import App, Guard, refused
from mcl_jax.serving.limits import RequestError
from mcl_jax.serving.page import landing_page
from mcl_jax.serving.service import Service
from mcl_jax.serving.uploads import FILES, FORM, Upload, read_upload

_PLAIN = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus's text format
_FAR = (
    "false-accept rate of one comparison, which the gallery must have a threshold for; its lowest if absent"
)

Far = Annotated[float | None, Query(gt=0, lt=1, description=_FAR)]
Threshold = Annotated[
    float | None, Query(ge=0, allow_inf_nan=False, description="accept distances up to this, instead of far")
]
Top = Annotated[int, Query(ge=1, le=100, description="people to name at most")]


def make_application(service: Service, key: str | None) -> App:
    """Returns the ASGI application of a service, which is closed when the application ends.

    Args:
        service: answers.
        key: which requests must have; None to answer this machine alone, without one.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="mcl_jax",
        summary="Gait recognition: embed, compare, identify and enrol walks.",
        description="Nobody should be recognised without their consent: [responsible use](/responsible-use).",
        version=mcl_jax.__version__,
        docs_url=None,  # its page would fetch scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_pages(app, service)
    _add_work(app, service)
    _add_errors(app)
    return Guard(app, limits=service.limits, key=key, metrics=service.metrics)


def _add_pages(app: FastAPI, service: Service) -> None:
    terms = resources.files("mcl_jax.serving").joinpath("responsible_use.md").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(landing_page(app.openapi()))

    @app.get("/responsible-use", response_class=PlainTextResponse)
    async def responsible_use() -> PlainTextResponse:
        """What this service must not be used for, and what its answers are worth."""
        return PlainTextResponse(terms)

    @app.get("/health")
    async def health() -> HealthAnswer:
        """Whether the service answers."""
        return HealthAnswer(status="ok")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Figures for Prometheus: requests, seconds, batches, walks that wait."""
        return Response(service.metrics.text(), headers={"Content-Type": _PLAIN})


def _add_work(app: FastAPI, service: Service) -> None:
    decoding = asyncio.Semaphore(service.limits.decoding)

    async def upload(request: Request, *settings: str) -> Upload:
        for name in request.query_params.keys() - set(settings):
            raise DataError(
                f"{name[:100]!r}: is no setting of this address; it has {', '.join(settings) or 'none'}"
            )
        return await read_upload(request, service.limits, decoding)

    @app.post("/embed", **_described(EmbedAnswer, *FILES))
    async def embed(request: Request) -> Response:
        """Embeds walks: float32 [parts, channels] each."""
        sent = await upload(request)
        sent.check_fields()
        return _json(await service.embed(sent.walks))

    @app.post("/compare", **_described(CompareAnswer, *FILES))
    async def compare(request: Request, far: Far = None) -> Response:
        """Gives the distance between two walks, and says whether one person made both."""
        sent = await upload(request, "far")
        sent.check_fields()
        return _json(await service.compare(sent.walks, far))

    @app.post("/identify", **_described(IdentifyAnswer, *FILES))
    async def identify(
        request: Request, far: Far = None, threshold: Threshold = None, top: Top = 5
    ) -> Response:
        """Names the people of the gallery whose walks are nearest to each walk."""
        if far is not None and threshold is not None:
            raise DataError("far and threshold: give one of them")
        sent = await upload(request, "far", "threshold", "top")
        sent.check_fields()
        return _json(await service.identify(sent.walks, far=far, threshold=threshold, top=top))

    @app.post("/enroll", **_described(EnrollAnswer, name="the person's name", add="true for more walks"))
    async def enroll(request: Request) -> Response:
        """Adds a person who agreed, or more walks of a person with add=true, to the gallery."""
        sent = await upload(request)
        sent.check_fields("name", "add")
        if "name" not in sent.fields:
            raise DataError("name: is missing; send a form with the fields name and walk")
        if (add := sent.fields.get("add", "false").lower()) not in ("true", "false"):
            raise DataError(f"add: is {add[:100]!r}; must be true or false")
        return _json(await service.enroll(sent.walks, sent.fields["name"], add=add == "true"))


def _described(answer: type[BaseModel], *kinds: str, **fields: str) -> dict[str, Any]:
    """Returns the description of an endpoint that takes walks.

    Args:
        answer: its form.
        kinds: content types of a body that is one file; a form is always taken.
        fields: name → meaning of the other fields of the form.
    """
    file = {
        "type": "string",
        "format": "binary",
        "description": "silhouettes as .npy, .npz, pkl or zip of PNG",
    }
    properties: dict[str, Any] = {"walk": {"type": "array", "items": file}}
    properties |= {name: {"type": "string", "description": meaning} for name, meaning in fields.items()}
    required = ["walk", *(name for name in fields if name == "name")]
    content: dict[str, Any] = {
        FORM: {"schema": {"type": "object", "properties": properties, "required": required}},
        **{kind: {"schema": file} for kind in kinds},
    }
    refusals = {code: {"model": ErrorAnswer} for code in (400, 401, 403, 408, 413, 415, 422, 503)}
    return {
        "response_class": JSONResponse,
        "responses": {200: {"model": answer}, **refusals},
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _add_errors(app: FastAPI) -> None:
    """Makes every error one line."""

    async def mistake(request: Request, error: Exception) -> Response:
        return refused(error if isinstance(error, RequestError) else RequestError(422, str(error)))

    async def invalid(request: Request, error: Exception) -> Response:
        first = error.errors()[0]  # type: ignore[attr-defined]  # one of FastAPI's own
        return refused(RequestError(422, f"{first['loc'][-1]}: {first['msg']}"))

    async def http(request: Request, error: Exception) -> Response:
        status, detail = error.status_code, error.detail  # type: ignore[attr-defined]  # Starlette's
        return refused(RequestError(status, f"{request.method} {request.url.path[:200]}: {detail}"))

    async def gone(request: Request, error: Exception) -> Response:
        return refused(RequestError(400, "the client left before the end of the body"))

    async def fault(request: Request, error: Exception) -> Response:
        return refused(RequestError(500, "an internal error; the service's log has it"))

    app.add_exception_handler(UserError, mistake)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, fault)
